// k-means++: each start is drawn with probability ∝ squared distance to those drawn before.
#pragma once
#include <cstdint>

namespace lf {

struct PlusPlus {
    const float* x;  // [rows, width], strides in elements
    std::int64_t rows, width, row_stride, column_stride;
    std::int64_t picks;
    const double* draws;  // [picks] uniform in [0, 1)
    std::int64_t* picked;  // [picks] rows
};

}  // namespace lf
