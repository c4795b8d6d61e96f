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
// Clusters whose price must fall far get more `slack` of their own; rows whose best cluster's price must rise far get
// more reach, that cluster's `leave`. Both keep the arc lists of all other rows short.
//
//     repair(prices λ, arcs):
//         a(i) ← argmin_k c_ik + λ_k;  flow_k ← what complementary slackness asks of n_k;  excess_k ← n_k − flow_k
//         for every node s with excess_s > 0:
//             P ← cheapest path from s to a node with excess < 0        (Dijkstra over reduced costs)
//             λ_v ← λ_v + (length − d_v) for all nodes v nearer than P's end, as far as the slack allows
//             if the slack does not allow all of it: leave s to the next collection of arcs
//             move as many members along P as excess, bounds and equally cheap members allow
//
// Invariants, which hold before and after every path and which `Repair::check` tests where LF_CHECKED is defined:
//
//     1. Σ excess = 0 over the clusters and T.
//     2. low_k ≤ flow_k ≤ high_k.
//     3. excess_k = n_k − flow_k for each cluster, and excess_T = Σ flow − N.
//     4. Reduced costs are ≥ 0 but for rounding: of a → b for every arc of a row of a, of k → T where flow_k < high_k,
//        and of T → k where flow_k > low_k.
//     5. edges_[k] holds the least key of k's members for each cluster they have arcs to. members_[k] has all arcs of
//        the rows of k; arcs of rows that left k may remain in it until renew_edges(k).
//
// Termination. A path ends at a node with excess < 0, each of its edges has a member or room to move, and so at least
// one member moves: Σ |excess| falls by 2 or more with every path, and nothing else raises it. A source that the slack
// stops is left, once for each collection. Where no excess is left, invariants 2 to 4 are the optimality conditions.
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

// First step of a price, as a share of the slack. Not measured by itself: steps adapt within a few passes.
constexpr double kFirstStep = 0.05;

// Factor by which slack and leave grow where a price came to its limit. Not measured by itself.
constexpr double kAsked = 4.0;

// The end of an ascent.
struct Ascent {
    double misplaced;           // Σ_k by how much n_k misses what complementary slackness asks
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

    // Throws std::logic_error, which names the invariant, unless all of them hold.
    void check() const;
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
