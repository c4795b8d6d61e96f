// The request of a search, in plain data: built once by run.cpp, read by every instruction set.
#pragma once
#include <cstddef>
#include <cstdint>

#include "abi.h"
#include "search/codebook.h"
#include "simd/dispatch.h"

namespace lf {

struct Search : Matrix {
    const std::int64_t* index;  // [rows] which rows of x, and of the outputs, are meant; null: all, in order
    std::int64_t levels;
    const Codebook* codebooks;  // [levels]
    std::int64_t beam;          // paths kept; 1 is the greedy search

    std::int64_t* codes;  // [rows, levels]
    float* quantized;     // [rows, width] or null
    float* margins;       // [rows, levels] or null, with errors
    float* errors;        // [rows, levels] or null
    double* scores;       // [rows] of the last level, or null
    float* lower;         // [rows] a bound, from below, of the distance to all other codewords; null, or with scores

    std::int64_t at(std::int64_t row) const { return index ? index[row] : row; }

    std::int64_t stride;  // floats a row of the scratch takes
    std::int64_t block;   // rows searched together
};

LF_KERNEL(extern const Layout kLayout)

}  // namespace lf
