// Codewords as the assignments read them.
#pragma once
#include <cstdint>

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

}  // namespace lf
