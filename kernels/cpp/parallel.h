// The one loop that runs on several threads. It owns what each such loop needs: default arithmetic, memory for every
// thread, and exceptions, which would end the process if they left a parallel region.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "buffer.h"
#include "dispatch.h"

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

// Calls work(part, thread) for part = 0 … parts − 1, in any order, `share` parts at a time; thread < threads. Parts
// must not depend on each other. After the first exception no further part begins, and the exception is thrown here.
template <class Work> void for_parts(std::int64_t parts, int threads, std::int64_t share, const Work& work) {
    if (threads <= 1) {
        const DefaultArithmetic arithmetic;
        for (std::int64_t part = 0; part < parts; ++part) work(part, 0);
        return;
    }
#ifdef _OPENMP
    std::exception_ptr first;
    bool failed = false;
#pragma omp parallel num_threads(threads)
    {
        const DefaultArithmetic arithmetic;
        const int thread = omp_get_thread_num();
#pragma omp for schedule(dynamic, share)
        for (std::int64_t part = 0; part < parts; ++part) {
            bool skip;
#pragma omp atomic read
            skip = failed;
            if (skip) continue;
            try {
                work(part, thread);
            } catch (...) {
#pragma omp critical(lf_first_exception)
                if (!first) first = std::current_exception();
#pragma omp atomic write
                failed = true;
            }
        }
    }
    if (first) std::rethrow_exception(first);
#else
    for_parts(parts, 1, share, work);
#endif
}

}  // namespace lf
