// A few threads that do one piece of work each, again and again. They spin for a moment before they sleep: a network is
// a hundred pieces of some microseconds.
#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace edgebin {

class Pool {
public:
    explicit Pool(int threads) {
        for (int i = 1; i < threads; i++) workers_.emplace_back([this, i] { serve(i); });
    }

    ~Pool() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            stop_ = true;
            round_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        for (std::thread& t : workers_) t.join();
    }

    int threads() const { return int(workers_.size()) + 1; }

    void run(const std::function<void(int thread)>& work) {  // work(0) here, the others beside; returns when all are done
        if (workers_.empty()) return work(0);
        work_ = &work;
        left_.store(int(workers_.size()), std::memory_order_relaxed);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            round_.fetch_add(1, std::memory_order_release);
        }
        if (asleep_.load(std::memory_order_relaxed)) wake_.notify_all();
        work(0);
        for (int spins = 0; left_.load(std::memory_order_acquire); spins++)
            if (spins < SPINS) pause();
            else std::this_thread::yield();
    }

private:
    static constexpr int SPINS = 4000;

    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    void serve(int thread) {
        for (unsigned seen = 0;;) {
            for (int spins = 0; spins < SPINS && round_.load(std::memory_order_acquire) == seen; spins++) pause();
            if (round_.load(std::memory_order_acquire) == seen) {
                std::unique_lock<std::mutex> lock(mutex_);
                asleep_.fetch_add(1);
                wake_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != seen; });
                asleep_.fetch_sub(1);
            }
            seen++;  // rounds are not skipped: `run` waits for every thread
            if (stop_) return;
            (*work_)(thread);
            left_.fetch_sub(1, std::memory_order_release);
        }
    }

    std::vector<std::thread> workers_;
    const std::function<void(int)>* work_ = nullptr;
    std::atomic<unsigned> round_{0};
    std::atomic<int> left_{0}, asleep_{0};
    std::atomic<bool> stop_{false};
    std::mutex mutex_;
    std::condition_variable wake_;
};

}  // namespace edgebin
