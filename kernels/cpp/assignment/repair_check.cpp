// The test of the repair's invariants (repair.h), for the tests: it looks at every arc.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "assignment/repair.h"

namespace lf {

void Repair::check() const {
    const auto hold = [](bool holds, const char* what) {
        if (!holds) throw std::logic_error(what);
    };
    std::vector<std::int64_t> members(sink_);
    for (const std::int32_t label : labels()) ++members[label];
    std::int64_t total = 0, flow = 0;
    double largest = 0.0;
    for (std::int32_t k = 0; k < sink_; ++k) {
        hold(bounds_.low[k] <= flow_[k] && flow_[k] <= bounds_.high[k], "invariant 2: a flow is outside of its bounds");
        hold(excess_[k] == members[k] - flow_[k], "invariant 3: an excess is not what a cluster has too many");
        total += excess_[k];
        flow += flow_[k];
        largest = std::max(largest, std::abs(potentials_[k]));
    }
    hold(excess_[sink_] == flow - arcs_->rows(), "invariant 3: the excess of T is not what is left over");
    hold(total + excess_[sink_] == 0, "invariant 1: excess does not add up to 0");
    for (std::int64_t i = 0; i < arcs_->rows(); ++i) {
        const Arcs::Row row = arcs_->row(i);
        for (std::int64_t arc = 0; arc < row.count; ++arc) largest = std::max(largest, std::abs(row.cost[arc]));
    }
    const double rounding = 0x1p-40 * largest;
    const auto reduced = [&](std::int32_t from, std::int32_t to, double key) {
        return key + potentials_[to] - potentials_[from];
    };
    for (std::int32_t k = 0; k < sink_; ++k) {
        if (flow_[k] < bounds_.high[k])
            hold(reduced(k, sink_, 0.0) >= -rounding, "invariant 4: an edge to T is below 0");
        if (flow_[k] > bounds_.low[k])
            hold(reduced(sink_, k, 0.0) >= -rounding, "invariant 4: an edge from T is below 0");
    }
    for (std::int64_t i = 0; i < arcs_->rows(); ++i) {
        const Arcs::Row row = arcs_->row(i);
        const std::int32_t own = labels()[i];
        const double held = row.cost_of(own);
        const auto& edges = members_.edges(own);
        for (std::int64_t arc = 0; arc < row.count; ++arc) {
            const std::int32_t to = row.cluster[arc];
            const double key = row.cost[arc] - held;
            hold(reduced(own, to, key) >= -rounding, "invariant 4: a move would save more than nothing");
            const auto edge =
                std::find_if(edges.begin(), edges.end(), [&](const Members::Edge& e) { return e.to == to; });
            hold(to == own || (edge != edges.end() && edge->key <= key),
                 "invariant 5: an edge is not the cheapest move");
        }
    }
}

}  // namespace lf
