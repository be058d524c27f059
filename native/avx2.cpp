// AVX2: a table look-up (vpshufb) counts the differing bits of 4 input bits and 4 weight bits of 32 channels. The table
// is chosen by the input's nibble, the index in it is the weights' nibble.
#include <immintrin.h>

#include <type_traits>

#include "kernels.h"

namespace edgebin {
namespace {

struct F {
    __m256 low, high;
};
inline F load(const float* a) { return {_mm256_loadu_ps(a), _mm256_loadu_ps(a + 8)}; }
inline void store(float* a, F v) { _mm256_storeu_ps(a, v.low), _mm256_storeu_ps(a + 8, v.high); }
inline F splat(float v) { return {_mm256_set1_ps(v), _mm256_set1_ps(v)}; }
inline F add(F a, F b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
inline F mul(F a, F b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
inline F div(F a, F b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
inline F fma(F a, F b, F c) { return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)}; }
inline __m256 from_ints8(const int32_t* a) {
    return _mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a)));
}
#include "plain_ints.inl"
inline F from_ints(const Ints& v) { return {from_ints8(v.at), from_ints8(v.at + 8)}; }
inline __m256 prelu8(__m256 t, __m256 slope) {
    return _mm256_blendv_ps(_mm256_mul_ps(t, slope), t, _mm256_cmp_ps(t, _mm256_setzero_ps(), _CMP_GT_OQ));
}
inline F prelu(F t, F slope) { return {prelu8(t.low, slope.low), prelu8(t.high, slope.high)}; }
inline int at_least8(__m256 t, __m256 least) { return _mm256_movemask_ps(_mm256_cmp_ps(t, least, _CMP_GE_OQ)); }
inline uint16_t at_least(F t, F least) { return uint16_t(at_least8(t.low, least.low) | at_least8(t.high, least.high) << 8); }

constexpr int WIDE = 6, DEEP = 4, REAL_WIDE = 3, REAL_DEEP = 2;
constexpr int CHUNK = 7;  // words whose 56 nibbles count at most 224, which fits in a byte

struct Tables {  // [input nibble][weight nibble] -> differing bits
    alignas(64) uint8_t at[256];
    constexpr Tables() : at() {
        for (int i = 0; i < 256; i++)
            for (int d = i >> 4 ^ (i & 15); d; d &= d - 1) at[i]++;
    }
};
constexpr Tables tables;

template <int P>
struct Patch {  // the window of every pixel of a tile, each nibble as the place of its table
    alignas(16) uint8_t places[P][MOST_WORDS * 8];
    Patch(const Slice& s, const uint32_t* in) {
        alignas(16) uint32_t window[MOST_WORDS];
        const __m128i high = _mm_set1_epi8(char(0xF0));
        for (int p = 0; p < P; p++, in += s.in.dx) {
            for (int k = 0; k < s.words; k++) window[k] = in[s.offset[k]];
            for (int k = s.words; k % 4; k++) window[k] = 0;
            for (int k = 0; k < s.words; k += 4) {
                const __m128i v = _mm_load_si128(reinterpret_cast<const __m128i*>(window + k));
                const __m128i first = _mm_and_si128(_mm_slli_epi16(v, 4), high), second = _mm_and_si128(v, high);
                __m128i* out = reinterpret_cast<__m128i*>(places[p] + k * 8);
                _mm_store_si128(out, _mm_unpacklo_epi8(first, second));
                _mm_store_si128(out + 1, _mm_unpackhi_epi8(first, second));
            }
        }
    }
};

// 32 channels are counted at once: weights [pair of groups][words * 8 nibbles][32 bytes], the last pair filled up
size_t nibbles_size(int words, int groups) { return size_t(words) * 8 * ((groups + 1) / 2) * 32; }

void nibbles(const uint32_t* plain, int words, int channels, void* weights) {
    uint8_t* out = static_cast<uint8_t*>(weights);
    for (int o = 0; o < (channels + 31) / 32 * 32; o++)
        for (int n = 0; n < words * 8; n++)
            out[(size_t(o / 32) * words * 8 + n) * 32 + o % 32] =
                o < channels ? uint8_t(plain[size_t(o) * words + n / 8] >> n % 8 * 4 & 15) : 0;
}

template <int P, int R>  // R pairs of groups
inline void count_pairs(const Patch<P>& patch, const Slice& s, int pair, int32_t* counts) {
    alignas(32) int16_t held[P][R][32];
    const int chunks = (s.words + CHUNK - 1) / CHUNK, chunk = (s.words + chunks - 1) / chunks;
    const ptrdiff_t next = ptrdiff_t(s.words) * 8 * 32;
    const uint8_t* weights = static_cast<const uint8_t*>(s.weights) + pair * next;
    for (int k = 0; k < s.words; k += chunk) {
        const int last = (k + chunk < s.words ? k + chunk : s.words) * 8;
        __m256i sums[P][R];
        for (int p = 0; p < P; p++)
            for (int r = 0; r < R; r++) sums[p][r] = _mm256_setzero_si256();
        for (int n = k * 8; n < last; n++) {
            __m256i w[R];
            for (int r = 0; r < R; r++)
                w[r] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + r * next + n * 32));
            for (int p = 0; p < P; p++) {
                const __m256i table = _mm256_broadcastsi128_si256(
                    _mm_load_si128(reinterpret_cast<const __m128i*>(tables.at + patch.places[p][n])));
                for (int r = 0; r < R; r++) sums[p][r] = _mm256_add_epi8(sums[p][r], _mm256_shuffle_epi8(table, w[r]));
            }
        }
        for (int p = 0; p < P; p++)
            for (int r = 0; r < R; r++) {
                __m256i* to = reinterpret_cast<__m256i*>(held[p][r]);
                __m256i low = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(sums[p][r]));
                __m256i high = _mm256_cvtepu8_epi16(_mm256_extracti128_si256(sums[p][r], 1));
                if (k) low = _mm256_add_epi16(low, to[0]), high = _mm256_add_epi16(high, to[1]);
                to[0] = low, to[1] = high;
            }
    }
    const __m256i start = _mm256_set1_epi32(s.start);
    for (int p = 0; p < P; p++)
        for (int i = 0; i < R * 32; i += 8)
            _mm256_storeu_si256(
                reinterpret_cast<__m256i*>(counts + p * R * 32 + i),
                _mm256_add_epi32(start, _mm256_cvtepi16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(held[p][0] + i)))));
}

template <int P, int Q>
inline void count(const Patch<P>& patch, const Slice& s, int group, Ints (&counts)[P][Q]) {
    if constexpr (Q % 2 == 0) {
        count_pairs<P, Q / 2>(patch, s, group / 2, counts[0][0].at);
    } else {  // one group of a pair
        alignas(32) int32_t both[P * 2 * GROUP];
        count_pairs<P, 1>(patch, s, group / 2, both);
        for (int p = 0; p < P; p++) counts[p][0] = take(both + (p * 2 + group % 2) * GROUP);
    }
}

#include "tiles.inl"

}  // namespace

const Path path_avx2 = {"avx2", nibbles_size, nibbles, binary, real, sum, shortcut};

}  // namespace edgebin
