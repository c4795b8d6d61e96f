// The repair of an assignment (transport.h) along cheapest paths in the graph of the clusters and one more node T, of
// price 0, that takes up what the bounds leave free:
//
//     a → b   min over members i of a of (c_ib + λ_b) − (c_ia + λ_a) ≥ 0    moves that member
//     k → T   −λ_k, where n_k counts less than high_k        T → k   λ_k, where it counts more than low_k
//
// Moving members along a cheapest path and raising the prices of the nodes before its end by what they are
// nearer keeps every edge ≥ 0, so that the end is an optimum (successive shortest paths; Ahuja, Magnanti and
// Orlin 1993, §9.7).
//
//     repair(prices λ, arcs):
//         a(i) ← argmin_k c_ik + λ_k;  flow_k ← what complementary slackness asks of n_k;  excess_k ← n_k − flow_k
//         for every node s with excess_s > 0:
//             P ← cheapest path from s to a node with excess < 0        (Dijkstra over reduced costs: paths.h)
//             λ_v ← λ_v + (length − d_v) for all nodes v nearer than P's end, as far as the slack allows (potentials.h)
//             if the slack does not allow all of it: leave s to the next collection of arcs
//             move as many members along P as excess, bounds and equally cheap members allow     (members.h)
//
// Invariants, which hold before and after every path and which `check` (repair_check.cpp) tests where LF_CHECKED is
// defined:
//
//     1. Σ excess = 0 over the clusters and T.
//     2. low_k ≤ flow_k ≤ high_k.
//     3. excess_k = n_k − flow_k for each cluster, and excess_T = Σ flow − N.
//     4. Reduced costs are ≥ 0 but for rounding: of a → b for every arc of a row of a, of k → T where flow_k < high_k,
//        and of T → k where flow_k > low_k.
//     5. members_.edges(k) holds the least key of k's members for each cluster they have arcs to. The members of k have
//        all their arcs listed; arcs of rows that left k may remain in the list until members_.renew(k).
//
// Termination. A path ends at a node with excess < 0, each of its edges has a member or room to move, and so at least
// one member moves: Σ |excess| falls by 2 or more with every path, and nothing else raises it. A source that the slack
// stops is left, once for each collection. Where no excess is left, invariants 2 to 4 are the optimality conditions.
#pragma once
#include <cstdint>
#include <vector>

#include "assignment/arcs.h"
#include "assignment/members.h"
#include "assignment/paths.h"
#include "assignment/potentials.h"
#include "assignment/transport.h"

namespace lf {

class Repair {
  public:
    // Starts from argmin_k c_ik + λ_k, the lowest k among equals.
    Repair(const Arcs&, const Bounds&, const Prices&);

    // Goes on with arcs that were extended, or collected anew at `prices()`.
    void renew(const Arcs&, const Prices&);
    // True at the optimum. False where arcs that were left out could matter: renew, with more slack for the cheaper
    // clusters, or more leave for the dearer ones.
    bool run();

    std::vector<double> prices() const { return potentials_.prices(); }
    const std::vector<std::int32_t>& labels() const { return members_.labels(); }
    // [K] the clusters that kept the prices from rising on.
    const std::vector<char>& cheaper() const { return potentials_.cheaper(); }
    const std::vector<char>& dearer() const { return potentials_.dearer(); }

  private:
    // The nearest node to `source` that lacks members; −1 where there is none.
    std::int32_t cheapest_path(std::int32_t source);
    void relax(std::int32_t node);
    void move_along(std::int32_t source, std::int32_t end);
    // Throws std::logic_error, which names the invariant, unless all of them hold.
    void check() const;

    const Bounds& bounds_;
    const Arcs* arcs_;
    const std::int32_t sink_;  // T
    Potentials potentials_;
    Members members_;
    Paths paths_;
    std::vector<std::int64_t> flow_;  // [K] members counted
    std::vector<std::int64_t> excess_;  // [K + 1] members beyond the flow
};

}  // namespace lf
