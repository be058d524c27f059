// AVX-512 with VPOPCNTDQ: xor, count, add of 16 channels x 32 bits.
#include <immintrin.h>

#include <type_traits>

#include "kernels.h"

namespace edgebin {
namespace {

#include "avx512_floats.inl"
constexpr int DEEP = 1;

template <int P>
struct Patch {
    const uint32_t* in;
    Patch(const Slice&, const uint32_t* in) : in(in) {}
};

template <int P, int Q>
inline void count(const Patch<P>& patch, const Slice& s, int group, Ints (&sums)[P][Q]) {
    for (int p = 0; p < P; p++)
        for (int q = 0; q < Q; q++) sums[p][q] = _mm512_set1_epi32(s.start);
    const uint32_t* weights = static_cast<const uint32_t*>(s.weights) + ptrdiff_t(group) * s.words * GROUP;
    const ptrdiff_t dx = s.in.dx, next = ptrdiff_t(s.words) * GROUP;
    for (int k = 0; k < s.words; k++, weights += GROUP) {
        const uint32_t* tap = patch.in + s.offset[k];
        __m512i w[Q];
        for (int q = 0; q < Q; q++) w[q] = _mm512_loadu_si512(weights + q * next);
        for (int p = 0; p < P; p++) {
            const __m512i v = _mm512_set1_epi32(int(tap[p * dx]));
            for (int q = 0; q < Q; q++)
                sums[p][q] = _mm512_add_epi32(sums[p][q], _mm512_popcnt_epi32(_mm512_xor_si512(v, w[q])));
        }
    }
}

#include "lanes.inl"
#include "tiles.inl"

}  // namespace

const Path path_avx512vp = {"avx512vp", lanes_size, lanes, binary, real, sum, shortcut};

}  // namespace edgebin
