// A network as it was read: operations and values, checked. Whatever passes `read_graph` can be planned and run.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace edgebin {

struct Bad : std::runtime_error {
    using std::runtime_error::runtime_error;
};

enum Kind { INPUT, REAL, BINARY, SUM, SHORTCUT, CONCAT, MEANS, SCALE, MAXPOOL, OUTPUT };

struct Window {  // of a convolution
    int in, channels, kernel, stride, dilation;
    int pad() const { return dilation * (kernel - 1) / 2; }
};

struct SliceOp : Window {
    const float* least;
    int pack;  // which of the packed maps of value `in`
    const uint32_t* weights;
};

struct Op {
    Kind kind;
    int channels = 0, height = 0, width = 0;  // of the value it makes
    std::vector<int> in;                       // values it reads as floats
    int add = -1, then = -1;
    const float *then_scale = nullptr, *then_bias = nullptr, *then_slope = nullptr, *then_lift = nullptr;
    const float *slope = nullptr, *lift = nullptr, *scale = nullptr, *bias = nullptr, *weights = nullptr;
    Window window{};              // REAL
    std::vector<SliceOp> slices;  // BINARY
    std::vector<int> up;          // SUM: of every summand
    int stride = 1, kernel = 1, hidden = 0;  // SHORTCUT, MAXPOOL; MEANS
    const float *weights2 = nullptr, *bias2 = nullptr;  // MEANS
};

struct Arrays {
    const int64_t* table;
    int64_t count;
    const char* data;
    int64_t bytes;
};

struct Graph {
    std::vector<Op> ops;  // operation i makes value i, outputs excepted
    std::vector<std::vector<const float*>> packs;  // of every value: the thresholds it is packed with
};

// `Bad` says what is wrong with a program; see edgebin.h for its form. The arrays are used in place.
Graph read_graph(const int32_t* program, int64_t items, const Arrays& arrays, int height, int width);

}  // namespace edgebin
