// The members of each cluster, and the edges between clusters: the cheapest move of a member from one to another.
#pragma once
#include <cstdint>
#include <limits>
#include <vector>

#include "assignment/arcs.h"

namespace lf {

class Members {
  public:
    struct Edge {
        double key;  // the least of c_ib − c_ia over the members i of a that have an arc to b
        std::int32_t to;
    };

    Members(std::int64_t rows, std::int64_t clusters)
        : labels_(rows), of_(clusters), edges_(clusters), least_(clusters, std::numeric_limits<double>::infinity()) {}

    std::vector<std::int32_t>& labels() { return labels_; }  // [N] a(i)
    const std::vector<std::int32_t>& labels() const { return labels_; }

    // Lists all members and edges of the labels along new arcs.
    void build(const Arcs&);
    // Puts a row into another cluster. Until renew(k) of both, the edges are those before the move.
    void move(std::int32_t row, std::int32_t to);
    // Drops members that have left the cluster, and finds its cheapest move to each other cluster.
    void renew(std::int32_t cluster);

    const std::vector<Edge>& edges(std::int32_t from) const { return edges_[from]; }
    // The members of `from` whose move to `to` costs the edge's key, in ascending order.
    std::vector<std::int32_t> cheapest(std::int32_t from, std::int32_t to) const;

  private:
    struct Move {    // of a member that could also be in another cluster
        double key;  // c_ib − c_ia
        std::int32_t row, to;
    };

    void enter(std::int32_t row);
    void find_edges(std::int32_t cluster);

    const Arcs* arcs_ = nullptr;
    bool table_ = false;  // all pairs are arcs and few: `of_` is left empty, rows are looked through as they are
    std::vector<std::int32_t> labels_;      // [N]
    std::vector<std::vector<Move>> of_;     // [K]
    std::vector<std::vector<Edge>> edges_;  // [K]
    std::vector<double> least_;             // [K] +inf but within renew()
};

}  // namespace lf
