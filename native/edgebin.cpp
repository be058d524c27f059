#include "edgebin.h"

#include <cstdio>
#include <cstring>

#include "net.h"

using namespace edgebin;

struct edgebin_net {
    Net net;
};

namespace {

void say(char* error, int64_t room, const char* what) {
    if (error && room > 0) std::snprintf(error, size_t(room), "%s", what);
}

}  // namespace

int edgebin_version(void) { return 1; }

const char* edgebin_paths(void) { return usable_paths(); }

edgebin_net* edgebin_open(const int32_t* program, int64_t items, const int64_t* arrays, int64_t array_count,
                          const void* data, int64_t bytes, int height, int width, const char* path, int threads,
                          int apart, char* error, int64_t room) {
    try {
        const Path* found = find_path(path);
        if (!found) throw Bad("no code path " + std::string(path) + " on this CPU, only " + usable_paths());
        Graph graph = read_graph(program, items, {arrays, array_count, static_cast<const char*>(data), bytes}, height, width);
        return new edgebin_net{{std::move(graph), found, threads, apart != 0}};
    } catch (const Bad& e) {
        say(error, room, e.what());
    } catch (const std::exception& e) {
        say(error, room, (std::string("not enough memory or threads: ") + e.what()).c_str());
    }
    return nullptr;
}

const char* edgebin_path(const edgebin_net* net) { return net->net.path(); }

int64_t edgebin_memory(const edgebin_net* net) { return net->net.memory(); }

int edgebin_operations(const edgebin_net* net) { return net->net.operations(); }

int edgebin_outputs(const edgebin_net* net) { return int(net->net.outputs().size()); }

void edgebin_shape(const edgebin_net* net, int output, int32_t* chw) {
    const Op& op = net->net.value(net->net.outputs().at(size_t(output)));
    chw[0] = op.channels, chw[1] = op.height, chw[2] = op.width;
}

void edgebin_run(edgebin_net* net, const float* image, float* const* outputs) { net->net.run(image, outputs); }

void edgebin_profile(edgebin_net* net, const float* image, float* const* outputs, double* microseconds) {
    net->net.profile(image, outputs, microseconds);
}

void edgebin_close(edgebin_net* net) { delete net; }

int edgebin_count(const char* path, const uint32_t* in, int h, int w, int in_channels, const uint32_t* weights,
                  int channels, int kernel, int stride, int dilation, int32_t* out) {
    const Path* found = find_path(path);
    const int per_tap = (in_channels + 31) / 32;
    if (!found || h < 1 || w < 1 || in_channels < 1 || channels < 1 || kernel < 1 || kernel % 2 == 0 || stride < 1 ||
        dilation < 1 || int64_t(kernel) * kernel * per_tap > MOST_WORDS)
        return -1;
    try {
        const int pad = dilation * (kernel - 1) / 2, words = kernel * kernel * per_tap, groups = (channels + GROUP - 1) / GROUP;
        const int high = (h - 1) / stride + 1, wide = (w - 1) / stride + 1;
        const ptrdiff_t dx = per_tap, dy = ptrdiff_t(w + 2 * pad) * per_tap;
        Memory memory;
        auto* padded = static_cast<uint32_t*>(memory.take(dy * (h + 2 * pad) * 4));
        for (int y = 0; y < h; y++)
            std::memcpy(padded + (y + pad) * dy + pad * dx, in + size_t(y) * w * per_tap, size_t(w) * per_tap * 4);
        void* arranged = memory.take(int64_t(found->weights_size(words, groups)));
        found->arrange(weights, words, channels, arranged);
        auto* counts = static_cast<int32_t*>(memory.take(int64_t(high) * wide * groups * GROUP * 4));
        std::vector<int32_t> offsets;
        for (int i = 0; i < kernel; i++)
            for (int j = 0; j < kernel; j++)
                for (int k = 0; k < per_tap; k++) offsets.push_back(int32_t(dilation * (i * dy + j * dx) + k));
        const Slice slice{{padded, dx * stride, dy * stride}, offsets.data(), arranged, words, -(kernel * kernel * in_channels / 2), 0, channels};
        Binary u{};
        u.slice = &slice, u.slices = 1, u.groups = groups, u.width = wide, u.counts = counts;
        found->binary(u, 0, high);
        for (int64_t p = 0; p < int64_t(high) * wide; p++)
            std::memcpy(out + p * channels, counts + p * groups * GROUP, size_t(channels) * 4);
        return 0;
    } catch (const std::exception&) {
        return -1;
    }
}
