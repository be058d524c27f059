// What every code path computes, described once. Maps are NHWC. A float map keeps its channels in whole groups of 16
// (the last ones zero); a packed map has one bit a channel (1 is +1, 0 is -1) in whole 32-bit words, the last bits zero.
// Around a packed map lies a border of zero words: the padding with -1. Distances are in floats, or in words.
#pragma once
#include <cstddef>
#include <cstdint>

namespace edgebin {

constexpr int GROUP = 16;       // channels that are finished together
constexpr int MOST_WORDS = 640;  // of one output's window (3x3 over 2272 channels); a multiple of 4
constexpr int MOST_PACKS = 16;   // thresholds that one map is compared with
constexpr int MOST_SUMMANDS = 8;

struct Map {  // pixel (0, 0) of a float map; `at` null: absent
    float* at = nullptr;
    ptrdiff_t dx = 0, dy = 0;
    float* pixel(int y, int x) const { return at + y * dy + x * dx; }
};

struct Bits {  // pixel (0, 0) of a packed map
    uint32_t* at = nullptr;
    ptrdiff_t dx = 0, dy = 0;
    uint32_t* pixel(int y, int x) const { return at + y * dy + x * dx; }
};

struct Pack {  // bit = value >= least
    const float* least;
    Bits out;
};

// What happens to a value t of every output channel: t += add; t = rprelu(t), which is (t > 0 ? t : slope * t) + lift; then,
// where there is a second map, t = scale * (t + map) + bias and a second RPReLU; written and packed. The maps may have
// fewer channels, in whole groups, which are repeated.
struct Finish {
    Map add, out;
    int add_channels = 0;
    const float *slope = nullptr, *lift = nullptr;  // null: no RPReLU
    Map then;                                       // only with both of the above
    int then_channels = 0;
    const float *then_scale = nullptr, *then_bias = nullptr, *then_slope = nullptr, *then_lift = nullptr;
    int packs = 0;
    Pack pack[MOST_PACKS];
};

// Binary convolutions side by side: each slice makes output channels [begin, end). Its weights fill whole groups, from
// group begin / 16 on. value = scale * (differing bits + start) + bias; `start` is -floor(bits / 2), which keeps the
// sums small.
struct Slice {
    Bits in;  // first tap of output (0, 0); dx, dy: from one output to the next
    const int32_t* offset;  // [words]: from the first tap
    const void* weights;    // in the layout of the path
    int words, start, begin, end;
};

struct Binary {
    const Slice* slice;
    int slices, groups, width;
    const float *scale, *bias;
    int32_t* counts;  // only the differing bits + start are wanted: [y][x][channel], whole groups; else null
    Finish finish;
};

// A real convolution: value = bias + sum over taps, each added with one rounding (fma), in the order of the taps.
struct Real {
    Map in;  // as in Slice
    const int32_t* offset;
    const float *weights, *bias;  // [group][taps][16], [group * 16]
    int taps, groups, width;
    Finish finish;
};

struct Sum {  // of maps that are repeated 2^up times in each direction (nearest neighbour), in their order
    Map in[MOST_SUMMANDS];
    int up[MOST_SUMMANDS], summands, groups, width;
    const float *scale, *bias;  // value = scale * sum + bias; null: none
    Finish finish;
};

// Shortcut without weights: 2x2 means where `stride` is 2; then out channel o is in channel o mod `before`, or, where there
// are fewer channels than before, the mean of in channels o, o + channels, ...
struct Shortcut {
    Map in;
    int before, channels, stride, width;
    Finish finish;
};

struct Path {
    const char* name;
    size_t (*weights_size)(int words, int groups);  // bytes
    void (*arrange)(const uint32_t* plain, int words, int channels, void* weights);  // from [channel][words]
    void (*binary)(const Binary&, int y0, int y1);  // rows [y0, y1) of the output
    void (*real)(const Real&, int y0, int y1);
    void (*sum)(const Sum&, int y0, int y1);
    void (*shortcut)(const Shortcut&, int y0, int y1);
};

extern const Path path_portable;
#if defined(__x86_64__)
extern const Path path_avx2, path_avx512, path_avx512vp;
#endif
#if defined(__aarch64__)
extern const Path path_neon;
#endif

const Path* find_path(const char* name);  // null or "": the fastest that this CPU runs; nullptr: unknown, or not on this CPU
const char* usable_paths();               // names, fastest first, separated by spaces

}  // namespace edgebin
