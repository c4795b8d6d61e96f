// The assignment of rows to clusters of bounded size at least cost, along arcs.
//
//     minimise Σ_i c_{i,a(i)}   with   low_k ≤ n_k = |{i : a(i) = k}| ≤ high_k
//
// is a transportation problem; its dual has one price λ_k per cluster:
//
//     g(λ) = Σ_i min_k (c_ik + λ_k) − Σ_k (λ_k⁺ high_k − λ_k⁻ low_k)
//
// Prices first climb g, each against its cluster's imbalance, until few rows are misplaced. Then the
// assignment a(i) = argmin_k c_ik + λ_k is repaired along cheapest paths in the graph of the clusters and one
// more node T, of price 0, that takes up what the bounds leave free:
//
//     a → b   min over members i of a of (c_ib + λ_b) − (c_ia + λ_a) ≥ 0    moves that member
//     k → T   −λ_k, where n_k counts less than high_k        T → k   λ_k, where it counts more than low_k
//
// Moving members along a cheapest path and raising the prices of the nodes before its end by what they are
// nearer keeps every edge ≥ 0, so that the end is an optimum (successive shortest paths; Ahuja, Magnanti and
// Orlin 1993, §9.7), and g(λ) proves it.
//
// Arcs hold the clusters with a score of at most the row's least, that of cluster j, plus slack_k + leave_j at
// prices λ⁰. The others can't become anybody's best, nor a step of a path, while every cluster k is within its
// slack of all others:
//
//     max_j (λ_j − λ⁰_j − leave_j) − (λ_k − λ⁰_k) ≤ slack_k
//
// A few that grow much cheaper want slack, and a few that grow much dearer leave: both spare the other rows.
#pragma once
#include <cstdint>
#include <vector>

#include "assignment/arcs.h"

namespace lf {

struct Bounds {
    std::vector<std::int64_t> low, high;  // [K]
    std::int64_t clusters() const { return static_cast<std::int64_t>(low.size()); }
};

// Prices, and what arcs were collected for.
struct Prices {
    std::vector<double> now, collected, slack, leave;  // [K] λ, λ⁰
};

// The first step of a price, in parts of the slack.
constexpr double kFirstStep = 0.05;

// What a price was denied is asked for so many times over.
constexpr double kAsked = 4.0;

// How an ascent ended.
struct Ascent {
    double misplaced;          // Σ_k of what complementary slackness lacks
    std::vector<char> cheaper;  // [K] those whose price would fall beyond what the slack covers
    std::vector<char> dearer;   // [K] those whose price would rise beyond it
};

// Moves `now` from `collected`, first in steps of `step`, within the slack. The bounds hold for `of_rows` rows,
// of which the arcs are a sample.
Ascent ascend(const Arcs&, const Bounds&, std::int64_t of_rows, double step, Prices&, int threads);

// The margin (second best score − best) that `share` of the rows don't exceed; +inf where arcs don't reach so far.
double margin(const Arcs&, const std::vector<double>& prices, double share);

// g(λ), and the cost of an assignment: what is left between them is the gap.
double dual(const Arcs&, const Bounds&, const std::vector<double>& prices);
double cost(const Arcs&, const std::vector<std::int32_t>& labels);

class Repair {
  public:
    // Starts from argmin_k c_ik + λ_k, the lowest k among equals.
    Repair(const Arcs&, const Bounds&, const Prices&);

    // Goes on with arcs that were collected anew at `prices()`.
    void renew(const Arcs&, const Prices&);
    // True at the optimum. False where arcs that were left out could matter: renew, with more slack for the cheaper
    // ones, or more leave for the dearer ones.
    bool run();

    std::vector<double> prices() const;
    const std::vector<std::int32_t>& labels() const { return labels_; }
    // [K] the clusters that kept the prices from rising on.
    const std::vector<char>& cheaper() const { return cheaper_; }
    const std::vector<char>& dearer() const { return dearer_; }

  private:
    struct Member {  // of a cluster that could also be in another
        double key;  // what the move would cost, prices aside
        std::int32_t row, to;
    };
    struct Edge {
        double key;
        std::int32_t to;
    };

    void build();
    void enter(std::int32_t row);
    void renew_edges(std::int32_t cluster);
    std::int32_t cheapest_path(std::int32_t source);
    void relax(std::int32_t node, double distance);
    void offer(std::int32_t from, std::int32_t to, double distance);
    bool raise_prices(double length);
    void move_along(std::int32_t source, std::int32_t end);
    std::vector<std::int32_t> movers(std::int32_t from, std::int32_t to) const;

    const Bounds& bounds_;
    const Arcs* arcs_ = nullptr;
    const std::int32_t sink_;                   // T
    std::vector<double> potential_;             // [K + 1] prices
    Prices of_arcs_;
    std::vector<char> cheaper_, dearer_;        // [K]
    std::vector<std::int32_t> labels_;          // [N]
    std::vector<std::int64_t> flow_, excess_;   // [K] members counted, [K + 1] what is too many
    std::vector<std::vector<Member>> members_;  // [K]
    std::vector<std::vector<Edge>> edges_;      // [K]

    std::vector<double> distance_;        // [K + 1] of one search
    std::vector<std::int32_t> parent_;    // [K + 1]
    std::vector<std::int32_t> reached_;   // nodes with a distance
    std::vector<char> final_;             // [K + 1]
    std::vector<std::pair<double, std::int32_t>> heap_;
    std::vector<double> least_;           // [K] of one cluster's edges
};

}  // namespace lf
