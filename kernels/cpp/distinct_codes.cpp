// Distinct codes within each group of rows, none of them taken, at the least total distance.
//
//     minimise Σ_i c_{i,a(i)},  c_ik = ‖x_i − e_k‖²,  a one to one
//
// by shortest augmenting paths (Jonker and Volgenant 1987). With a price v_k ≤ 0 per code, 0 while it is free, and
// u_i = c_{i,a(i)} − v_{a(i)} for a matched row, c_ik − u_i − v_k ≥ 0 holds for all pairs; then the matched rows are
// matched at the least total cost. To start with, all prices are 0 and each row whose nearest code is free and wanted
// by none before it has that code. So only the rows that collide start a path, and only rows on a path's way need
// their distances to all codes: the others are never looked at.
//
// Equal rows have equal distances, and the same u: a path that reaches one of them reaches all. Their codes are
// shared out at the end, the nearest to the first in rank. Rows are added in canonical order; of codes reached at the
// same length the lowest comes first.
#include <cmath>

#include "assignment/group_solver.h"

namespace lf {
namespace {

class DistinctCodes {
  public:
    DistinctCodes(const GroupsRequest& request, const Distances& distances)
        : request_(request),
          distances_(distances),
          stride_(distances.stride()),
          most_kept_(std::max<std::int64_t>(1, kKeptBytes / (stride_ * sizeof(double)))),
          relax_(LF_PICK(request.instruction_set, relax)),
          reach_(stride_),
          price_(stride_),
          closed_(stride_),
          spare_(stride_),
          through_(stride_),
          owner_(stride_) {}

    void solve(std::int64_t group) {
        begin(group);
        const auto rows = static_cast<std::int64_t>(rows_.size());
        for (std::int64_t i = 0; i < rows; ++i) {
            const std::int64_t home = request_.home[rows_[i]];
            if (owner_[home] != kFree) continue;
            owner_[home] = i;
            match_[i] = home;
        }
        for (std::int64_t i = 0; i < rows; ++i)
            if (match_[i] == kNone) augment(i);
        for (std::int64_t first = 0; first < rows; first = class_end_[first]) share_out(first, class_end_[first]);
        for (std::int64_t i = 0; i < rows; ++i) request_.codes[rows_[i]] = match_[i];
    }

  private:
    static constexpr std::int64_t kFree = -1, kTaken = -2, kNone = -1;
    // Distances kept from path to path; beyond that they are computed anew.
    static constexpr std::int64_t kKeptBytes = std::int64_t{64} << 20;

    void begin(std::int64_t group) {
        rows_.resize(request_.starts[group + 1] - request_.starts[group]);
        std::iota(rows_.begin(), rows_.end(), request_.starts[group]);
        sort_canonically(request_, rows_);
        const auto rows = static_cast<std::int64_t>(rows_.size());
        match_.assign(rows, kNone);
        class_of_.resize(rows);
        class_end_.resize(rows);
        for (std::int64_t i = 0; i < rows; ++i) {
            const bool equal = i > 0 && compare_rows(request_, rows_[i - 1], rows_[i]) == 0;
            class_of_[i] = equal ? class_of_[i - 1] : i;
            class_end_[class_of_[i]] = i + 1;
        }
        slot_.assign(rows, kNone);
        kept_.clear();
        std::fill(price_.begin(), price_.end(), 0.0);
        std::fill(owner_.begin(), owner_.end(), kFree);
        std::fill(owner_.begin() + request_.words, owner_.end(), kTaken);
        for (std::int64_t t = request_.taken_starts[group]; t < request_.taken_starts[group + 1]; ++t)
            owner_[request_.taken[t]] = kTaken;
        if (rows > std::count(owner_.begin(), owner_.end(), kFree)) throw Refused{kNoRoom};
    }

    // Distances of the rows equal to row `first` of the canonical order.
    const double* distances_of(std::int64_t first) {
        const float* x = request_.x + rows_[first] * request_.width;
        if (slot_[first] == kNone) {
            const auto kept = static_cast<std::int64_t>(kept_.size()) / stride_;
            if (kept == most_kept_) {
                distances_.all(x, spare_.data());
                return spare_.data();
            }
            kept_.resize((kept + 1) * stride_);
            distances_.all(x, kept_.data() + kept * stride_);
            slot_[first] = kept;
        }
        return kept_.data() + slot_[first] * stride_;
    }

    // Follows all edges of a row that a path has come to; -> the code to go on from, the nearest that isn't closed.
    // The codes of its equals have nothing new to offer.
    std::int64_t scan(std::int64_t row, double floor) {
        const std::int64_t first = class_of_[row];
        for (std::int64_t i = first; i < class_end_[first]; ++i)
            if (match_[i] != kNone) closed_[match_[i]] = INFINITY;
        const double* distance = distances_of(first);
        const double base = match_[row] == kNone ? 0.0 : distance[match_[row]] - price_[match_[row]];
        const double least = relax_({stride_, price_.data(), closed_.data(), reach_.data(), through_.data()}, distance,
                                    base, floor, row);
        std::int64_t end = 0;
        while (reach_[end] + closed_[end] != least) ++end;
        return end;
    }

    void augment(std::int64_t start) {
        std::fill(reach_.begin(), reach_.end(), INFINITY);
        for (std::int64_t k = 0; k < stride_; ++k) closed_[k] = owner_[k] == kTaken ? INFINITY : 0.0;
        double floor = 0.0;
        std::int64_t end = kNone;
        for (std::int64_t row = start;; row = owner_[end]) {
            end = scan(row, floor);
            floor = reach_[end];
            if (owner_[end] == kFree) break;
        }
        for (std::int64_t k = 0; k < request_.words; ++k)
            if (owner_[k] >= 0 && reach_[k] < floor) price_[k] -= floor - reach_[k];
        for (std::int64_t k = end; k != kNone;) {
            const std::int64_t row = through_[k];
            owner_[k] = row;
            std::swap(k, match_[row]);
        }
    }

    // Gives equal rows their codes anew, the nearest to the first.
    void share_out(std::int64_t first, std::int64_t end) {
        if (end - first == 1) return;
        const double* distance = distances_of(first);
        std::sort(match_.begin() + first, match_.begin() + end, [&](std::int64_t a, std::int64_t b) {
            return distance[a] < distance[b] || (distance[a] == distance[b] && a < b);
        });
    }

    const GroupsRequest& request_;
    const Distances& distances_;
    const std::int64_t stride_, most_kept_;
    double (*const relax_)(const Edges&, const double*, double, double, std::int64_t);
    // Of rows, in canonical order. A class of equal rows is named by its first.
    std::vector<std::int64_t> rows_, match_, class_of_, class_end_, slot_;
    // Of codes.
    std::vector<double> reach_, price_, closed_, spare_;
    std::vector<std::int64_t> through_, owner_;
    std::vector<double> kept_;
};

void distinct_codes(const GroupsRequest& request) { solve_groups<DistinctCodes>(request); }

}  // namespace
}  // namespace lf

LF_ENTRY(distinct_codes, GroupsRequest)
