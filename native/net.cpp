#include "net.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

namespace edgebin {
namespace {

int groups_of(int channels) { return (channels + GROUP - 1) / GROUP; }

// Words of a window from its first tap on: taps in rows, then words (or channels) of a tap.
std::vector<int32_t> window_offsets(const Window& w, ptrdiff_t dx, ptrdiff_t dy, int items) {
    std::vector<int32_t> offsets;
    for (int i = 0; i < w.kernel; i++)
        for (int j = 0; j < w.kernel; j++)
            for (int k = 0; k < items; k++) offsets.push_back(int32_t(w.dilation * (i * dy + j * dx) + k));
    return offsets;
}

}  // namespace

Net::Net(Graph graph, const Path* path, int threads, bool apart)
    : graph_(std::move(graph)), path_(path), pool_(std::max(1, std::min(threads, 64))) {
    level_up(apart);
    place();
    make_tasks();
    share_out();
    for (int i = 0; i < int(graph_.ops.size()); i++)  // the caller's arrays are no longer needed
        if (graph_.ops[i].kind == OUTPUT) outputs_.push_back(graph_.ops[i].in[0]);
}

void Net::run(const float* image, float* const* outputs) {
    std::lock_guard<std::mutex> lock(running_);
    image_ = image, results_ = outputs;
    for (Level& level : levels_) {
        for (size_t i = 0; i < level.pieces.size(); i++) level.taken[i].store(false, std::memory_order_relaxed);
        level.done->store(0, std::memory_order_relaxed);
    }
    pool_.run([&](int thread) {
        for (Level& level : levels_) {
            const int n = int(level.pieces.size());
            for (int k = 0; k < n && level.done->load(std::memory_order_acquire) < n; k++) {
                const int i = (level.first[thread] + k) % n;
                if (level.taken[i].exchange(true, std::memory_order_relaxed)) continue;
                const Piece& p = level.pieces[i];
                level.tasks[p.task].work(p.y0, p.y1);
                level.done->fetch_add(1, std::memory_order_acq_rel);
            }
            for (int spins = 0; level.done->load(std::memory_order_acquire) < n; spins++) Pool::wait_a_moment(spins);
        }
    });
}

void Net::profile(const float* image, float* const* outputs, double* microseconds) {
    std::lock_guard<std::mutex> lock(running_);
    image_ = image, results_ = outputs;
    for (const Level& level : levels_)
        for (const Task& task : level.tasks) {
            const auto begin = std::chrono::steady_clock::now();
            task.work(0, task.rows);
            microseconds[task.op] = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
        }
}

void Net::make_tasks() {
    levels_.resize(*std::max_element(level_.begin(), level_.end()) + 1);
    for (int v = 0; v < int(graph_.ops.size()); v++) {
        auto& tasks = levels_[level_[v]].tasks;
        switch (graph_.ops[v].kind) {
            case INPUT: tasks.push_back(input_task(v)); break;
            case REAL: tasks.push_back(real_task(v)); break;
            case BINARY: tasks.push_back(binary_task(v)); break;
            case SUM: case SCALE: tasks.push_back(sum_task(v)); break;
            case SHORTCUT: tasks.push_back(shortcut_task(v)); break;
            case CONCAT: tasks.push_back(concat_task(v)); break;
            case MEANS: tasks.push_back(means_task(v)); break;
            case MAXPOOL: tasks.push_back(maxpool_task(v)); break;
            case OUTPUT: tasks.push_back(output_task(v)); break;
        }
    }
}

float* Net::padded(const float* from, int channels, float rest) {
    if (!from) return nullptr;
    float* to = static_cast<float*>(memory_.take(int64_t(groups_of(channels)) * GROUP * sizeof(float)));
    std::fill(std::copy(from, from + channels, to), to + groups_of(channels) * GROUP, rest);
    return to;
}

Finish Net::finish(int v) {
    const Op& op = graph_.ops[v];
    Finish f;
    if (op.add >= 0) f.add = places_[op.add].map, f.add_channels = groups_of(graph_.ops[op.add].channels) * GROUP;
    if (op.then >= 0) f.then = places_[op.then].map, f.then_channels = groups_of(graph_.ops[op.then].channels) * GROUP;
    f.then_scale = padded(op.then_scale, op.channels), f.then_bias = padded(op.then_bias, op.channels);
    f.then_slope = padded(op.then_slope, op.channels), f.then_lift = padded(op.then_lift, op.channels);
    f.out = places_[v].map;
    f.slope = padded(op.slope, op.channels), f.lift = padded(op.lift, op.channels);
    for (size_t k = 0; k < graph_.packs[v].size(); k++)  // channels that fill a group up are -1: no bit
        f.pack[f.packs++] = {padded(graph_.packs[v][k], op.channels, std::numeric_limits<float>::infinity()), places_[v].packed[k]};
    return f;
}

Sum Net::copy_of(int v) {  // packs a map that was written otherwise
    Sum s{};
    s.in[0] = places_[v].map, s.summands = 1;
    s.groups = groups_of(graph_.ops[v].channels), s.width = graph_.ops[v].width;
    s.finish = finish(v), s.finish.out = Map();
    return s;
}

Task Net::input_task(int v) {
    const Op op = graph_.ops[v];
    const Map out = places_[v].map;
    const Sum pack = copy_of(v);
    return {v, [this, op, out, pack](int y0, int y1) {
                const ptrdiff_t plane = ptrdiff_t(op.height) * op.width;
                for (int y = y0; y < y1; y++)
                    for (int c = 0; c < op.channels; c++) {
                        const float* from = image_ + c * plane + ptrdiff_t(y) * op.width;
                        float* to = out.pixel(y, 0) + c;
                        for (int x = 0; x < op.width; x++) to[x * out.dx] = from[x];
                    }
                if (pack.finish.packs) path_->sum(pack, y0, y1);
            },
            op.height, double(op.width) * op.channels};
}

Task Net::real_task(int v) {
    const Op& op = graph_.ops[v];
    const Window& w = op.window;
    const int in = graph_.ops[w.in].channels, taps = w.kernel * w.kernel * in, groups = groups_of(op.channels);
    const Place& from = places_[w.in];
    float* weights = static_cast<float*>(memory_.take(int64_t(groups) * taps * GROUP * sizeof(float)));
    for (int o = 0; o < op.channels; o++)
        for (int k = 0; k < taps; k++) weights[(int64_t(o / GROUP) * taps + k) * GROUP + o % GROUP] = op.weights[int64_t(o) * taps + k];
    offsets_.push_back(std::make_unique<std::vector<int32_t>>(window_offsets(w, from.map.dx, from.map.dy, in)));
    Real u{};
    u.in = {from.map.at - w.pad() * (from.map.dx + from.map.dy), from.map.dx * w.stride, from.map.dy * w.stride};
    u.offset = offsets_.back()->data(), u.weights = weights, u.bias = padded(op.bias, op.channels);
    u.taps = taps, u.groups = groups, u.width = op.width, u.finish = finish(v);
    return {v, [this, u](int y0, int y1) { path_->real(u, y0, y1); }, op.height, double(op.width) * groups * (0.6 * taps + 4)};
}

Task Net::binary_task(int v) {
    const Op& op = graph_.ops[v];
    slices_.push_back(std::make_unique<std::vector<Slice>>());
    std::vector<Slice>& slices = *slices_.back();
    int begin = 0;
    double cost = 4 * groups_of(op.channels);
    for (const SliceOp& s : op.slices) {
        const Bits from = places_[s.in].packed[s.pack];
        const int c = graph_.ops[s.in].channels, per_tap = (c + 31) / 32, words = s.kernel * s.kernel * per_tap;
        const int lead = begin % GROUP, groups = groups_of(lead + s.channels);
        std::vector<uint32_t> plain(size_t(lead + s.channels) * words, 0);
        for (int64_t i = 0; i < int64_t(s.channels) * words; i++) {
            const uint32_t used = c % 32 && i % per_tap == per_tap - 1 ? (1u << c % 32) - 1 : ~0u;
            plain[size_t(lead) * words + i] = s.weights[i] & used;
        }
        void* weights = memory_.take(int64_t(path_->weights_size(words, groups)));
        path_->arrange(plain.data(), words, lead + s.channels, weights);
        offsets_.push_back(std::make_unique<std::vector<int32_t>>(window_offsets(s, from.dx, from.dy, per_tap)));
        Slice made{};
        made.in = {from.at - s.pad() * (from.dx + from.dy), from.dx * s.stride, from.dy * s.stride};
        made.offset = offsets_.back()->data(), made.weights = weights;
        made.words = words, made.start = -(s.kernel * s.kernel * c / 2), made.begin = begin, made.end = begin + s.channels;
        slices.push_back(made);
        begin += s.channels, cost += 0.8 * words * groups;
    }
    Binary u{};
    u.slice = slices.data(), u.slices = int(slices.size()), u.groups = groups_of(op.channels), u.width = op.width;
    u.scale = padded(op.scale, op.channels), u.bias = padded(op.bias, op.channels), u.finish = finish(v);
    return {v, [this, u](int y0, int y1) { path_->binary(u, y0, y1); }, op.height, op.width * cost};
}

Task Net::sum_task(int v) {
    const Op& op = graph_.ops[v];
    Sum s{};
    s.groups = groups_of(op.channels), s.width = op.width, s.finish = finish(v);
    s.scale = padded(op.scale, op.channels), s.bias = padded(op.bias, op.channels);
    if (op.kind == SCALE) {
        s.in[0] = places_[op.in[0]].map, s.summands = 1;
        s.scale = places_[op.in[1]].map.at;
        s.bias = static_cast<float*>(memory_.take(int64_t(s.groups) * GROUP * sizeof(float)));
    } else {
        for (size_t i = 0; i < op.in.size(); i++) s.in[i] = places_[op.in[i]].map, s.up[i] = op.up[i];
        s.summands = int(op.in.size());
    }
    return {v, [this, s](int y0, int y1) { path_->sum(s, y0, y1); }, op.height, double(op.width) * s.groups * (6 + 3 * s.summands)};
}

Task Net::shortcut_task(int v) {
    const Op& op = graph_.ops[v];
    Shortcut s{};
    s.in = places_[op.in[0]].map, s.before = graph_.ops[op.in[0]].channels, s.channels = op.channels;
    s.stride = op.stride, s.width = op.width, s.finish = finish(v);
    const double reads = op.stride * op.stride * std::max(1, s.before / s.channels);
    return {v, [this, s](int y0, int y1) { path_->shortcut(s, y0, y1); }, op.height, double(op.width) * groups_of(op.channels) * (6 + 3 * reads)};
}

Task Net::concat_task(int v) {
    const Op op = graph_.ops[v];
    std::vector<std::pair<Map, int>> parts;
    for (int in : op.in) parts.emplace_back(places_[in].map, graph_.ops[in].channels);
    const Map out = places_[v].map;
    const Sum pack = copy_of(v);
    return {v, [this, op, parts, out, pack](int y0, int y1) {
                for (int y = y0; y < y1; y++)
                    for (int x = 0; x < op.width; x++) {
                        float* to = out.pixel(y, x);
                        for (const auto& part : parts) to = std::copy_n(part.first.pixel(y, x), part.second, to);
                        std::fill(to, out.pixel(y, x) + groups_of(op.channels) * GROUP, 0.0f);
                    }
                if (pack.finish.packs) path_->sum(pack, y0, y1);
            },
            op.height, double(op.width) * op.channels};
}

Task Net::means_task(int v) {
    const Op op = graph_.ops[v], from = graph_.ops[op.in[0]];
    const Map in = places_[op.in[0]].map, out = places_[v].map;
    const Sum pack = copy_of(v);
    auto keep = [&](const float* a, int64_t n) { return std::vector<float>(a, a + n); };
    const auto w1 = keep(op.weights, int64_t(op.hidden) * op.channels), b1 = keep(op.bias, op.hidden);
    const auto w2 = keep(op.weights2, int64_t(op.hidden) * op.channels), b2 = keep(op.bias2, op.channels);
    return {v, [=](int, int) {
                std::vector<float> means(op.channels, 0.0f), hidden(op.hidden);
                for (int y = 0; y < from.height; y++)
                    for (int x = 0; x < from.width; x++)
                        for (int c = 0; c < op.channels; c++) means[c] += in.pixel(y, x)[c];
                for (float& m : means) m /= float(from.height) * float(from.width);
                for (int h = 0; h < op.hidden; h++) {
                    hidden[h] = b1[h];
                    for (int c = 0; c < op.channels; c++) hidden[h] += w1[size_t(h) * op.channels + c] * means[c];
                    hidden[h] = std::max(hidden[h], 0.0f);
                }
                for (int c = 0; c < op.channels; c++) {
                    float t = b2[c];
                    for (int h = 0; h < op.hidden; h++) t += w2[size_t(c) * op.hidden + h] * hidden[h];
                    out.at[c] = 1.0f / (1.0f + std::exp(-t));
                }
                if (pack.finish.packs) path_->sum(pack, 0, 1);
            },
            1, double(from.height) * from.width * op.channels};
}

Task Net::maxpool_task(int v) {
    const Op op = graph_.ops[v], from = graph_.ops[op.in[0]];
    const Map in = places_[op.in[0]].map, out = places_[v].map;
    const Sum pack = copy_of(v);
    return {v, [=](int y0, int y1) {
                const int pad = op.kernel / 2, channels = groups_of(op.channels) * GROUP;
                for (int y = y0; y < y1; y++)
                    for (int x = 0; x < op.width; x++) {
                        float* to = out.pixel(y, x);
                        std::copy_n(in.pixel(y * op.stride, x * op.stride), channels, to);
                        for (int i = std::max(0, y * op.stride - pad); i <= std::min(from.height - 1, y * op.stride + pad); i++)
                            for (int j = std::max(0, x * op.stride - pad); j <= std::min(from.width - 1, x * op.stride + pad); j++) {
                                const float* other = in.pixel(i, j);
                                for (int c = 0; c < channels; c++) to[c] = other[c] > to[c] ? other[c] : to[c];
                            }
                    }
                if (pack.finish.packs) path_->sum(pack, y0, y1);
            },
            op.height, double(op.width) * op.channels * op.kernel};
}

Task Net::output_task(int v) {
    const int from = graph_.ops[v].in[0];
    const Op op = graph_.ops[from];
    const Map in = places_[from].map;
    const int index = int(std::count_if(graph_.ops.begin(), graph_.ops.begin() + v, [](const Op& o) { return o.kind == OUTPUT; }));
    return {v, [this, op, in, index](int y0, int y1) {
                const ptrdiff_t plane = ptrdiff_t(op.height) * op.width;
                for (int c = 0; c < op.channels; c++)
                    for (int y = y0; y < y1; y++)
                        for (int x = 0; x < op.width; x++) results_[index][c * plane + ptrdiff_t(y) * op.width + x] = in.pixel(y, x)[c];
            },
            op.height, double(op.width) * op.channels};
}

}  // namespace edgebin
