// A softmax over all columns for every row, and its product with them, in plain data:
//
//     s_ij = a_i·b_j        p_ij = exp(s_ij − shift)        out_i = Σ_j p_ij b_j
//
// Nothing of the size rows × columns exists. contrastive.cpp and diversity.cpp ask for it.
#pragma once
#include <cstddef>
#include <cstdint>

#include "simd/dispatch.h"

namespace lf {

struct Columns {
    const float* at;  // [count, width]
    std::int64_t count, width;
    float* packed;    // [tiles], as `pack_tile` lays them out
    std::int64_t tile;         // columns scored together
    std::int64_t tile_floats;  // that a packed tile takes
    std::int64_t tiles() const { return (count + tile - 1) / tile; }
};

struct Softmax {
    const float* rows;  // [count, width]
    std::int64_t count;
    Columns columns;
    std::int64_t block;  // rows that go through the columns together

    // One column of each row that is special, or −1; [count] or null. It is left out of the sums, unless
    // `partner_score` asks for its score.
    const std::int64_t* partner;

    // Softmax of the rows: shift_i = log Σ_j exp s_ij.
    double* log_total;     // [count]
    float* partner_score;  // [count] or null
    // Given shifts, one a column: high + low. A padding of one tile holds +inf.
    const float* shift_high;
    const float* shift_low;

    float* out;  // [count, width] or null
};

// One instruction set's kernels.
struct SoftmaxKernels {
    Columns (*plan)(const float* columns, std::int64_t count, std::int64_t width);
    void (*pack_tile)(const Columns&, std::int64_t tile);
    std::size_t (*scratch_bytes)(const Softmax&);
    void (*softmax_block)(const Softmax&, std::int64_t first, void* scratch);
    void (*shifted_block)(const Softmax&, std::int64_t first, void* scratch);
};

LF_KERNEL(extern const SoftmaxKernels kSoftmax)

}  // namespace lf
