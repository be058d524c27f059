// ARM NEON: xor, count by bytes, add of 4 channels x 32 bits, four registers a group.
#include <arm_neon.h>

#include <type_traits>

#include "kernels.h"

namespace edgebin {
namespace {

struct F {
    float32x4_t at[4];
};
template <class Work>
inline F each(const Work& work) {
    return {work(0), work(1), work(2), work(3)};
}
inline F load(const float* a) { return each([&](int i) { return vld1q_f32(a + 4 * i); }); }
inline void store(float* a, F v) {
    for (int i = 0; i < 4; i++) vst1q_f32(a + 4 * i, v.at[i]);
}
inline F splat(float v) { return each([&](int) { return vdupq_n_f32(v); }); }
inline F add(F a, F b) { return each([&](int i) { return vaddq_f32(a.at[i], b.at[i]); }); }
inline F mul(F a, F b) { return each([&](int i) { return vmulq_f32(a.at[i], b.at[i]); }); }
inline F div(F a, F b) { return each([&](int i) { return vdivq_f32(a.at[i], b.at[i]); }); }
inline F fma(F a, F b, F c) { return each([&](int i) { return vfmaq_f32(c.at[i], a.at[i], b.at[i]); }); }
struct Ints {
    int32x4_t at[4];
};
inline Ints take(const int32_t* a) { return {vld1q_s32(a), vld1q_s32(a + 4), vld1q_s32(a + 8), vld1q_s32(a + 12)}; }
inline void put(int32_t* a, Ints v) {
    for (int i = 0; i < 4; i++) vst1q_s32(a + 4 * i, v.at[i]);
}
inline F from_ints(Ints v) { return each([&](int i) { return vcvtq_f32_s32(v.at[i]); }); }
inline F prelu(F t, F slope) {
    return each([&](int i) { return vbslq_f32(vcgtzq_f32(t.at[i]), t.at[i], vmulq_f32(t.at[i], slope.at[i])); });
}
inline uint16_t at_least(F t, F least) {
    const uint32_t place[] = {1, 2, 4, 8};
    uint32_t bits = 0;
    for (int i = 0; i < 4; i++)
        bits |= vaddvq_u32(vandq_u32(vcgeq_f32(t.at[i], least.at[i]), vld1q_u32(place))) << 4 * i;
    return uint16_t(bits);
}

constexpr int WIDE = 4, DEEP = 1, REAL_WIDE = 4, REAL_DEEP = 1;
constexpr int CHUNK = 31;  // words whose counts of up to 8 a byte can hold

template <int P>
struct Patch {
    const uint32_t* in;
    Patch(const Slice&, const uint32_t* in) : in(in) {}
};

template <int P, int Q>
inline void count_group(const uint32_t* in, const Slice& s, const uint32_t* weights, int q, Ints (&counts)[P][Q]) {
    uint32x4_t sums[P][4];
    for (int p = 0; p < P; p++)
        for (int i = 0; i < 4; i++) sums[p][i] = vdupq_n_u32(uint32_t(s.start));
    for (int k = 0; k < s.words;) {
        const int last = k + CHUNK < s.words ? k + CHUNK : s.words;
        uint8x16_t bytes[P][4];
        for (int p = 0; p < P; p++)
            for (int i = 0; i < 4; i++) bytes[p][i] = vdupq_n_u8(0);
        for (; k < last; k++) {
            const uint32_t* tap = in + s.offset[k];
            uint32x4_t w[4];
            for (int i = 0; i < 4; i++) w[i] = vld1q_u32(weights + k * GROUP + 4 * i);
            for (int p = 0; p < P; p++) {
                const uint32x4_t v = vld1q_dup_u32(tap + p * s.in.dx);
                for (int i = 0; i < 4; i++)
                    bytes[p][i] = vaddq_u8(bytes[p][i], vcntq_u8(vreinterpretq_u8_u32(veorq_u32(v, w[i]))));
            }
        }
        for (int p = 0; p < P; p++)
            for (int i = 0; i < 4; i++) sums[p][i] = vpadalq_u16(sums[p][i], vpaddlq_u8(bytes[p][i]));
    }
    for (int p = 0; p < P; p++)
        for (int i = 0; i < 4; i++) counts[p][q].at[i] = vreinterpretq_s32_u32(sums[p][i]);
}

template <int P, int Q>
inline void count(const Patch<P>& patch, const Slice& s, int group, Ints (&counts)[P][Q]) {
    const uint32_t* weights = static_cast<const uint32_t*>(s.weights) + ptrdiff_t(group) * s.words * GROUP;
    for (int q = 0; q < Q; q++) count_group<P, Q>(patch.in, s, weights + ptrdiff_t(q) * s.words * GROUP, q, counts);
}

#include "lanes.inl"
#include "tiles.inl"

}  // namespace

const Path path_neon = {"neon", lanes_size, lanes, binary, real, sum, shortcut};

}  // namespace edgebin
