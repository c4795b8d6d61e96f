#include "assignment/members.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace lf {

namespace {
constexpr double kFar = std::numeric_limits<double>::infinity();
}  // namespace

void Members::build(const Arcs& arcs) {
    arcs_ = &arcs;
    std::vector<std::size_t> count(of_.size());
    for (std::int64_t i = 0; i < arcs.rows(); ++i) count[labels_[i]] += arcs.row(i).count - 1;
    for (std::size_t k = 0; k < count.size(); ++k) {
        of_[k].clear();
        of_[k].reserve(count[k]);
    }
    for (std::int64_t i = 0; i < arcs.rows(); ++i) enter(static_cast<std::int32_t>(i));
    for (std::size_t k = 0; k < count.size(); ++k) renew(static_cast<std::int32_t>(k));
}

void Members::enter(std::int32_t row) {
    const Arcs::Row arcs = arcs_->row(row);
    if (arcs.count < 2) return;
    const std::int32_t own = labels_[row];
    const double held = arcs.cost_of(own);
    for (std::int64_t i = 0; i < arcs.count; ++i)
        if (arcs.cluster[i] != own) of_[own].push_back({arcs.cost[i] - held, row, arcs.cluster[i]});
}

void Members::move(std::int32_t row, std::int32_t to) {
    labels_[row] = to;
    enter(row);
}

void Members::renew(std::int32_t cluster) {
    auto& moves = of_[cluster];
    auto& edges = edges_[cluster];
    moves.erase(std::remove_if(moves.begin(), moves.end(), [&](const Move& m) { return labels_[m.row] != cluster; }),
                moves.end());
    edges.clear();
    for (const Move& move : moves) {
        if (least_[move.to] == kFar) edges.push_back({0.0, move.to});
        least_[move.to] = std::min(least_[move.to], move.key);
    }
    for (Edge& edge : edges) {
        edge.key = least_[edge.to];
        least_[edge.to] = kFar;
    }
}

std::vector<std::int32_t> Members::cheapest(std::int32_t from, std::int32_t to) const {
    double key = kFar;
    for (const Edge& edge : edges_[from])
        if (edge.to == to) key = edge.key;
    std::vector<std::int32_t> rows;
    for (const Move& move : of_[from])
        if (move.to == to && move.key == key) rows.push_back(move.row);
    std::sort(rows.begin(), rows.end());
    return rows;
}

}  // namespace lf
