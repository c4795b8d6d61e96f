// The C ABI of greedy k-means++: problems side by side, or threads within one.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "abi.h"
#include "simd/dispatch.h"
#include "runtime/parallel.h"
#include "plus_plus.h"

namespace lf {

#define LF_DECLARE(set)                                                                                             \
    namespace set {                                                                                                 \
    void try_points(const PointBlocks&, const Tries&, std::int64_t first, std::int64_t last, double* left, double* weight);\
    }
LF_FOR_EACH_SET(LF_DECLARE)

LF_REQUEST(PlusPlusRequest, {
    Problems points;
    const double* weights;  // [problems, rows]
    std::int64_t picks, tries;
    const double* draws;   // [problems, picks, tries] uniform in [0, 1)
    std::int64_t* picked;  // [problems, picks]
    std::int32_t threads, instruction_set;
});

namespace {

// Products that are worth a second thread, and blocks that it takes at a time.
constexpr std::int64_t kParallelProducts = 1 << 22, kPart = 8;

class PlusPlus {
  public:
    PlusPlus(const PlusPlusRequest& request, std::int64_t problem, int threads)
        : request_(request),
          draws_(request.draws + problem * request.picks * request.tries),
          picked_(request.picked + problem * request.picks),
          blocks_((request.points.rows + kPointBlock - 1) / kPointBlock),
          x_(blocks_ * kPointBlock * request.points.width),
          square_(blocks_ * kPointBlock),
          weight_(blocks_ * kPointBlock),
          nearest_(blocks_ * kPointBlock),
          left_(blocks_ * kPointBlock * request.tries),
          mass_(blocks_),
          tries_(request.tries * request.points.width),
          try_square_(request.tries),
          threads_(request.points.rows * request.points.width * request.tries < kParallelProducts ? 1 : threads) {
        const float* from = request.points.x + problem * request.points.problem_stride;
        for (std::int64_t row = 0; row < request.points.rows; ++row) {
            weight_[row] = request.weights[problem * request.points.rows + row];
            for (std::int64_t d = 0; d < request.points.width; ++d) {
                const double value = from[row * request.points.row_stride + d * request.points.column_stride];
                x_[place(row, d)] = value;
                square_[row] += value * value;
            }
        }
    }

    void run() {
        std::int64_t done = 0;
        for (; done < request_.picks; ++done) {
            // Before the first pick every point is as far as any other.
            if (done == 0) std::fill_n(nearest_.begin(), request_.points.rows, 1.0);
            const double total = weigh();
            if (!(total > 0)) break;  // every point is where a pick is
            // The first pick has one try: there is nothing to choose by.
            const std::int64_t count = done == 0 ? 1 : request_.tries;
            std::vector<std::int64_t> drawn(count);
            for (std::int64_t t = 0; t < count; ++t) drawn[t] = draw(draws_[done * request_.tries + t], total);
            if (done == 0) std::fill_n(nearest_.begin(), request_.points.rows, std::numeric_limits<double>::max());
            picked_[done] = drawn[choose(drawn)];
        }
        // Points that were not picked, in turn; where there are no more, the first pick.
        std::vector<bool> taken(request_.points.rows);
        for (std::int64_t i = 0; i < done; ++i) taken[picked_[i]] = true;
        std::int64_t next = 0;
        for (; done < request_.picks; ++done) {
            while (next < request_.points.rows && taken[next]) ++next;
            picked_[done] = next < request_.points.rows ? next++ : picked_[0];
        }
    }

  private:
    std::int64_t place(std::int64_t row, std::int64_t d) const {
        return (row / kPointBlock * request_.points.width + d) * kPointBlock + row % kPointBlock;
    }

    double weigh() {
        double total = 0.0;
        for (std::int64_t block = 0; block < blocks_; ++block) {
            mass_[block] = 0.0;
            for (std::int64_t i = block * kPointBlock; i < (block + 1) * kPointBlock; ++i) mass_[block] += weight_[i] * nearest_[i];
            total += mass_[block];
        }
        return total;
    }

    // The point whose part of the total holds the integer ⌊uniform · total⌋; the last, where parts aren't integers.
    std::int64_t draw(double uniform, double total) const {
        double left = std::min(std::floor(uniform * total), total - 1.0);
        std::int64_t block = 0;
        for (; block + 1 < blocks_ && left >= mass_[block]; ++block) left -= mass_[block];
        std::int64_t row = block * kPointBlock;
        for (; row + 1 < request_.points.rows && left >= weight_[row] * nearest_[row]; ++row) left -= weight_[row] * nearest_[row];
        return row;
    }

    // The try that leaves least, the first among equals; the points' distances become what it leaves.
    std::int64_t choose(const std::vector<std::int64_t>& drawn) {
        const auto count = static_cast<std::int64_t>(drawn.size());
        for (std::int64_t t = 0; t < count; ++t) {
            for (std::int64_t d = 0; d < request_.points.width; ++d) tries_[t * request_.points.width + d] = x_[place(drawn[t], d)];
            try_square_[t] = square_[drawn[t]];
        }
        const PointBlocks points{request_.points.width, blocks_, x_.data(), square_.data(), weight_.data(), nearest_.data()};
        const Tries tries{count, tries_.data(), try_square_.data()};
        const auto try_points = LF_PICK(static_cast<Set>(request_.instruction_set), try_points);
        std::vector<double> totals(count), parts(threads_ * count);
        for_parts((blocks_ + kPart - 1) / kPart, threads_, 4, [&](std::int64_t part, int thread) {
            const std::int64_t first = part * kPart, last = std::min(first + kPart, blocks_);
            try_points(points, tries, first, last, left_.data(), &parts[thread * count]);
        });
        for (std::size_t at = 0; at < parts.size(); ++at) totals[at % count] += parts[at];
        const auto best = std::min_element(totals.begin(), totals.end()) - totals.begin();
        std::copy_n(left_.begin() + best * blocks_ * kPointBlock, blocks_ * kPointBlock, nearest_.begin());
        return best;
    }

    const PlusPlusRequest& request_;
    const double* draws_;
    std::int64_t* picked_;
    const std::int64_t blocks_;
    std::vector<double> x_, square_, weight_, nearest_, left_, mass_, tries_, try_square_;
    const int threads_;
};

void plus_plus(const PlusPlusRequest& request) {
    const bool alone = request.points.problems == 1;
    for_parts(request.points.problems, threads_for(request.points.problems, request.threads), 1,
              [&](std::int64_t i, int) { PlusPlus(request, i, alone ? request.threads : 1).run(); });
}

}  // namespace
}  // namespace lf

LF_ENTRY(plus_plus, PlusPlusRequest)
