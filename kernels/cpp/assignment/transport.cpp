#include "assignment/transport.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "abi.h"
#include "runtime/parallel.h"

namespace lf {
namespace {

constexpr double kFar = std::numeric_limits<double>::infinity();
// At most so many passes of price ascent, and at most so many in a row without progress. Neither decides a result, for
// the repair reaches the optimum from any prices, nor has either been measured by itself.
constexpr int kPasses = 80, kPatience = 12;
constexpr double kProgress = 0.98;
// A price's step grows while its imbalance keeps its sign, and shrinks where the sign changes (as in Rprop, Riedmiller
// and Braun 1993, whose factors are 1.2 and 0.5).
constexpr double kGrow = 1.3, kShrink = 0.4;
// Shares of the slack that the ascent may use, upwards and downwards; the repair's paths need the rest.
constexpr double kUp = 0.5, kDown = 0.9;
// Whether every path is preceded by a test of the invariants, which costs more than the path.
#ifdef LF_CHECKED
constexpr bool kChecked = true;
#else
constexpr bool kChecked = false;
#endif
// Rows that are worth a second thread, and rows of a part.
constexpr std::int64_t kParallelRows = 1 << 16, kShare = 1 << 12;

struct Best {
    std::int64_t at;  // which of the arcs
    double score, second;
};

Best best_of(const Arcs::Row& row, const std::vector<double>& prices) {
    Best best{0, kFar, kFar};
    for (std::int64_t i = 0; i < row.count; ++i) {
        const double score = row.cost[i] + prices[row.cluster[i]];
        if (score < best.score) {
            best.second = best.score;
            best.score = score;
            best.at = i;
        } else if (score < best.second) {
            best.second = score;
        }
    }
    return best;
}

// Rows with more than one arc, and how many of the others each cluster has for certain.
struct Contested {
    std::vector<std::int64_t> begin{0};
    std::vector<std::int32_t> cluster;
    std::vector<double> cost;
    std::vector<std::int64_t> settled;

    Contested(const Arcs& arcs, std::int64_t clusters) : settled(clusters) {
        for (std::int64_t i = 0; i < arcs.rows(); ++i) {
            const Arcs::Row row = arcs.row(i);
            if (row.count == 1) {
                ++settled[row.cluster[0]];
                continue;
            }
            cluster.insert(cluster.end(), row.cluster, row.cluster + row.count);
            cost.insert(cost.end(), row.cost, row.cost + row.count);
            begin.push_back(static_cast<std::int64_t>(cluster.size()));
        }
    }
    std::int64_t rows() const { return static_cast<std::int64_t>(begin.size()) - 1; }

    // n_k at these prices.
    std::vector<std::int64_t> count(const std::vector<double>& prices, int threads) const {
        std::vector<std::int64_t> total = settled;
        if (rows() < kParallelRows) threads = 1;
        std::vector<std::vector<std::int64_t>> parts(threads, std::vector<std::int64_t>(total.size()));
        for_parts((rows() + kShare - 1) / kShare, threads, 1, [&](std::int64_t part, int thread) {
            std::vector<std::int64_t>& mine = parts[thread];
            const std::int64_t last = std::min((part + 1) * kShare, rows());
            for (std::int64_t i = part * kShare; i < last; ++i) {
                std::int32_t best = cluster[begin[i]];
                double least = cost[begin[i]] + prices[best];
                for (std::int64_t arc = begin[i] + 1; arc < begin[i + 1]; ++arc) {
                    const double score = cost[arc] + prices[cluster[arc]];
                    best = score < least ? cluster[arc] : best;
                    least = score < least ? score : least;
                }
                ++mine[best];
            }
        });
        for (const std::vector<std::int64_t>& mine : parts)
            for (std::size_t k = 0; k < total.size(); ++k) total[k] += mine[k];
        return total;
    }
};

}  // namespace

Ascent ascend(const Arcs& arcs, const Bounds& bounds, std::int64_t of_rows, double first_step, Prices& prices,
              int threads) {
    const std::int64_t k_count = bounds.clusters();
    const Contested contested(arcs, k_count);
    const double share = arcs.rows() == of_rows ? 1.0 : static_cast<double>(arcs.rows()) / static_cast<double>(of_rows);
    const double even = std::max(static_cast<double>(arcs.rows()) / static_cast<double>(k_count), 1.0);
    // Upwards all prices share what the least slack allows, and each has its leave; downwards, the rest of its slack.
    const double up = kUp * *std::min_element(prices.slack.begin(), prices.slack.end());
    std::vector<double> price = prices.now, step(k_count, first_step), before(k_count, 0.0);
    Ascent best{kFar, std::vector<char>(k_count), std::vector<char>(k_count)}, at = best;
    int patience = kPatience;
    for (int pass = 0; pass < kPasses && patience > 0; ++pass, --patience) {
        const std::vector<std::int64_t> counts = contested.count(price, threads);
        std::vector<double> moved = price;
        at.misplaced = 0.0;
        for (std::int64_t k = 0; k < k_count; ++k) {
            // The subgradient of g: an over-full cluster grows dearer, an under-full one cheaper.
            const double above = counts[k] - share * static_cast<double>(bounds.high[k]);
            const double below = counts[k] - share * static_cast<double>(bounds.low[k]);
            const double excess = price[k] > 0   ? above
                                  : price[k] < 0 ? below
                                                 : std::max(above, 0.0) + std::min(below, 0.0);
            at.misplaced += std::abs(excess);
            const double sign = excess > 0 ? 1.0 : excess < 0 ? -1.0 : 0.0;
            step[k] *= sign * before[k] > 0 ? kGrow : sign * before[k] < 0 ? kShrink : 1.0;
            before[k] = sign;
            double to = price[k] + sign * step[k] * std::min(std::abs(excess) / even, 1.0);
            if (to * price[k] < 0) to = 0.0;  // where its bound stops binding
            const double lowest = prices.collected[k] + up - kDown * prices.slack[k],
                         highest = prices.collected[k] + up + kDown * prices.leave[k];
            moved[k] = std::clamp(to, lowest, highest);
            at.cheaper[k] = to < lowest;
            at.dearer[k] = to > highest;
        }
        if (at.misplaced < kProgress * best.misplaced) patience = kPatience;
        if (at.misplaced < best.misplaced) {
            best = at;
            prices.now = price;
        }
        if (at.misplaced < 1.0) break;
        price = std::move(moved);
    }
    return best;
}

double margin(const Arcs& arcs, const std::vector<double>& prices, double share) {
    std::vector<double> margins;
    for (std::int64_t i = 0; i < arcs.rows(); ++i) {
        const Arcs::Row row = arcs.row(i);
        if (row.count < 2) continue;
        const Best best = best_of(row, prices);
        margins.push_back(best.second - best.score);
    }
    const auto rank = static_cast<std::size_t>(share * static_cast<double>(arcs.rows()));
    if (rank >= margins.size()) return kFar;
    std::nth_element(margins.begin(), margins.begin() + static_cast<std::ptrdiff_t>(rank), margins.end());
    return margins[rank];
}

double dual(const Arcs& arcs, const Bounds& bounds, const std::vector<double>& prices) {
    double total = 0.0, part = 0.0;
    for (std::int64_t i = 0; i < arcs.rows(); ++i) {
        part += best_of(arcs.row(i), prices).score;
        if ((i + 1) % Arcs::kChunk == 0 || i + 1 == arcs.rows()) {  // sums of sums: a small rounding
            total += part;
            part = 0.0;
        }
    }
    for (std::int64_t k = 0; k < bounds.clusters(); ++k)
        total -= prices[k] * static_cast<double>(prices[k] > 0 ? bounds.high[k] : bounds.low[k]);
    return total;
}

double cost(const Arcs& arcs, const std::vector<std::int32_t>& labels) {
    double total = 0.0, part = 0.0;
    for (std::int64_t i = 0; i < arcs.rows(); ++i) {
        const Arcs::Row row = arcs.row(i);
        part += row.cost[std::lower_bound(row.cluster, row.cluster + row.count, labels[i]) - row.cluster];
        if ((i + 1) % Arcs::kChunk == 0 || i + 1 == arcs.rows()) {
            total += part;
            part = 0.0;
        }
    }
    return total;
}

Repair::Repair(const Arcs& arcs, const Bounds& bounds, const Prices& prices)
    : bounds_(bounds),
      arcs_(&arcs),
      sink_(static_cast<std::int32_t>(bounds.clusters())),
      potential_(prices.now),
      of_arcs_(prices),
      cheaper_(bounds.clusters()),
      dearer_(bounds.clusters()),
      labels_(arcs.rows()),
      flow_(bounds.clusters()),
      excess_(bounds.clusters() + 1),
      members_(bounds.clusters()),
      edges_(bounds.clusters()),
      distance_(bounds.clusters() + 1, kFar),
      parent_(bounds.clusters() + 1, -1),
      final_(bounds.clusters() + 1),
      least_(bounds.clusters(), kFar) {
    potential_.push_back(0.0);
    std::vector<std::int64_t> count(bounds.clusters());
    for (std::int64_t i = 0; i < arcs.rows(); ++i) {
        const Arcs::Row row = arcs.row(i);
        labels_[i] = row.cluster[best_of(row, prices.now).at];
        ++count[labels_[i]];
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
    build();
}

void Repair::renew(const Arcs& arcs, const Prices& prices) {
    arcs_ = &arcs;
    of_arcs_ = prices;
    of_arcs_.collected.assign(potential_.begin(), potential_.end() - 1);
    for (std::int64_t i = 0; i < arcs.rows(); ++i) {
        const Arcs::Row row = arcs.row(i);
        if (std::binary_search(row.cluster, row.cluster + row.count, labels_[i])) continue;
        // Its own cluster is its best but for rounding, which a tiny slack may not cover.
        --excess_[labels_[i]];
        labels_[i] = row.cluster[best_of(row, potential_).at];
        ++excess_[labels_[i]];
    }
    build();
}

void Repair::build() {
    std::vector<std::size_t> count(members_.size());
    for (std::int64_t i = 0; i < arcs_->rows(); ++i) count[labels_[i]] += arcs_->row(i).count - 1;
    for (std::size_t k = 0; k < count.size(); ++k) {
        members_[k].clear();
        members_[k].reserve(count[k]);
    }
    for (std::int64_t i = 0; i < arcs_->rows(); ++i) enter(static_cast<std::int32_t>(i));
    for (std::int32_t k = 0; k < sink_; ++k) renew_edges(k);
}

// Adds a row to its cluster's members.
void Repair::enter(std::int32_t row) {
    const Arcs::Row arcs = arcs_->row(row);
    if (arcs.count < 2) return;
    const std::int32_t own = labels_[row];
    const double held = arcs.cost[std::lower_bound(arcs.cluster, arcs.cluster + arcs.count, own) - arcs.cluster];
    for (std::int64_t i = 0; i < arcs.count; ++i)
        if (arcs.cluster[i] != own) members_[own].push_back({arcs.cost[i] - held, row, arcs.cluster[i]});
}

// Drops members that have left, and finds the cheapest move to each other cluster.
void Repair::renew_edges(std::int32_t cluster) {
    auto& members = members_[cluster];
    auto& edges = edges_[cluster];
    members.erase(
        std::remove_if(members.begin(), members.end(), [&](const Member& m) { return labels_[m.row] != cluster; }),
        members.end());
    edges.clear();
    for (const Member& member : members) {
        if (least_[member.to] == kFar) edges.push_back({0.0, member.to});
        least_[member.to] = std::min(least_[member.to], member.key);
    }
    for (Edge& edge : edges) {
        edge.key = least_[edge.to];
        least_[edge.to] = kFar;
    }
}

void Repair::offer(std::int32_t from, std::int32_t to, double distance) {
    if (distance > distance_[to] || (distance == distance_[to] && parent_[to] <= from)) return;
    if (final_[to]) return;
    if (distance_[to] == kFar) reached_.push_back(to);
    distance_[to] = distance;
    parent_[to] = from;
    heap_.emplace_back(distance, to);
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
}

void Repair::relax(std::int32_t node, double distance) {
    // Edges are ≥ 0 but for rounding.
    const auto through = [&](std::int32_t to, double key) {
        offer(node, to, distance + std::max(key + potential_[to] - potential_[node], 0.0));
    };
    if (node == sink_) {
        for (std::int32_t k = 0; k < sink_; ++k)
            if (flow_[k] > bounds_.low[k]) through(k, 0.0);
        return;
    }
    for (const Edge& edge : edges_[node]) through(edge.to, edge.key);
    if (flow_[node] < bounds_.high[node]) through(sink_, 0.0);
}

// Dijkstra's search from `source` to the nearest node that lacks members; −1 where there is none.
std::int32_t Repair::cheapest_path(std::int32_t source) {
    for (std::int32_t node : reached_) {
        distance_[node] = kFar;
        parent_[node] = -1;
        final_[node] = 0;
    }
    reached_.assign(1, source);
    heap_.assign(1, {0.0, source});
    distance_[source] = 0.0;
    while (!heap_.empty()) {
        const auto [distance, node] = heap_.front();
        std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
        heap_.pop_back();
        if (final_[node]) continue;
        final_[node] = 1;
        if (excess_[node] < 0) return node;
        relax(node, distance);
    }
    return -1;
}

// Dual update after a search: every final node at distance d < length rises by length − d. If that takes some cluster
// beyond its slack, nodes rise by the largest admissible length in its place, and the answer is false.
bool Repair::raise_prices(double length) {
    const auto drift = [&](std::int32_t k) { return potential_[k] - of_arcs_.collected[k]; };
    const auto beyond = [&](std::int32_t j) { return final_[j] ? drift(j) - of_arcs_.leave[j] - distance_[j] : -kFar; };
    double most = -kFar;  // max_j (λ_j − λ⁰_j − leave_j) is the larger of this one plus the length, and what it is now
    for (std::int32_t j = 0; j < sink_; ++j) most = std::max(most, beyond(j));
    // The length at which k uses up its slack; beyond its own distance k rises with the others.
    const auto limit = [&](std::int32_t k) {
        const double most_length = of_arcs_.slack[k] + drift(k) - most;
        return final_[k] && most_length >= distance_[k] ? kFar : most_length;
    };
    double shortest = kFar;
    for (std::int32_t k = 0; k < sink_; ++k) shortest = std::min(shortest, limit(k));
    const double raised = std::max(std::min(length, shortest), 0.0);
    const double asked = std::min(length, kAsked * raised);
    for (std::int32_t k = 0; k < sink_; ++k) {
        if (limit(k) < asked) cheaper_[k] = true;
        if (beyond(k) + asked > most + shortest) dearer_[k] = true;
    }
    for (std::int32_t node : reached_)
        if (final_[node]) potential_[node] += std::max(raised - distance_[node], 0.0);
    return length <= shortest;
}

// Members of `from` whose move to `to` costs least; all of them where that is the same.
std::vector<std::int32_t> Repair::movers(std::int32_t from, std::int32_t to) const {
    double key = kFar;
    for (const Edge& edge : edges_[from])
        if (edge.to == to) key = edge.key;
    std::vector<std::int32_t> rows;
    for (const Member& member : members_[from])
        if (member.to == to && member.key == key) rows.push_back(member.row);
    std::sort(rows.begin(), rows.end());
    return rows;
}

void Repair::move_along(std::int32_t source, std::int32_t end) {
    struct Move {
        std::int32_t from, to;
        std::vector<std::int32_t> rows;
    };
    std::vector<Move> moves;
    std::int64_t amount = std::min(excess_[source], -excess_[end]);
    for (std::int32_t to = end; to != source; to = parent_[to]) {
        const std::int32_t from = parent_[to];
        moves.push_back({from, to, {}});
        if (to == sink_) {
            amount = std::min(amount, bounds_.high[from] - flow_[from]);
        } else if (from == sink_) {
            amount = std::min(amount, flow_[to] - bounds_.low[to]);
        } else {
            moves.back().rows = movers(from, to);
            amount = std::min(amount, static_cast<std::int64_t>(moves.back().rows.size()));
        }
    }
    excess_[source] -= amount;
    excess_[end] += amount;
    for (const Move& move : moves) {
        if (move.to == sink_) {
            flow_[move.from] += amount;
        } else if (move.from == sink_) {
            flow_[move.to] -= amount;
        } else {
            for (std::int64_t i = 0; i < amount; ++i) {
                labels_[move.rows[i]] = move.to;
                enter(move.rows[i]);
            }
        }
    }
    for (const Move& move : moves) {
        if (move.to != sink_) renew_edges(move.to);
        if (move.from == source && source != sink_) renew_edges(source);
    }
}

bool Repair::run() {
    std::fill(cheaper_.begin(), cheaper_.end(), 0);
    std::fill(dearer_.begin(), dearer_.end(), 0);
    bool done = true;
    for (std::int32_t source = 0; source <= sink_; ++source)
        while (excess_[source] > 0) {
            if (kChecked) check();
            const std::int32_t end = cheapest_path(source);
            if (!raise_prices(end < 0 ? kFar : distance_[end])) {
                done = false;  // others may go on: what all of them lack is collected at once
                break;
            }
            if (end < 0) throw std::logic_error("no assignment lies within the bounds");
            move_along(source, end);
        }
    if (kChecked) check();
    return done;
}

void Repair::check() const {
    const auto hold = [](bool holds, const char* what) {
        if (!holds) throw std::logic_error(what);
    };
    std::vector<std::int64_t> members(sink_);
    for (const std::int32_t label : labels_) ++members[label];
    std::int64_t total = 0, flow = 0;
    double largest = 0.0;
    for (std::int32_t k = 0; k < sink_; ++k) {
        hold(bounds_.low[k] <= flow_[k] && flow_[k] <= bounds_.high[k], "invariant 2: a flow is outside of its bounds");
        hold(excess_[k] == members[k] - flow_[k], "invariant 3: an excess is not what a cluster has too many");
        total += excess_[k];
        flow += flow_[k];
        largest = std::max(largest, std::abs(potential_[k]));
    }
    hold(excess_[sink_] == flow - arcs_->rows(), "invariant 3: the excess of T is not what is left over");
    hold(total + excess_[sink_] == 0, "invariant 1: excess does not add up to 0");
    for (std::int64_t i = 0; i < arcs_->rows(); ++i) {
        const Arcs::Row row = arcs_->row(i);
        for (std::int64_t arc = 0; arc < row.count; ++arc) largest = std::max(largest, std::abs(row.cost[arc]));
    }
    const double rounding = 0x1p-40 * largest;
    const auto reduced = [&](std::int32_t from, std::int32_t to, double key) {
        return key + potential_[to] - potential_[from];
    };
    for (std::int32_t k = 0; k < sink_; ++k) {
        if (flow_[k] < bounds_.high[k])
            hold(reduced(k, sink_, 0.0) >= -rounding, "invariant 4: an edge to T is below 0");
        if (flow_[k] > bounds_.low[k])
            hold(reduced(sink_, k, 0.0) >= -rounding, "invariant 4: an edge from T is below 0");
    }
    for (std::int64_t i = 0; i < arcs_->rows(); ++i) {
        const Arcs::Row row = arcs_->row(i);
        const std::int32_t own = labels_[i];
        const std::int64_t held = std::lower_bound(row.cluster, row.cluster + row.count, own) - row.cluster;
        for (std::int64_t arc = 0; arc < row.count; ++arc) {
            const std::int32_t to = row.cluster[arc];
            const double key = row.cost[arc] - row.cost[held];
            hold(reduced(own, to, key) >= -rounding, "invariant 4: a move would save more than nothing");
            const auto edge =
                std::find_if(edges_[own].begin(), edges_[own].end(), [&](const Edge& e) { return e.to == to; });
            hold(to == own || (edge != edges_[own].end() && edge->key <= key),
                 "invariant 5: an edge is not the cheapest move");
        }
    }
}

std::vector<double> Repair::prices() const {
    std::vector<double> prices(potential_.begin(), potential_.end() - 1);
    for (double& price : prices) price -= potential_[sink_];
    return prices;
}

LF_REQUEST(TransportRequest, {
    std::int64_t rows, clusters;
    const std::int64_t* starts;  // [rows + 1]
    const std::int32_t* cluster;  // [arcs]
    const double* arc_cost;  // [arcs]
    const std::int64_t* low;  // [clusters] less the rows that have no choice: maybe below 0
    const std::int64_t* high;  // [clusters] likewise
    double slack;  // with which the arcs were collected, at `prices`
    double* prices;  // [clusters] in and out
    std::int64_t* labels;  // [rows]
    bool* done;  // optimal along these arcs; otherwise they have to be collected anew, at the new prices
    std::int32_t threads;
});

namespace {

void transport(const TransportRequest& request) {
    const std::int64_t clusters = request.clusters;
    Arcs arcs(request.rows);
    for (std::int64_t chunk = 0; chunk < arcs.chunks(); ++chunk) {
        ArcList& list = arcs.list(chunk);
        const std::int64_t first = chunk * Arcs::kChunk, last = std::min(first + Arcs::kChunk, request.rows);
        const std::int64_t begin = request.starts[first], end = request.starts[last];
        list.begin.clear();
        for (std::int64_t i = first; i <= last; ++i)
            list.begin.push_back(static_cast<std::size_t>(request.starts[i] - begin));
        list.cluster.assign(request.cluster + begin, request.cluster + end);
        list.cost.assign(request.arc_cost + begin, request.arc_cost + end);
    }
    Bounds bounds;
    bounds.low.assign(request.low, request.low + clusters);
    bounds.high.assign(request.high, request.high + clusters);
    Prices prices;
    prices.now.assign(request.prices, request.prices + clusters);
    prices.collected = prices.now;
    prices.slack.assign(clusters, request.slack);
    prices.leave.assign(clusters, 0.0);
    if (request.slack < std::numeric_limits<double>::infinity())
        ascend(arcs, bounds, request.rows, kFirstStep * request.slack, prices, request.threads);
    Repair repair(arcs, bounds, prices);
    *request.done = repair.run();
    prices.now = repair.prices();
    std::copy(prices.now.begin(), prices.now.end(), request.prices);
    std::copy(repair.labels().begin(), repair.labels().end(), request.labels);
}

}  // namespace
}  // namespace lf

LF_ENTRY(transport, TransportRequest)
