#include "assignment/ascent.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "runtime/parallel.h"

namespace lf {
namespace {

constexpr double kFar = std::numeric_limits<double>::infinity();
// The most passes of price ascent, and the most in a row without progress. Neither decides a result, for
// the repair reaches the optimum from any prices, nor has either been measured by itself.
constexpr int kPasses = 80, kPatience = 24;
constexpr double kProgress = 0.98;
// A price's step grows while its imbalance keeps its sign, and shrinks where the sign changes (as in Rprop, Riedmiller
// and Braun 1993, whose factors are 1.2 and 0.5).
constexpr double kGrow = 1.3, kShrink = 0.4;
// Shares of the slack that the ascent may use, upwards and downwards; the repair's paths need the rest.
constexpr double kUp = 0.5, kDown = 0.9;
// Rows that are worth a second thread, and rows of a part.
constexpr std::int64_t kParallelRows = 1 << 16, kShare = 1 << 12;

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

}  // namespace lf
