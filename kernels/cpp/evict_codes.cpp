// Codes with more rows than room give rows away, the cheapest move first.
//
// In a group, code k has room for `capacity` rows less its taken places. While some code holds more rows than that, of
// all moves of a row from such a code to one with room, that of least ‖x − e_to‖² − ‖x − e_from‖² is made; of equal
// ones, that of the row first in canonical order (by code, content, rank), to the lowest code. Among equal rows of a
// code the last in rank goes first.
//
// Equal rows of a code are a class, and move alike. Each class waits for its best code with room, in a heap of that
// code. Rooms only fill up: what waits for a code stays right until that code is full, and then moves on to the next of
// its list.
#include "assignment/group_solver.h"

namespace lf {
namespace {

class EvictCodes {
  public:
    EvictCodes(const GroupsRequest& request, const Distances& distances)
        : request_(request),
          distances_(distances),
          room_(request.words),
          waiting_(request.words),
          distance_(distances.stride()) {}

    void solve(std::int64_t group) {
        begin(group);
        for (std::int64_t c = 0; c < static_cast<std::int64_t>(classes_.size()); ++c) wait(c);
        for (std::int64_t to = next_target(); to != kNone; to = next_target()) {
            const std::int64_t mover = pop(to).mover;
            Class& from = classes_[mover];
            std::int64_t &excess = room_[from.code], &room = room_[to];
            for (; room > 0 && excess < 0 && from.rows > 0; --room, ++excess)
                request_.codes[rows_[from.first + --from.rows]] = to;
            if (room > 0) continue;
            turned_away_.swap(waiting_[to]);
            for (const Move& move : turned_away_) wait(move.mover);
            turned_away_.clear();
            wait(mover);
        }
    }

  private:
    static constexpr std::int64_t kNone = -1;
    // Codes a class lists at first, and at most.
    static constexpr std::size_t kListed = 8, kMostListed = 64;

    struct Near {
        double distance;
        std::int32_t code;
        bool operator<(const Near& other) const {
            return distance != other.distance ? distance < other.distance : code < other.code;
        }
    };
    struct Class {
        std::int64_t first, rows;  // its rows in rows_, those that still have their code
        std::int64_t code;
        double distance;  // to that code
        std::vector<Near> nearest;  // codes that had room when they were listed, in order
        std::size_t next;
    };
    struct Move {
        double added;
        std::int64_t mover;
        // Heaps have the largest on top: that of least added distance, then of the first class.
        bool operator<(const Move& other) const {
            return added != other.added ? added > other.added : mover > other.mover;
        }
    };

    bool stays(const Class& of) const { return room_[of.code] >= 0 || of.rows == 0; }

    Move pop(std::int64_t code) {
        std::pop_heap(waiting_[code].begin(), waiting_[code].end());
        const Move move = waiting_[code].back();
        waiting_[code].pop_back();
        return move;
    }

    // The code of the best move.
    std::int64_t next_target() {
        std::int64_t best = kNone;
        for (std::int64_t k = 0; k < request_.words; ++k) {
            while (!waiting_[k].empty() && stays(classes_[waiting_[k].front().mover])) pop(k);
            if (!waiting_[k].empty() && (best == kNone || waiting_[best].front() < waiting_[k].front())) best = k;
        }
        return best;
    }

    void begin(std::int64_t group) {
        const std::int64_t first = request_.starts[group], end = request_.starts[group + 1];
        std::fill(room_.begin(), room_.end(), request_.capacity);
        for (std::int64_t t = request_.taken_starts[group]; t < request_.taken_starts[group + 1]; ++t)
            --room_[request_.taken[t]];
        for (std::int64_t row = first; row < end; ++row) --room_[request_.home[row]];
        rows_.clear();
        for (std::int64_t row = first; row < end; ++row) {
            request_.codes[row] = request_.home[row];
            if (room_[request_.home[row]] < 0) rows_.push_back(row);
        }
        sort_canonically(request_, rows_);
        std::stable_sort(rows_.begin(), rows_.end(),
                         [&](std::int64_t a, std::int64_t b) { return request_.home[a] < request_.home[b]; });
        classes_.clear();
        for (std::int64_t i = 0; i < static_cast<std::int64_t>(rows_.size()); ++i) {
            const std::int64_t row = rows_[i], code = request_.home[row];
            if (i == 0 || code != classes_.back().code || compare_rows(request_, rows_[i - 1], row) != 0)
                classes_.push_back({i, 0, code, distances_.one(row_at(i), code), {}, 0});
            ++classes_.back().rows;
        }
    }

    const float* row_at(std::int64_t place) const { return request_.x + rows_[place] * request_.width; }

    // Lets a class wait for the nearest code with room, if there is one.
    void wait(std::int64_t mover) {
        Class& from = classes_[mover];
        if (stays(from)) return;
        while (from.next < from.nearest.size() && room_[from.nearest[from.next].code] <= 0) ++from.next;
        if (from.next == from.nearest.size()) list(from);
        if (from.nearest.empty()) return;
        const Near& to = from.nearest[from.next];
        waiting_[to.code].push_back({to.distance - from.distance, mover});
        std::push_heap(waiting_[to.code].begin(), waiting_[to.code].end());
    }

    void list(Class& from) {
        distances_.all(row_at(from.first), distance_.data());
        open_.clear();
        for (std::int64_t k = 0; k < request_.words; ++k)
            if (room_[k] > 0) open_.push_back({distance_[k], static_cast<std::int32_t>(k)});
        const std::size_t longer = from.nearest.empty() ? kListed : std::min(2 * from.nearest.size(), kMostListed);
        const auto end = open_.begin() + std::min(longer, open_.size());
        std::partial_sort(open_.begin(), end, open_.end());
        from.nearest.assign(open_.begin(), end);
        from.next = 0;
    }

    const GroupsRequest& request_;
    const Distances& distances_;
    std::vector<std::int64_t> room_;  // of codes; below 0: rows that must go
    std::vector<std::vector<Move>> waiting_;
    std::vector<Move> turned_away_;
    std::vector<std::int64_t> rows_;  // of over-full codes, by code, then canonical
    std::vector<Class> classes_;
    std::vector<double> distance_;
    std::vector<Near> open_;
};

void evict_codes(const GroupsRequest& request) { solve_groups<EvictCodes>(request); }

}  // namespace
}  // namespace lf

LF_ENTRY(evict_codes, GroupsRequest)
