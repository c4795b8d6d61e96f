// The clusters that may take a row: those whose price for it is near its best one's.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "search/search.h"
#include "simd/dispatch.h"

namespace lf {

// Arcs of some rows in turn. cost = ‖x − e‖² in float64, the clusters of a row ascending.
struct ArcList {
    std::vector<std::size_t> begin{0};  // where each row's arcs begin, and the last one's end
    std::vector<std::int32_t> cluster;
    std::vector<double> cost;
};

// Arcs of all rows, in lists of kChunk rows so that threads can make them side by side.
class Arcs {
  public:
    static constexpr std::int64_t kChunk = 1024;
    struct Row {
        const std::int32_t* cluster;
        const double* cost;
        std::int64_t count;

        bool has(std::int32_t k) const { return std::binary_search(cluster, cluster + count, k); }
        // The cost of cluster k, to which the row has an arc.
        double cost_of(std::int32_t k) const { return cost[std::lower_bound(cluster, cluster + count, k) - cluster]; }
    };

    explicit Arcs(std::int64_t rows) : rows_(rows), lists_((rows + kChunk - 1) / kChunk) {}
    std::int64_t rows() const { return rows_; }
    std::int64_t count() const {
        std::size_t total = 0;
        for (const ArcList& list : lists_) total += list.cluster.size();
        return static_cast<std::int64_t>(total);
    }
    std::int64_t chunks() const { return static_cast<std::int64_t>(lists_.size()); }
    ArcList& list(std::int64_t chunk) { return lists_[chunk]; }
    Row row(std::int64_t i) const {
        const ArcList& list = lists_[i / kChunk];
        const std::size_t at = list.begin[i % kChunk];
        return {&list.cluster[at], &list.cost[at], static_cast<std::int64_t>(list.begin[i % kChunk + 1] - at)};
    }

  private:
    std::int64_t rows_;
    std::vector<ArcList> lists_;
};

// The arc of the least score c_ik + λ_k, the lowest k among equals, and the second least score (+inf where there is
// only one arc).
struct Best {
    std::int64_t at;  // the arc
    double score, second;
};

inline Best best_of(const Arcs::Row& row, const std::vector<double>& prices) {
    constexpr double kFar = std::numeric_limits<double>::infinity();
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

// The clusters that count as near: price λ_k, and by how much the least score of a row, that of cluster j, may
// be exceeded: slack_k + leave_j.
struct Reach {
    std::int64_t clusters;  // K
    const double* price;    // [K]
    const double* slack;    // [K]
    const double* leave;    // [K]
};

// Codebooks of a collection's search.
constexpr int kBooks = 3;

// Appends the arcs of `count` rows from `first` on: every k with ‖x − e_k‖² + λ_k ≤ least + slack_k + leave_j. The
// search has two codebooks, whose offsets are the prices: the clusters of the least slack, and the others (perhaps
// none), with what their slack is more taken off. A third is for extend_arcs. Compiled once per instruction set
// (collect.cpp).
using CollectArcs = void (*)(const Search&, const Reach&, std::int64_t first, std::int64_t count, void* scratch,
                             ArcList&);

// Makes the arcs of these rows, which were collected at the same prices, those of a reach that has grown: where the
// slack of some clusters has (a third codebook, of these alone, with what their slack is more taken off), and of rows
// whose best cluster j had a leave of `leave_before`. Other rows are not searched anew.
using ExtendArcs = void (*)(const Search&, const Reach&, const double* leave_before, std::int64_t first,
                            std::int64_t count, void* scratch, ArcList&);

LF_KERNEL(std::size_t arcs_scratch_bytes(const Search&))
LF_KERNEL(void collect_arcs(const Search&, const Reach&, std::int64_t first, std::int64_t count, void* scratch,
                            ArcList&))
LF_KERNEL(void extend_arcs(const Search&, const Reach&, const double* leave_before, std::int64_t first,
                           std::int64_t count, void* scratch, ArcList&))

}  // namespace lf
