// Size-constrained k-means, one problem after another; see balanced.cpp.
#pragma once
#include <cstdint>
#include <vector>

#include "assignment/arcs.h"
#include "assignment/transport.h"

namespace lf {

struct Balanced {
    Search rows;  // x, its strides and element; no codebooks
    Layout layout;
    std::size_t (*scratch_bytes)(const Search&);
    CollectArcs collect;
    const Bounds* bounds;
    std::int64_t iterations;  // 1: only the assignment
    double tolerance;         // stop when an iteration lowers the cost by less than this part of it
    int exponent;             // cluster sums count in units of 2^−exponent
    int threads;
};

// centroids [K, width] in and out; of the last assignment labels [rows], prices [K], cost and bound.
void lloyd(const Balanced&, float* centroids, std::int64_t* labels, double* prices, double* cost, double* bound);

}  // namespace lf
