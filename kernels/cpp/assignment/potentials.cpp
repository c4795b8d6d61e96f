#include "assignment/potentials.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace lf {

namespace {
constexpr double kFar = Paths::kFar;
}  // namespace

Potentials::Potentials(const Prices& prices)
    : now_(prices.now), of_arcs_(prices), cheaper_(prices.now.size()), dearer_(prices.now.size()) {
    now_.push_back(0.0);
}

void Potentials::renew(const Prices& prices) { of_arcs_ = prices; }

std::vector<double> Potentials::prices() const {
    std::vector<double> prices(now_.begin(), now_.end() - 1);
    for (double& price : prices) price -= now_.back();
    return prices;
}

void Potentials::forget_limits() {
    std::fill(cheaper_.begin(), cheaper_.end(), 0);
    std::fill(dearer_.begin(), dearer_.end(), 0);
}

bool Potentials::raise(const Paths& paths, double length) {
    const auto clusters = static_cast<std::int32_t>(cheaper_.size());
    const auto drift = [&](std::int32_t k) { return now_[k] - of_arcs_.collected[k]; };
    const auto beyond = [&](std::int32_t j) {
        return paths.final(j) ? drift(j) - of_arcs_.leave[j] - paths.distance(j) : -kFar;
    };
    double most = -kFar;  // max_j (λ_j − λ⁰_j − leave_j) is the larger of this one plus the length, and what it is now
    for (std::int32_t j = 0; j < clusters; ++j) most = std::max(most, beyond(j));
    // The length at which k uses up its slack; beyond its own distance k rises with the others.
    const auto limit = [&](std::int32_t k) {
        const double most_length = of_arcs_.slack[k] + drift(k) - most;
        return paths.final(k) && most_length >= paths.distance(k) ? kFar : most_length;
    };
    double shortest = kFar;
    for (std::int32_t k = 0; k < clusters; ++k) shortest = std::min(shortest, limit(k));
    const double raised = std::max(std::min(length, shortest), 0.0);
    const double asked = std::min(length, kAsked * raised);
    for (std::int32_t k = 0; k < clusters; ++k) {
        if (limit(k) < asked) cheaper_[k] = true;
        if (beyond(k) + asked > most + shortest) dearer_[k] = true;
    }
    for (const std::int32_t node : paths.reached())
        if (paths.final(node)) now_[node] += std::max(raised - paths.distance(node), 0.0);
    return length <= shortest;
}

}  // namespace lf
