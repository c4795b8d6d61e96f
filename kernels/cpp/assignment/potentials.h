// The prices λ of the clusters and of T, as the potentials of the search for paths: raising them by what nodes are
// nearer than the end of a path keeps every edge ≥ 0, and brings those of the path down to 0.
#pragma once
#include <cstdint>
#include <vector>

#include "assignment/paths.h"
#include "assignment/transport.h"

namespace lf {

class Potentials {
  public:
    explicit Potentials(const Prices&);
    // Goes on from the prices there are, with the slack of other arcs and the prices they were collected at.
    void renew(const Prices&);

    double operator[](std::int32_t node) const { return now_[node]; }
    // [K + 1] T's is the last.
    const std::vector<double>& now() const { return now_; }
    // [K] less T's price, which makes T's 0.
    std::vector<double> prices() const;

    // Dual update after a search: every final node at distance d < length rises by length − d. If that takes some
    // cluster beyond its slack, nodes rise by the largest admissible length in its place, and the answer is false.
    bool raise(const Paths&, double length);

    // [K] clusters whose price would have had to fall, or to rise, beyond what the slack covers.
    const std::vector<char>& cheaper() const { return cheaper_; }
    const std::vector<char>& dearer() const { return dearer_; }
    void forget_limits();

  private:
    std::vector<double> now_;  // [K + 1]
    Prices of_arcs_;
    std::vector<char> cheaper_, dearer_;  // [K]
};

}  // namespace lf
