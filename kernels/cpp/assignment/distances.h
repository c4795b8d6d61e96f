// Codewords as the assignments read them.
#pragma once
#include <cstdint>

#include "simd/dispatch.h"

namespace lf {

// Codewords whose distances are summed together.
constexpr int kTableBlock = 16;

struct DistanceTable {
    std::int64_t width, stride;  // stride: codewords in whole blocks
    const double* words;         // [stride / kTableBlock, width, kTableBlock]; zeros beyond the last codeword
};

// The codes of a group, as a shortest path over them goes. All arrays are [stride].
struct Edges {
    std::int64_t stride;
    const double *price, *closed;
    double* reach;
    std::int64_t* through;  // the row by which a code was reached
};

LF_KERNEL(void squared_distances(const DistanceTable&, const float* x, double* distance))
LF_KERNEL(double relax(const Edges&, const double* cost, double base, double floor, std::int64_t row))

}  // namespace lf
