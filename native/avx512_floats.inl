// 16 floats in one register.
using F = __m512;
inline F load(const float* a) { return _mm512_loadu_ps(a); }
inline void store(float* a, F v) { _mm512_storeu_ps(a, v); }
inline F splat(float v) { return _mm512_set1_ps(v); }
inline F add(F a, F b) { return _mm512_add_ps(a, b); }
inline F mul(F a, F b) { return _mm512_mul_ps(a, b); }
inline F div(F a, F b) { return _mm512_div_ps(a, b); }
inline F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
using Ints = __m512i;
inline Ints take(const int32_t* a) { return _mm512_loadu_si512(a); }
inline void put(int32_t* a, Ints v) { _mm512_storeu_si512(a, v); }
inline F from_ints(Ints v) { return _mm512_cvtepi32_ps(v); }
inline F prelu(F t, F slope) {
    return _mm512_mask_mul_ps(t, _mm512_cmp_ps_mask(t, _mm512_setzero_ps(), _CMP_NGT_UQ), t, slope);
}
inline uint16_t at_least(F t, F least) {
    unsigned bits = _cvtmask16_u32(_mm512_cmp_ps_mask(t, least, _CMP_GE_OQ));
    __asm__("" : "+r"(bits));  // by way of a general register: storing a mask register is slow
    return uint16_t(bits);
}

constexpr int WIDE = 12, REAL_WIDE = 6, REAL_DEEP = 4;
