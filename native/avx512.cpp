// AVX-512BW without a population count: carry-save adders of ternary logic (Harley and Seal) over 8 words at a time,
// so that only every eighth word is counted, by nibbles.
#include <immintrin.h>

#include <type_traits>

#include "kernels.h"

namespace edgebin {
namespace {

#include "avx512_floats.inl"
constexpr int DEEP = 2;
constexpr int FLUSH = 31;  // counts of up to 8 that a byte can hold

template <int P>
struct Patch {
    const uint32_t* in;
    Patch(const Slice&, const uint32_t* in) : in(in) {}
};

// a + b + c = sum + 2 carry, bit by bit
inline __m512i carry(__m512i a, __m512i b, __m512i c) { return _mm512_ternarylogic_epi32(a, b, c, 0xE8); }
inline __m512i parity(__m512i a, __m512i b, __m512i c) { return _mm512_ternarylogic_epi32(a, b, c, 0x96); }

template <int TIMES>
inline __m512i bytes(__m512i v) {  // TIMES the ones in every byte
    constexpr int t = TIMES;
    const __m512i table = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, t, t, 2 * t, t, 2 * t, 2 * t, 3 * t, t, 2 * t, 2 * t, 3 * t, 2 * t, 3 * t, 3 * t, 4 * t));
    const __m512i low = _mm512_set1_epi8(15);
    return _mm512_add_epi8(_mm512_shuffle_epi8(table, _mm512_and_si512(v, low)),
                           _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(v, 4), low)));
}

inline __m512i words(__m512i bytes) {  // sums of the 4 bytes of each word
    return _mm512_madd_epi16(_mm512_maddubs_epi16(bytes, _mm512_set1_epi8(1)), _mm512_set1_epi16(1));
}

inline __m512i count_one(const uint32_t* in, const Slice& s, const uint32_t* weights) {
    auto differing = [&](int k) {
        return _mm512_xor_si512(_mm512_set1_epi32(int(in[s.offset[k]])), _mm512_loadu_si512(weights + k * GROUP));
    };
    const __m512i zero = _mm512_setzero_si512();
    __m512i ones = zero, twos = zero, fours = zero, eights = zero, total = _mm512_set1_epi32(s.start);
    int k = 0;
    for (; k < s.words % 8; k++) {  // up to 7 fit in ones, twos and fours
        const __m512i a = differing(k), b = _mm512_and_si512(ones, a), c = _mm512_and_si512(twos, b);
        ones = _mm512_xor_si512(ones, a), twos = _mm512_xor_si512(twos, b), fours = _mm512_xor_si512(fours, c);
    }
    for (int held = 0; k < s.words; k += 8) {
        const __m512i a = differing(k), b = differing(k + 1), c = differing(k + 2), d = differing(k + 3);
        const __m512i e = differing(k + 4), f = differing(k + 5), g = differing(k + 6), h = differing(k + 7);
        const __m512i two_a = carry(ones, a, b);
        ones = parity(ones, a, b);
        const __m512i two_b = carry(ones, c, d);
        ones = parity(ones, c, d);
        const __m512i four_a = carry(twos, two_a, two_b);
        twos = parity(twos, two_a, two_b);
        const __m512i two_c = carry(ones, e, f);
        ones = parity(ones, e, f);
        const __m512i two_d = carry(ones, g, h);
        ones = parity(ones, g, h);
        const __m512i four_b = carry(twos, two_c, two_d);
        twos = parity(twos, two_c, two_d);
        eights = _mm512_add_epi8(eights, bytes<1>(carry(fours, four_a, four_b)));
        fours = parity(fours, four_a, four_b);
        if (++held == FLUSH) {
            total = _mm512_add_epi32(total, _mm512_slli_epi32(words(eights), 3));
            eights = zero, held = 0;
        }
    }
    const __m512i rest = _mm512_add_epi8(_mm512_add_epi8(bytes<1>(ones), bytes<2>(twos)), bytes<4>(fours));
    total = _mm512_add_epi32(total, words(rest));
    return s.words < 8 ? total : _mm512_add_epi32(total, _mm512_slli_epi32(words(eights), 3));
}

template <int P, int Q>
inline void count(const Patch<P>& patch, const Slice& s, int group, Ints (&counts)[P][Q]) {
    const uint32_t* weights = static_cast<const uint32_t*>(s.weights) + ptrdiff_t(group) * s.words * GROUP;
    for (int q = 0; q < Q; q++, weights += ptrdiff_t(s.words) * GROUP)
        for (int p = 0; p < P; p++) counts[p][q] = count_one(patch.in + p * s.in.dx, s, weights);
}

#include "lanes.inl"
#include "tiles.inl"

}  // namespace

const Path path_avx512 = {"avx512", lanes_size, lanes, binary, real, sum, shortcut};

}  // namespace edgebin
