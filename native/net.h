// A network that is ready to run: weights arranged for a path, maps laid out in memory, work shared out to threads.
#pragma once
#include <functional>
#include <memory>
#include <mutex>

#include "graph.h"
#include "kernels.h"
#include "pool.h"

namespace edgebin {

class Memory {  // zeroed, in cache lines
public:
    void* take(int64_t bytes);
    int64_t bytes() const { return total_; }

private:
    struct Free {
        void operator()(void* p) const { std::free(p); }
    };
    std::vector<std::unique_ptr<void, Free>> blocks_;
    int64_t total_ = 0;
};

struct Task {
    int op;
    std::function<void(int y0, int y1)> work;
    int rows;
    double cost;  // of a row, about a processor cycle each
};

struct Piece {  // rows of a task
    int task, y0, y1;
};

struct Level {  // tasks that need not wait for each other
    std::vector<Task> tasks;
    std::vector<Piece> pieces;
    std::vector<int> first;  // of every thread: the piece it begins with
    std::unique_ptr<std::atomic<bool>[]> taken;
    std::unique_ptr<std::atomic<int>> done = std::make_unique<std::atomic<int>>(0);
};

class Net {
public:
    Net(Graph graph, const Path* path, int threads, bool apart);
    void run(const float* image, float* const* outputs);
    void profile(const float* image, float* const* outputs, double* microseconds);
    const char* path() const { return path_->name; }
    int64_t memory() const { return memory_.bytes(); }
    int operations() const { return int(graph_.ops.size()); }
    const std::vector<int>& outputs() const { return outputs_; }
    const Op& value(int v) const { return graph_.ops[v]; }

private:
    struct Place {  // where a value lies
        Map map;
        int border = 0;
        std::vector<Bits> packed;
        std::vector<int> pads;  // border of every packed map
    };

    void level_up(bool apart);
    void place();
    void make_tasks();
    void share_out();

    float* padded(const float* from, int channels, float rest = 0);
    Finish finish(int v);
    Task input_task(int v);
    Task real_task(int v);
    Task binary_task(int v);
    Task sum_task(int v);
    Task shortcut_task(int v);
    Task concat_task(int v);
    Task means_task(int v);
    Task maxpool_task(int v);
    Task output_task(int v);
    Sum copy_of(int v);

    Graph graph_;
    const Path* path_;
    Memory memory_;
    Pool pool_;
    std::mutex running_;
    std::vector<int> level_, outputs_;
    std::vector<Place> places_;
    std::vector<Level> levels_;
    std::vector<std::unique_ptr<std::vector<int32_t>>> offsets_;
    std::vector<std::unique_ptr<std::vector<Slice>>> slices_;
    const float* image_ = nullptr;
    float* const* results_ = nullptr;
};

}  // namespace edgebin
