#include "assignment/repair.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace lf {

namespace {
// Whether every path is preceded by a test of the invariants, which costs more than the path.
#ifdef LF_CHECKED
constexpr bool kChecked = true;
#else
constexpr bool kChecked = false;
#endif
}  // namespace

Repair::Repair(const Arcs& arcs, const Bounds& bounds, const Prices& prices)
    : bounds_(bounds),
      arcs_(&arcs),
      sink_(static_cast<std::int32_t>(bounds.clusters())),
      potentials_(prices),
      members_(arcs.rows(), bounds.clusters()),
      paths_(bounds.clusters() + 1),
      flow_(bounds.clusters()),
      excess_(bounds.clusters() + 1) {
    std::vector<std::int64_t> count(bounds.clusters());
    for (std::int64_t i = 0; i < arcs.rows(); ++i) {
        const Arcs::Row row = arcs.row(i);
        const std::int32_t label = row.cluster[best_of(row, prices.now).at];
        members_.labels()[i] = label;
        ++count[label];
    }
    for (std::int32_t k = 0; k < sink_; ++k) {
        // What complementary slackness asks of each cluster at these prices.
        flow_[k] = prices.now[k] > 0   ? bounds.high[k]
                   : prices.now[k] < 0 ? bounds.low[k]
                                       : std::clamp(count[k], bounds.low[k], bounds.high[k]);
        excess_[k] = count[k] - flow_[k];
        excess_[sink_] += flow_[k];
    }
    excess_[sink_] -= arcs.rows();
    members_.build(arcs);
}

void Repair::renew(const Arcs& arcs, const Prices& prices) {
    arcs_ = &arcs;
    potentials_.renew(prices);
    std::vector<std::int32_t>& labels = members_.labels();
    for (std::int64_t i = 0; i < arcs.rows(); ++i) {
        const Arcs::Row row = arcs.row(i);
        if (row.has(labels[i])) continue;
        // Its own cluster is its best but for rounding, which a tiny slack may not cover.
        --excess_[labels[i]];
        labels[i] = row.cluster[best_of(row, potentials_.now()).at];
        ++excess_[labels[i]];
    }
    members_.build(arcs);
}

bool Repair::run() {
    potentials_.forget_limits();
    bool done = true;
    for (std::int32_t source = 0; source <= sink_; ++source)
        while (excess_[source] > 0) {
            if (kChecked) check();
            const std::int32_t end = cheapest_path(source);
            if (!potentials_.raise(paths_, end < 0 ? Paths::kFar : paths_.distance(end))) {
                done = false;  // others may go on: what all of them lack is collected at once
                break;
            }
            if (end < 0) throw std::logic_error("no assignment lies within the bounds");
            move_along(source, end);
        }
    if (kChecked) check();
    return done;
}

std::int32_t Repair::cheapest_path(std::int32_t source) {
    paths_.start(source);
    for (std::int32_t node = paths_.next(); node >= 0; node = paths_.next()) {
        if (excess_[node] < 0) return node;
        relax(node);
    }
    return -1;
}

void Repair::relax(std::int32_t node) {
    const double distance = paths_.distance(node), potential = potentials_[node];
    // Edges are ≥ 0 but for rounding.
    const auto through = [&](std::int32_t to, double key) {
        paths_.offer(node, to, distance + std::max(key + potentials_[to] - potential, 0.0));
    };
    if (node == sink_) {
        for (std::int32_t k = 0; k < sink_; ++k)
            if (flow_[k] > bounds_.low[k]) through(k, 0.0);
        return;
    }
    for (const Members::Edge& edge : members_.edges(node)) through(edge.to, edge.key);
    if (flow_[node] < bounds_.high[node]) through(sink_, 0.0);
}

void Repair::move_along(std::int32_t source, std::int32_t end) {
    struct Step {
        std::int32_t from, to;
        std::vector<std::int32_t> rows;
    };
    std::vector<Step> steps;
    std::int64_t amount = std::min(excess_[source], -excess_[end]);
    for (std::int32_t to = end; to != source; to = paths_.parent(to)) {
        const std::int32_t from = paths_.parent(to);
        steps.push_back({from, to, {}});
        if (to == sink_) {
            amount = std::min(amount, bounds_.high[from] - flow_[from]);
        } else if (from == sink_) {
            amount = std::min(amount, flow_[to] - bounds_.low[to]);
        } else {
            steps.back().rows = members_.cheapest(from, to);
            amount = std::min(amount, static_cast<std::int64_t>(steps.back().rows.size()));
        }
    }
    excess_[source] -= amount;
    excess_[end] += amount;
    for (const Step& step : steps) {
        if (step.to == sink_) {
            flow_[step.from] += amount;
        } else if (step.from == sink_) {
            flow_[step.to] -= amount;
        } else {
            for (std::int64_t i = 0; i < amount; ++i) members_.move(step.rows[i], step.to);
        }
    }
    for (const Step& step : steps) {
        if (step.to != sink_) members_.renew(step.to);
        if (step.from == source && source != sink_) members_.renew(source);
    }
}

}  // namespace lf
