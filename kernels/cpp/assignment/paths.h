// Dijkstra's search over the K clusters and T, one node at a time:
//
//     start(source)
//     while (node ← next()) ≥ 0:
//         for every edge node → to:  offer(node, to, the distance of `to` by way of node)
//
// Of two paths of equal length to a node it keeps the one whose last step comes from the lower node, so that the path
// depends on nothing but the edges.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

namespace lf {

class Paths {
  public:
    static constexpr double kFar = std::numeric_limits<double>::infinity();

    explicit Paths(std::size_t nodes) : distance_(nodes, kFar), parent_(nodes, -1), final_(nodes) {}

    void start(std::int32_t source) {
        for (const std::int32_t node : reached_) {
            distance_[node] = kFar;
            parent_[node] = -1;
            final_[node] = 0;
        }
        reached_.assign(1, source);
        heap_.assign(1, {0.0, source});
        distance_[source] = 0.0;
    }

    // The nearest node that is not final yet, which makes it so; −1 where no more is reached.
    std::int32_t next() {
        while (!heap_.empty()) {
            const std::int32_t node = heap_.front().second;
            std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
            heap_.pop_back();
            if (final_[node]) continue;
            final_[node] = 1;
            return node;
        }
        return -1;
    }

    // A path to `to` whose last step comes from `from`.
    void offer(std::int32_t from, std::int32_t to, double distance) {
        if (distance > distance_[to] || (distance == distance_[to] && parent_[to] <= from)) return;
        if (final_[to]) return;
        if (distance_[to] == kFar) reached_.push_back(to);
        distance_[to] = distance;
        parent_[to] = from;
        heap_.emplace_back(distance, to);
        std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    }

    double distance(std::int32_t node) const { return distance_[node]; }
    std::int32_t parent(std::int32_t node) const { return parent_[node]; }
    bool final(std::int32_t node) const { return final_[node]; }
    // Nodes with a distance.
    const std::vector<std::int32_t>& reached() const { return reached_; }

  private:
    std::vector<double> distance_;  // [K + 1]
    std::vector<std::int32_t> parent_;  // [K + 1]
    std::vector<char> final_;  // [K + 1] whether no shorter path can come
    std::vector<std::int32_t> reached_;
    std::vector<std::pair<double, std::int32_t>> heap_;
};

}  // namespace lf
