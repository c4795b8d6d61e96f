// The parts that assignments within groups of rows share: the request, distances on the chosen instruction set, the
// canonical order of a group's rows, and the loop over groups. Compiled for no particular instruction set.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <vector>

#include "abi.h"
#include "simd/dispatch.h"
#include "assignment/distances.h"
#include "runtime/parallel.h"

namespace lf {

// Rows starts[g] … starts[g + 1] − 1 are group g, and taken[taken_starts[g]] … its taken codes.
LF_REQUEST(GroupsRequest, {
    const float* x;         // [rows, width]
    const float* codebook;  // [words, width]
    const std::int64_t* starts;        // [groups + 1]
    const std::int64_t* home;          // [rows] the code each row has or would take
    const std::int64_t* rank;          // [rows] order among equal rows
    const std::int64_t* taken;         // [taken_count]
    const std::int64_t* taken_starts;  // [groups + 1]
    std::int64_t* codes;               // [rows]
    std::int64_t groups, rows, taken_count, words, width;
    std::int64_t capacity;  // rows and taken places a code has room for in a group
    std::int32_t threads, instruction_set;
});

// Distances to a codebook.
class Distances {
  public:
    explicit Distances(const GroupsRequest& request)
        : words_(request.codebook),
          width_(request.width),
          squared_(LF_PICK(request.instruction_set, squared_distances)) {
        const std::int64_t blocks = (request.words + kTableBlock - 1) / kTableBlock;
        packed_.assign(blocks * kTableBlock * width_, 0.0);
        for (std::int64_t k = 0; k < request.words; ++k)
            for (std::int64_t d = 0; d < width_; ++d)
                packed_[(k / kTableBlock * width_ + d) * kTableBlock + k % kTableBlock] = words_[k * width_ + d];
        table_ = {width_, blocks * kTableBlock, packed_.data()};
    }
    std::int64_t stride() const { return table_.stride; }
    // To every codeword; distance [stride], of which those beyond the last codeword mean nothing.
    void all(const float* x, double* distance) const { squared_(table_, x, distance); }
    // To one codeword: the same sum, the same bits.
    double one(const float* x, std::int64_t word) const {
        double sum = 0.0;
        for (std::int64_t d = 0; d < width_; ++d) {
            const double gap = static_cast<double>(x[d]) - words_[word * width_ + d];
            sum += gap * gap;
        }
        return sum;
    }

  private:
    const float* words_;
    std::int64_t width_;
    void (*squared_)(const DistanceTable&, const float*, double*);
    std::vector<double> packed_;
    DistanceTable table_;
};

// −1, 0 or 1 as row a comes before, equals or follows row b, element by element.
inline int compare_rows(const GroupsRequest& request, std::int64_t a, std::int64_t b) {
    const float* left = request.x + a * request.width;
    const float* right = request.x + b * request.width;
    for (std::int64_t d = 0; d < request.width; ++d)
        if (left[d] != right[d]) return left[d] < right[d] ? -1 : 1;
    return 0;
}

// Sorts rows by what they are, equal ones by rank: an order that doesn't depend on where they stand.
inline void sort_canonically(const GroupsRequest& request, std::vector<std::int64_t>& rows) {
    std::stable_sort(rows.begin(), rows.end(), [&](std::int64_t a, std::int64_t b) {
        const int sign = compare_rows(request, a, b);
        return sign ? sign < 0 : request.rank[a] < request.rank[b];
    });
}

// Refuses what would lead a worker out of its arrays, or on for ever.
inline void check(const GroupsRequest& request) {
    check_groups(request.starts, request.groups, request.rows);
    check_groups(request.taken_starts, request.groups, request.taken_count);
    check_codes(request.home, request.rows, request.words);
    check_codes(request.taken, request.taken_count, request.words);
    if (std::count(request.home, request.home + request.rows, -1) ||
        std::count(request.taken, request.taken + request.taken_count, -1))
        throw Refused{kCodeOutside};
    check_finite(request.x, request.rows * request.width);
    check_finite(request.codebook, request.words * request.width);
}

// Solves every group, each thread with a Worker of its own.
template <class Worker> void solve_groups(const GroupsRequest& request) {
    check(request);
    const Distances distances(request);
    const int threads = threads_for(request.groups, request.threads);
    std::vector<std::unique_ptr<Worker>> workers(threads);
    // Groups don't depend on each other: neither the split nor the order changes a result.
    for_parts(request.groups, threads, 1, [&](std::int64_t group, int thread) {
        if (!workers[thread]) workers[thread] = std::make_unique<Worker>(request, distances);
        workers[thread]->solve(group);
    });
}

}  // namespace lf
