// The ascent of the dual (transport.h): prices climb g, each against its cluster's imbalance.
#pragma once
#include <cstdint>
#include <vector>

#include "assignment/arcs.h"
#include "assignment/transport.h"

namespace lf {

// First step of a price, as a share of the slack. Not measured by itself: steps adapt within a few passes.
constexpr double kFirstStep = 0.05;

// The end of an ascent.
struct Ascent {
    double misplaced;           // Σ_k by how much n_k misses what complementary slackness asks
    std::vector<char> cheaper;  // [K] those whose price would fall beyond what the slack covers
    std::vector<char> dearer;   // [K] those whose price would rise beyond it
};

// Moves `now` from `collected`, first in steps of `step`, within the slack. The bounds hold for `of_rows` rows,
// of which the arcs are a sample.
Ascent ascend(const Arcs&, const Bounds&, std::int64_t of_rows, double step, Prices&, int threads);

}  // namespace lf
