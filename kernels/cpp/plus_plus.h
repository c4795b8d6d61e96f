// Greedy k-means++: of a few points, each drawn ∝ weighted squared distance to the picks so far, the one that
// leaves least of it (Arthur and Vassilvitskii 2007, §5).
//
// Coordinates and weights are integers, and so small that Σ weight · distance² is below 2⁵³: float64 adds them up
// exactly, in any order. A pick is a function of points and draws alone.
#pragma once
#include <cstdint>

namespace lf {

// Points whose distances are summed side by side.
constexpr std::int64_t kPointBlock = 16;

// Points in blocks, and what the picks so far leave of them; beyond the last point, zeros.
struct PointBlocks {
    std::int64_t width, blocks;
    const double* x;        // [blocks, width, kPointBlock]
    const double* square;   // [blocks · kPointBlock] ‖x‖²
    const double* weight;   // [blocks · kPointBlock]
    const double* nearest;  // [blocks · kPointBlock] ‖x − pick‖² of the nearest pick
};

// Points that might be picked.
struct Tries {
    std::int64_t count;
    const double* x;       // [count, width]
    const double* square;  // [count]
};

}  // namespace lf
