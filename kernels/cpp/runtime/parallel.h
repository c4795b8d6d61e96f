// The one loop that runs on several threads. It owns what each such loop needs: default arithmetic, memory for every
// thread, and exceptions, which would end the process if they left a thread.
//
// The threads are those of a pool of our own (parallel.cpp) and not OpenMP's, which wait for each other by spinning.
// Beside a busy process that costs more than a second thread gains, and it can't be told otherwise once torch has
// loaded the runtime; besides, it hangs a forked child and is not there for every compiler.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/buffer.h"

namespace lf {

// The number of threads for `parts` parts, of `allowed` ones: at least 1.
inline int threads_for(std::int64_t parts, std::int64_t allowed) {
    return static_cast<int>(std::clamp<std::int64_t>(parts, 1, std::max<std::int64_t>(allowed, 1)));
}

// Scratch memory, the same number of bytes for each thread.
class Scratch {
  public:
    Scratch(int threads, std::size_t bytes) {
        for (int thread = 0; thread < threads; ++thread) memory_.emplace_back(bytes);
    }
    void* of(int thread) const { return memory_[thread].data(); }
    float* floats(int thread) const { return memory_[thread].floats(); }

  private:
    std::vector<Buffer> memory_;
};

using Part = void (*)(const void* work, std::int64_t part, int thread);
void run_parts(std::int64_t parts, int threads, std::int64_t share, Part call, const void* work);

// Calls work(part, thread) for part = 0 … parts − 1, in any order, `share` parts at a time; thread < threads. Parts
// must not depend on each other. After the first exception no further share begins, and the exception is thrown here.
template <class Work> void for_parts(std::int64_t parts, int threads, std::int64_t share, const Work& work) {
    const auto call = [](const void* it, std::int64_t part, int thread) {
        (*static_cast<const Work*>(it))(part, thread);
    };
    run_parts(parts, threads, share, call, &work);
}

}  // namespace lf
