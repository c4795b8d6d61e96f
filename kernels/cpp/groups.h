// What the assignments within groups of rows share: the request, distances on the chosen instruction set, the
// canonical order of a group's rows, and the loop over groups. Compiled for no particular instruction set.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <numeric>
#include <vector>

#include "dispatch.h"
#include "distances.h"

// Mirrored by groups.py. Rows starts[g] … starts[g + 1] − 1 are group g, and taken[taken_starts[g]] … its taken codes.
struct GroupsRequest {
    const float* x;         // [rows, width]
    const float* codebook;  // [words, width]
    const std::int64_t* starts;
    const std::int64_t* home;  // [rows] the code each row has or would take
    const std::int64_t* rank;  // [rows] order among equal rows
    const std::int64_t* taken;
    const std::int64_t* taken_starts;
    std::int64_t* codes;  // [rows]
    std::int64_t groups, words, width;
    std::int64_t capacity;  // rows and taken places a code has room for in a group
    std::int32_t threads;
    std::int32_t instruction_set;
};

namespace lf {

#define LF_DECLARE(set)                                                                                            \
    namespace set {                                                                                                \
    void squared_distances(const DistanceTable&, const float* x, double* distance);                                \
    double relax(const Edges&, const double* cost, double base, double floor, std::int64_t row);                   \
    }
LF_FOR_EACH_SET(LF_DECLARE)
#undef LF_DECLARE

// Distances to a codebook.
class Distances {
  public:
    explicit Distances(const GroupsRequest& request)
        : words_(request.codebook), width_(request.width),
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

// Solves every group, each thread with a Worker of its own; 0, or 1 where memory ran out.
template <class Worker> std::int32_t solve_groups(const GroupsRequest& request) try {
    const Distances distances(request);
    std::atomic<bool> failed{false};
#pragma omp parallel num_threads(std::max(request.threads, 1))
    {
        const DefaultArithmetic arithmetic;
        try {
            Worker worker(request, distances);
            // Groups don't depend on each other: neither the split nor the order changes a result.
#pragma omp for schedule(dynamic)
            for (std::int64_t group = 0; group < request.groups; ++group) {
                if (failed) continue;
                try {
                    worker.solve(group);
                } catch (const std::exception&) {
                    failed = true;
                }
            }
        } catch (const std::exception&) {
            failed = true;
        }
    }
    return failed ? 1 : 0;
} catch (const std::exception&) {
    return 1;
}

}  // namespace lf
