// Any processor: 64 bits at a time in ordinary registers.
#include <cmath>
#include <type_traits>

#include "kernels.h"

namespace edgebin {
namespace {

#include "plain_floats.inl"
constexpr int WIDE = 2, DEEP = 2, REAL_WIDE = 2, REAL_DEEP = 2;

template <int P>
struct Patch {  // the window of every pixel of a tile, two words in one
    uint64_t window[P][(MOST_WORDS + 1) / 2];
    Patch(const Slice& s, const uint32_t* in) {
        for (int p = 0; p < P; p++, in += s.in.dx)
            for (int k = 0; k < s.words; k += 2)
                window[p][k / 2] = in[s.offset[k]] | (k + 1 < s.words ? uint64_t(in[s.offset[k + 1]]) << 32 : 0);
    }
};

inline int ones(uint64_t v) {
#if defined(__POPCNT__) || defined(__aarch64__)
    return __builtin_popcountll(v);
#else
    v -= v >> 1 & 0x5555555555555555;
    v = (v & 0x3333333333333333) + (v >> 2 & 0x3333333333333333);
    return int(((v + (v >> 4)) & 0x0F0F0F0F0F0F0F0F) * 0x0101010101010101 >> 56);
#endif
}

size_t pairs_size(int words, int groups) { return size_t((words + 1) / 2) * groups * GROUP * sizeof(uint64_t); }

void pairs(const uint32_t* plain, int words, int channels, void* weights) {  // [channel][pair of words]
    uint64_t* out = static_cast<uint64_t*>(weights);
    for (int o = 0; o < (channels + GROUP - 1) / GROUP * GROUP; o++)
        for (int k = 0; k < words; k += 2, out++) {
            const uint32_t* w = plain + size_t(o) * words + k;
            *out = o < channels ? w[0] | (k + 1 < words ? uint64_t(w[1]) << 32 : 0) : 0;
        }
}

template <int P, int Q>
inline void count(const Patch<P>& patch, const Slice& s, int group, Ints (&counts)[P][Q]) {
    const int n = (s.words + 1) / 2;
    const uint64_t* weights = static_cast<const uint64_t*>(s.weights) + ptrdiff_t(group) * GROUP * n;
    for (int o = 0; o < Q * GROUP; o++, weights += n)
        for (int p = 0; p < P; p++) {
            int32_t sum = s.start;
            for (int k = 0; k < n; k++) sum += ones(patch.window[p][k] ^ weights[k]);
            counts[p][o / GROUP].at[o % GROUP] = sum;
        }
}

#include "tiles.inl"

}  // namespace

const Path path_portable = {"portable", pairs_size, pairs, binary, real, sum, shortcut};

}  // namespace edgebin
