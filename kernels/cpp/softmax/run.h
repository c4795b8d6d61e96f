// A softmax pass over all rows on several threads: what contrastive.cpp and diversity.cpp share.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "simd/dispatch.h"
#include "runtime/guard.h"
#include "runtime/parallel.h"
#include "softmax/softmax.h"

namespace lf {

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
        for_parts(tiles, threads_for(tiles), 1, [&](std::int64_t tile, int) { kernels_.pack_tile(columns, tile); });
        return columns;
    }

    // Rows don't depend on each other: neither the split nor the order changes a result.
    void rows(Softmax softmax, bool shifted) const {
        // Many rows share a tile of columns in the L2 cache; few must be enough for all threads.
        softmax.block = softmax.count < 4096 ? 48 : 192;
        const std::int64_t blocks = (softmax.count + softmax.block - 1) / softmax.block;
        const int threads = threads_for(blocks);
        const auto pass = shifted ? kernels_.shifted_block : kernels_.softmax_block;
        const Scratch scratch(threads, kernels_.scratch_bytes(softmax));
        for_parts(blocks, threads, 1,
                  [&](std::int64_t block, int thread) { pass(softmax, block * softmax.block, scratch.of(thread)); });
    }

    int threads_for(std::int64_t parts) const { return lf::threads_for(parts, threads_); }

  private:
    SoftmaxKernels kernels_;
    std::int32_t threads_;
};

}  // namespace lf
