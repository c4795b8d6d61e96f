// What a mapping is asked, in plain data: built once by sinkhorn_codes_entry.cpp, read by every instruction set.
#pragma once
#include <cstddef>
#include <cstdint>

namespace lf {

// Codewords lie in panels of this many, one column after the other: [panels][width][kPanel].
constexpr std::int64_t kPanel = 8;

// What all groups share.
struct Mapping {
    const float* x;           // [N, width]
    std::int64_t width;
    const double* panels;     // the finite codewords; the last panel is filled up with copies of the first
    std::int64_t words;       // K
    std::int64_t stride;      // K in whole panels
    const std::int64_t* name; // [words] the caller's index of each
    double epsilon;
    std::int64_t sweeps;
    std::int64_t* codes;      // [N]
};

// The rows of one group.
struct Members {
    const std::int64_t* row;  // [count] where each stands in x
    std::int64_t count;
};

}  // namespace lf
