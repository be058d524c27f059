// Which operations may run side by side, and where every map lies. Maps whose last reader has run give their place to
// later ones; a unit writes over what it adds where nobody else wants that.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <tuple>

#include "net.h"

namespace edgebin {
namespace {

constexpr int64_t MOST_BYTES = int64_t(4) << 30;
constexpr int64_t LINE = 64;
constexpr int PIECES = 4;          // of a level for every thread
constexpr double SMALLEST = 4000;  // cost of a piece worth handing out, about a microsecond

int round_up(int n, int to) { return (n + to - 1) / to * to; }

}  // namespace

void* Memory::take(int64_t bytes) {
    bytes = (std::max<int64_t>(bytes, 1) + 2 * LINE - 1) / LINE * LINE;
    if (bytes > MOST_BYTES - total_) throw Bad("the network needs more than 4 GB");
    void* p = nullptr;
    if (posix_memalign(&p, LINE, size_t(bytes))) throw std::bad_alloc();
    blocks_.emplace_back(p);
    std::memset(p, 0, size_t(bytes));
    total_ += bytes;
    return p;
}

// The level of an operation is one more than that of all it reads; or each has its own.
void Net::level_up(bool apart) {
    for (size_t i = 0; i < graph_.ops.size(); i++) {
        const Op& op = graph_.ops[i];
        int level = 0;
        for (int v : op.in) level = std::max(level, level_[v] + 1);
        for (const SliceOp& s : op.slices) level = std::max(level, level_[s.in] + 1);
        for (int v : {op.add, op.then})
            if (v >= 0) level = std::max(level, level_[v] + 1);
        level_.push_back(apart ? level : int(i));
    }
}

void Net::place() {
    const int n = int(graph_.ops.size());
    std::vector<int> reads(n, 0), last(n, 0);  // as floats: how often, and at which level last
    std::vector<std::vector<int>> last_packed(n);
    std::vector<bool> narrow(n, true);  // read by real convolutions alone
    places_.resize(n);
    for (int v = 0; v < n; v++) {
        places_[v].packed.resize(graph_.packs[v].size());
        places_[v].pads.resize(graph_.packs[v].size());
        last_packed[v].resize(graph_.packs[v].size());
        if (!graph_.packs[v].empty()) narrow[v] = false;
    }
    for (int i = 0; i < n; i++) {
        const Op& op = graph_.ops[i];
        auto read = [&](int v, int pad) {
            reads[v]++, last[v] = std::max(last[v], level_[i]);
            places_[v].border = std::max(places_[v].border, pad);
            if (op.kind != REAL) narrow[v] = false;
        };
        for (int v : op.in) read(v, op.kind == REAL ? op.window.pad() : 0);
        for (int v : {op.add, op.then})
            if (v >= 0) read(v, 0), narrow[v] = false;
        for (const SliceOp& s : op.slices) {
            int& pad = places_[s.in].pads[s.pack];
            pad = std::max(pad, s.pad());
            last_packed[s.in][s.pack] = std::max(last_packed[s.in][s.pack], level_[i]);
        }
    }
    struct Hole {
        float* at;
        int64_t size;
        int free_at;  // last level in which it is read
    };
    std::vector<Hole> floats;
    using Shape = std::tuple<int, int, int, int>;
    std::map<Shape, std::vector<std::pair<uint32_t*, int>>> packed;  // those of one shape share their zero borders
    std::vector<int> order(n);
    for (int i = 0; i < n; i++) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return level_[a] < level_[b]; });
    std::map<const float*, Hole> live;
    for (int v : order) {
        const Op& op = graph_.ops[v];
        if (op.kind == OUTPUT) continue;
        Place& at = places_[v];
        const bool copied = op.kind == INPUT || op.kind == CONCAT || op.kind == MEANS || op.kind == MAXPOOL;  // packed in a second pass
        const int wide = op.kind == INPUT && narrow[v] ? round_up(op.channels, 4) : round_up(op.channels, GROUP);
        if (reads[v] || copied) {
            at.map.dx = wide, at.map.dy = ptrdiff_t(op.width + 2 * at.border) * wide;
            const int64_t size = at.map.dy * (op.height + 2 * at.border);
            const int until = std::max(last[v], level_[v]);
            float* start = nullptr;
            if (at.border || op.kind == MEANS) {
                start = static_cast<float*>(memory_.take(size * sizeof(float)));
            } else {
                int over = op.then >= 0 ? op.then : op.add;
                if (op.kind == SCALE) over = op.in[0];
                if (op.kind == SUM && op.up[0] == 0) over = op.in[0];
                const bool alone = over >= 0 && last[over] == level_[v] && !places_[over].border &&
                                   places_[over].map.dx == wide && graph_.ops[over].kind != MEANS;
                int at_once = 0;  // readers of it in this level
                for (int i = 0; alone && i < n; i++)
                    if (level_[i] == level_[v]) {
                        for (int in : graph_.ops[i].in) at_once += in == over;
                        at_once += (graph_.ops[i].add == over) + (graph_.ops[i].then == over);
                    }
                if (alone && at_once == 1) {
                    start = places_[over].map.at;
                    for (Hole& h : floats)
                        if (h.at == start) h.free_at = until;
                } else {
                    Hole* best = nullptr;
                    for (Hole& h : floats)
                        if (h.free_at < level_[v] && h.size >= size && (!best || h.size < best->size)) best = &h;
                    if (!best) {
                        floats.push_back({static_cast<float*>(memory_.take(size * sizeof(float))), size, 0});
                        best = &floats.back();
                    }
                    best->free_at = until, start = best->at;
                }
            }
            at.map.at = start + at.border * (at.map.dy + at.map.dx);
        }
        for (size_t k = 0; k < at.packed.size(); k++) {
            const int words = (op.channels + 31) / 32, pad = at.pads[k];
            const int until = std::max(last_packed[v][k], level_[v]);
            auto& holes = packed[Shape(op.height, op.width, round_up(op.channels, GROUP), pad)];
            auto hole = std::find_if(holes.begin(), holes.end(), [&](auto& h) { return h.second < level_[v]; });
            const int64_t dy = int64_t(op.width + 2 * pad) * words;
            if (hole == holes.end()) {
                void* p = memory_.take(dy * (op.height + 2 * pad) * int64_t(sizeof(uint32_t)));
                hole = holes.insert(holes.end(), {static_cast<uint32_t*>(p), 0});
            }
            hole->second = until;
            at.packed[k] = {hole->first + pad * (dy + words), words, ptrdiff_t(dy)};
        }
    }
}

// Every level's rows, laid end to end, are cut into pieces, and each thread begins where its equal share of the cost does:
// with two threads and four branches, each has the same two branches in every level, and their maps in its cache.
void Net::share_out() {
    const int threads = pool_.threads(), most = threads == 1 ? 1 : threads * PIECES;
    for (Level& level : levels_) {
        double total = 0, before = 0;
        for (const Task& t : level.tasks) total += t.rows * t.cost;
        const double piece = std::max(total / most, SMALLEST);
        for (int i = 0; i < int(level.tasks.size()); i++) {
            const Task& t = level.tasks[i];
            const int pieces = std::max(1, std::min(t.rows, int(t.rows * t.cost / piece + 0.5)));
            for (int k = 0; k < pieces; k++) {
                const int y0 = int(int64_t(t.rows) * k / pieces), y1 = int(int64_t(t.rows) * (k + 1) / pieces);
                while (int(level.first.size()) < threads && before + y0 * t.cost >= total * level.first.size() / threads)
                    level.first.push_back(int(level.pieces.size()));
                level.pieces.push_back({i, y0, y1});
            }
            before += t.rows * t.cost;
        }
        while (int(level.first.size()) < threads) level.first.push_back(0);
        level.taken = std::make_unique<std::atomic<bool>[]>(level.pieces.size());
    }
}

}  // namespace edgebin
