// Which rows need no search: their codeword is proven to be the nearest still.
#pragma once
#include <cstddef>
#include <cstdint>

#include "search/search.h"

namespace lf {

// A codeword that moved far, seen from another: its number, and a lower bound of how far it lies from there.
struct Far {
    float distance;
    std::int32_t number;
};

struct StillNearest : Matrix {
    const std::int64_t* codes;  // [rows] of the codewords before they moved; −1: unknown
    const float* bounds;        // [rows] no other codeword was nearer than this
    const float* words;         // [K, stride] as they are now, zeros beyond the width
    const float* fall;          // [K] how far any codeword but k and the far ones has moved, at most
    const std::int64_t* far;    // [far_count] those that moved most
    std::int64_t far_count;
    Far* near;                  // [K, far_count] the far ones but k itself, the nearest first
    std::int64_t stride;

    bool* kept;      // [rows] whether the row is proven; scores and lower are written only where it is
    double* scores;  // [rows]
    float* lower;    // [rows] as `bounds`, of the codewords as they are now
};

}  // namespace lf
