// The pool behind for_parts: threads that sleep until there is a job. Who has a job works on it as everybody else, and
// in the end waits only for threads that have a share in hand: one that the operating system hasn't woken yet, or has
// put aside before it took any, delays no other.
#include "runtime/parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include <pthread.h>

#include "simd/dispatch.h"

namespace lf {
namespace {

// A thread looks for the next job this long before it sleeps: about what waking it would cost.
constexpr std::chrono::microseconds kAwake{20};

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Whether `done` becomes true within kAwake.
template <class Done> bool soon(const Done& done) {
    const auto end = std::chrono::steady_clock::now() + kAwake;
    do {
        for (int i = 0; i < 32; ++i) {
            if (done()) return true;
            pause();
        }
    } while (std::chrono::steady_clock::now() < end);
    return false;
}

class Job {
  public:
    Job(std::int64_t parts, int threads, std::int64_t share, Part call, const void* work)
        : parts_(parts), share_(share), threads_(threads), call_(call), work_(work) {}

    // Whether one more thread may take part, and would find something to do.
    bool open() const { return joined_ < threads_ && next_.load(std::memory_order_relaxed) < parts_; }

    // Works until no part is left.
    void work(int thread) noexcept {
        const DefaultArithmetic arithmetic;
        try {
            for (std::int64_t first; (first = next_.fetch_add(share_, std::memory_order_relaxed)) < parts_;)
                for (std::int64_t part = first; part < std::min(first + share_, parts_); ++part)
                    call_(work_, part, thread);
        } catch (...) {
            next_ = parts_;
            const std::scoped_lock lock(thrown_mutex_);
            if (!thrown_) thrown_ = std::current_exception();
        }
    }

    void rethrow() const {
        if (thrown_) std::rethrow_exception(thrown_);
    }

    // Both belong to the pool's mutex; helpers_ may be watched without it.
    int joined_ = 1;
    std::atomic<int> helpers_{0};

  private:
    const std::int64_t parts_, share_;
    const int threads_;
    const Part call_;
    const void* const work_;
    std::atomic<std::int64_t> next_{0};
    std::mutex thrown_mutex_;
    std::exception_ptr thrown_;
};

class Pool {
  public:
    void run(Job& job, int helpers) {
        {
            const std::scoped_lock lock(mutex_);
            hire(helpers);
            jobs_.push_back(&job);
            posted_.fetch_add(1, std::memory_order_release);
            for (int i = std::min(helpers, asleep_); i > 0; --i) wake_.notify_one();
        }
        job.work(0);
        std::unique_lock<std::mutex> lock(mutex_);
        jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
        if (job.helpers_ == 0) return;
        lock.unlock();
        const bool done = soon([&] { return job.helpers_.load(std::memory_order_acquire) == 0; });
        lock.lock();  // and the last helper has let go of it
        if (!done) left_.wait(lock, [&] { return job.helpers_ == 0; });
    }

  private:
    // Makes threads up to this number; with fewer, where the system gives no more, all goes on.
    void hire(int count) {
        if (hired_ >= count) return;
        // Signals are the program's: a handler runs on a thread that knows what to do with it.
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        try {
            for (; hired_ < count; ++hired_) std::thread([this] { serve(); }).detach();
        } catch (const std::system_error&) {
        }
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

    [[noreturn]] void serve() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            const auto found = std::find_if(jobs_.begin(), jobs_.end(), [](const Job* job) { return job->open(); });
            if (found == jobs_.end()) {
                const std::uint64_t seen = posted_;
                lock.unlock();
                const bool more = soon([&] { return posted_.load(std::memory_order_relaxed) != seen; });
                lock.lock();
                if (more || posted_ != seen) continue;
                ++asleep_;
                wake_.wait(lock);
                --asleep_;
                continue;
            }
            Job& job = **found;
            const int thread = job.joined_++;
            ++job.helpers_;
            lock.unlock();
            job.work(thread);
            lock.lock();
            if (--job.helpers_ == 0) left_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, left_;
    std::vector<Job*> jobs_;
    std::atomic<std::uint64_t> posted_{0};
    int hired_ = 0, asleep_ = 0;
};

// Never destroyed: its threads outlive main. A forked child has none of them, and begins with a pool of its own.
std::atomic<Pool*> the_pool{nullptr};
[[maybe_unused]] const int kForks = pthread_atfork(nullptr, nullptr, [] { the_pool = nullptr; });

Pool& pool() {
    Pool* found = the_pool;
    if (!found) {
        Pool* const made = new Pool;
        if (the_pool.compare_exchange_strong(found, made))
            found = made;
        else
            delete made;
    }
    return *found;
}

}  // namespace

void run_parts(std::int64_t parts, int threads, std::int64_t share, Part call, const void* work) {
    if (threads > 1 && parts > share) {
        Job job(parts, threads, share, call, work);
        pool().run(job, static_cast<int>(std::min<std::int64_t>(threads, (parts + share - 1) / share)) - 1);
        job.rethrow();
        return;
    }
    const DefaultArithmetic arithmetic;
    for (std::int64_t part = 0; part < parts; ++part) call(work, part, 0);
}

}  // namespace lf
