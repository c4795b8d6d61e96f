// The walk that codes describe, r_l = fl32(r_{l−1} − e_{c_l}) from r_0 = x, and what its losses need of it.
#pragma once
#include <cstddef>
#include <cstdint>

namespace lf {

struct ResidualWalk {
    const float* x;  // [rows, width]
    std::int64_t rows, width;
    const float* codebooks;      // [ΣK, width]
    const std::int64_t* starts;  // [levels] first row of each
    std::int64_t levels, words;  // words = ΣK
    const std::int64_t* codes;   // [rows, levels]; a row of −1 takes no part

    float* quantized;  // [rows, width] Σ_l e_{c_l}

    const float* grad_quantized;       // [rows, width]
    const double *to_x, *own, *later;  // [levels] each
    float* grad_x;                     // [rows, width]
    float* grad_codebooks;             // [ΣK, width]
};

// Rows whose squares add up before the others' do: fixed, so that threads don't change the sum.
constexpr std::int64_t kWalkBlock = 256;
// Columns that one thread takes through all rows: a cache line.
constexpr std::int64_t kWalkSlice = 16;

// One instruction set's kernels.
struct WalkKernels {
    // Quantized rows of one block, and errors [levels] += ‖r_l‖²; -> rows that take part.
    std::int64_t (*forward_block)(const ResidualWalk&, std::int64_t first, double* errors, float* residual);
    std::size_t (*slice_bytes)(const ResidualWalk&);
    void (*backward_slice)(const ResidualWalk&, std::int64_t column, void* scratch);
};

}  // namespace lf
