// for_parts as its callers use it, all at once: for tests/kernels/cpp/test_threads.py. Ends with "ok", or aborts.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include "runtime/parallel.h"

namespace {

void check(bool holds) {
    if (!holds) std::abort();
}

// Every part is done once, and a thread's number belongs to one thread at a time.
void share_out(int parts, int threads, int share) {
    std::vector<int> done(parts);
    std::vector<std::atomic<int>> inside(threads);
    std::atomic<double> work{1.0};
    lf::for_parts(parts, threads, share, [&](std::int64_t part, int thread) {
        check(thread >= 0 && thread < threads && inside[thread].fetch_add(1) == 0);
        for (int i = 0; i < 200; ++i) work.store(work.load(std::memory_order_relaxed) * 0.5, std::memory_order_relaxed);
        ++done[part];
        inside[thread].fetch_sub(1);
    });
    for (const int times : done) check(times == 1);
}

void throw_in_part(int which) {
    std::atomic<int> running{0};
    try {
        lf::for_parts(40, 4, 1, [&](std::int64_t part, int) {
            ++running;
            const bool mine = part == which;
            --running;
            if (mine) throw std::runtime_error("this part");
        });
        check(false);
    } catch (const std::runtime_error&) {
        check(running == 0);
    }
}

void fork_and_share_out() {
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);  // a child that waits for threads it doesn't have
        for (int i = 0; i < 20; ++i) share_out(20, 4, 1);
        _exit(0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    check(status == 0);
    share_out(20, 4, 1);
}

}  // namespace

int main(int count, char**) {
    for (int i = 0; i < 500; ++i) share_out(1 + i % 70, 1 + i % 9, 1 + i % 4);
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 4; ++caller)
        callers.emplace_back([caller] {
            for (int i = 0; i < 300; ++i) share_out(1 + (i * 7 + caller) % 50, 1 + (i + caller) % 6, 1);
        });
    for (std::thread& caller : callers) caller.join();
    for (int i = 0; i < 200; ++i) throw_in_part(i % 40);
    for (int i = 0; i < 50; ++i)
        lf::for_parts(5, 3, 1, [](std::int64_t, int) { share_out(9, 3, 1); });  // a loop within a part
    if (count == 1)
        for (int i = 0; i < 10; ++i) fork_and_share_out();
    std::puts("ok");
}
