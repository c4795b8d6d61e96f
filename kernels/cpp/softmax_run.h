// A softmax pass over all rows on several threads: what contrastive_entry.cpp and diversity_entry.cpp share.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "buffer.h"
#include "dispatch.h"
#include "guard.h"
#include "softmax.h"

namespace lf {

#define LF_DECLARE_SOFTMAX(set)            \
    namespace set {                        \
    extern const SoftmaxKernels kSoftmax;  \
    }
LF_FOR_EACH_SET(LF_DECLARE_SOFTMAX)

// Shifts in two float32 parts, all high ones first: together they hold what one float32 would round off.
inline std::vector<float> split_shifts(const double* shifts, const Columns& columns) {
    const std::int64_t padded = columns.tiles() * columns.tile;
    std::vector<float> parts(2 * padded, 0.0f);
    for (std::int64_t column = 0; column < columns.count; ++column) {
        parts[column] = static_cast<float>(shifts[column]);
        parts[padded + column] = static_cast<float>(shifts[column] - static_cast<double>(parts[column]));
    }
    return parts;
}

class SoftmaxRun {
  public:
    SoftmaxRun(std::int32_t set, std::int32_t threads)
        : kernels_(LF_PICK(set, kSoftmax)), threads_(std::max(threads, 1)) {}

    // Packed columns live as long as the memory they return in.
    Columns pack(const float* at, std::int64_t count, std::int64_t width, std::vector<Buffer>& memory) const {
        Columns columns = kernels_.plan(at, count, width);
        const std::int64_t tiles = columns.tiles();
        memory.emplace_back(tiles * columns.tile_floats * sizeof(float));
        columns.packed = memory.back().floats();
#pragma omp parallel for num_threads(threads_for(tiles)) schedule(static)
        for (std::int64_t tile = 0; tile < tiles; ++tile) kernels_.pack_tile(columns, tile);
        return columns;
    }

    // Rows don't depend on each other: neither the split nor the order changes a result.
    void rows(Softmax softmax, bool shifted) const {
        // Many rows share a tile of columns in the L2 cache; few must be enough for all threads.
        softmax.block = softmax.count < 4096 ? 48 : 192;
        const std::int64_t blocks = (softmax.count + softmax.block - 1) / softmax.block;
        const int count = threads_for(blocks);
        const auto pass = shifted ? kernels_.shifted_block : kernels_.softmax_block;
        std::vector<Buffer> scratch;
        for (int thread = 0; thread < count; ++thread)
            scratch.emplace_back(kernels_.scratch_bytes(softmax));
#pragma omp parallel for num_threads(count) schedule(dynamic)
        for (std::int64_t block = 0; block < blocks; ++block) {
#ifdef _OPENMP
            const int thread = omp_get_thread_num();
#else
            const int thread = 0;
#endif
            const DefaultArithmetic arithmetic;
            pass(softmax, block * softmax.block, scratch[thread].data());
        }
    }

    int threads_for(std::int64_t parts) const {
        return static_cast<int>(std::clamp<std::int64_t>(parts, 1, threads_));
    }

  private:
    SoftmaxKernels kernels_;
    std::int32_t threads_;
};

}  // namespace lf
