// The assignment of rows to clusters of bounded size at least cost, along arcs.
//
//     minimise Σ_i c_{i,a(i)}   with   low_k ≤ n_k = |{i : a(i) = k}| ≤ high_k
//
// is a transportation problem; its dual has one price λ_k per cluster:
//
//     g(λ) = Σ_i min_k (c_ik + λ_k) − Σ_k (λ_k⁺ high_k − λ_k⁻ low_k)
//
// Prices first climb g (ascent.h), each against its cluster's imbalance, until few rows are misplaced. Then the
// assignment a(i) = argmin_k c_ik + λ_k is repaired along cheapest paths (repair.h), which ends at an optimum, and
// g(λ) proves it.
//
// Arcs hold the clusters with a score of at most the row's least, that of cluster j, plus slack_k + leave_j at
// prices λ⁰. No other cluster can become the best of a row, nor a step of a path, while every cluster k is within its
// slack of all others:
//
//     max_j (λ_j − λ⁰_j − leave_j) − (λ_k − λ⁰_k) ≤ slack_k
//
// Clusters whose price must fall far get more `slack` of their own; rows whose best cluster's price must rise far get
// more reach, that cluster's `leave`. Both keep the arc lists of all other rows short.
#pragma once
#include <cstdint>
#include <vector>

#include "assignment/arcs.h"

namespace lf {

struct Bounds {
    std::vector<std::int64_t> low, high;  // [K]
    std::int64_t clusters() const { return static_cast<std::int64_t>(low.size()); }
};

// Prices, and the prices and the slack that the arcs were collected for.
struct Prices {
    std::vector<double> now, collected, slack, leave;  // [K] λ, λ⁰
};

// Factor by which slack and leave grow where a price came to its limit. Not measured by itself.
constexpr double kAsked = 4.0;

// The margin (second best score − best) that `share` of the rows don't exceed; +inf where arcs don't reach so far.
double margin(const Arcs&, const std::vector<double>& prices, double share);

// g(λ), of Σ_i min_k (c_ik + λ_k) or of arcs, and the cost of an assignment: their difference is the gap.
double dual(double least, const Bounds&, const std::vector<double>& prices);
double dual(const Arcs&, const Bounds&, const std::vector<double>& prices);
double cost(const Arcs&, const std::vector<std::int32_t>& labels);

}  // namespace lf
