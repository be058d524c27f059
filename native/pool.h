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

    // work(0) here and work(i) on those of the other threads that come in time; returns when all who began are done. So a
    // thread that the system does not run for a while holds nobody up: `work` must be complete whoever takes part.
    void run(const std::function<void(int thread)>& work) {
        const int others = int(workers_.size());
        if (!others) return work(0);
        work_ = &work;
        finished_.store(0, std::memory_order_relaxed);
        tickets_.store(others, std::memory_order_release);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            round_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        work(0);
        const int began = others - tickets_.exchange(0, std::memory_order_acq_rel);
        for (int spins = 0; finished_.load(std::memory_order_acquire) < began; spins++) wait_a_moment(spins);
    }

    static void wait_a_moment(int spins) {
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

    bool admitted() {
        int left = tickets_.load(std::memory_order_acquire);
        while (left > 0)
            if (tickets_.compare_exchange_weak(left, left - 1, std::memory_order_acq_rel)) return true;
        return false;
    }

    void serve(int thread) {
        for (unsigned seen = 0;;) {
            for (int spins = 0; spins < SPINS && round_.load(std::memory_order_acquire) == seen; spins++) pause();
            if (round_.load(std::memory_order_acquire) == seen) {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != seen; });
            }
            seen = round_.load(std::memory_order_acquire);
            if (stop_) return;
            if (!admitted()) continue;
            (*work_)(thread);
            finished_.fetch_add(1, std::memory_order_release);
        }
    }

    std::vector<std::thread> workers_;
    const std::function<void(int)>* work_ = nullptr;
    std::atomic<unsigned> round_{0};
    std::atomic<int> tickets_{0}, finished_{0};
    std::atomic<bool> stop_{false};
    std::mutex mutex_;
    std::condition_variable wake_;
};

}  // namespace edgebin
