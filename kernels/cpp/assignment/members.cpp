#include "assignment/members.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace lf {

namespace {
constexpr double kFar = std::numeric_limits<double>::infinity();
// Up to this many pairs rows are looked through sooner than moves are listed. Not measured by itself.
constexpr std::int64_t kFewPairs = 1 << 16;
}  // namespace

void Members::build(const Arcs& arcs) {
    arcs_ = &arcs;
    const std::int64_t pairs = arcs.rows() * static_cast<std::int64_t>(of_.size());
    table_ = pairs <= kFewPairs && arcs.count() == pairs;
    if (table_) {
        for (std::size_t k = 0; k < of_.size(); ++k) renew(static_cast<std::int32_t>(k));
        return;
    }
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
    if (!table_) enter(row);
}

void Members::renew(std::int32_t cluster) {
    if (table_) {
        find_edges(cluster);
        return;
    }
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

void Members::find_edges(std::int32_t cluster) {
    const auto clusters = static_cast<std::int32_t>(of_.size()), rows = static_cast<std::int32_t>(labels_.size());
    double* const least = least_.data();
    bool any = false;
    for (std::int32_t row = 0; row < rows; ++row) {
        if (labels_[row] != cluster) continue;
        any = true;
        const double* const cost = arcs_->row(row).cost;
        for (std::int32_t k = 0; k < clusters; ++k) least[k] = std::min(least[k], cost[k] - cost[cluster]);
    }
    auto& edges = edges_[cluster];
    edges.clear();
    for (std::int32_t k = 0; any && k < clusters; ++k)
        if (k != cluster) edges.push_back({least[k], k});
    std::fill(least_.begin(), least_.end(), kFar);
}

std::vector<std::int32_t> Members::cheapest(std::int32_t from, std::int32_t to) const {
    double key = kFar;
    for (const Edge& edge : edges_[from])
        if (edge.to == to) key = edge.key;
    std::vector<std::int32_t> rows;
    for (std::int32_t row = 0; table_ && row < static_cast<std::int32_t>(labels_.size()); ++row) {
        if (labels_[row] != from) continue;
        const double* const cost = arcs_->row(row).cost;
        if (cost[to] - cost[from] == key) rows.push_back(row);
    }
    for (const Move& move : of_[from])
        if (move.to == to && move.key == key) rows.push_back(move.row);
    std::sort(rows.begin(), rows.end());
    return rows;
}

}  // namespace lf
