// Greedy k-means++: of a few points, each drawn ∝ weighted squared distance to the picks so far, the one that
// leaves least of it (Arthur and Vassilvitskii 2007, §5).
//
// Coordinates and weights are integers, and so small that Σ weight · distance² is below 2⁵³: float64 adds them up
// exactly, in any order. A pick is a function of points and draws alone.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "abi.h"
#include "runtime/parallel.h"
#include "simd/dispatch.h"
#include "simd/doubles.h"
#include "simd/instruction_set.h"

namespace lf {

// Points whose distances are summed side by side.
constexpr std::int64_t kPointBlock = 16;

// Points in blocks, and what the picks so far leave of them; beyond the last point, zeros.
struct PointBlocks {
    std::int64_t width, blocks;
    const double* x;        // [blocks, width, kPointBlock]
    const double* square;   // [blocks · kPointBlock] ‖x‖²
    const double* weight;   // [blocks · kPointBlock]
    const double* nearest;  // [blocks · kPointBlock] ‖x − pick‖² of the nearest pick
};

// Points that might be picked.
struct Tries {
    std::int64_t count;
    const double* x;       // [count, width]
    const double* square;  // [count]
};

LF_KERNEL(void try_points(const PointBlocks&, const Tries&, std::int64_t first, std::int64_t last, double* left,
                          double* weight))

}  // namespace lf

namespace lf::LF_INSTRUCTION_SET {
namespace {

// Tries that share the loads of a block; the sums of eight points fill the registers of AVX2.
constexpr std::int64_t kTogether = 4;

// products[t, i] = ⟨x_i, y_t⟩ of eight points.
template <int kTries> void multiply(const double* x, const double* const* y, std::int64_t width, double* products) {
    Doubles sums[kTries];
    for (int t = 0; t < kTries; ++t) sums[t] = fill(0.0);
    for (std::int64_t d = 0; d < width; ++d) {
        const Doubles column = load(x + d * kPointBlock);
        for (int t = 0; t < kTries; ++t) sums[t] = sums[t] + column * fill(y[t][d]);
    }
    for (int t = 0; t < kTries; ++t) store(products + t * kPointBlock, sums[t]);
}

}  // namespace

// For the points of some blocks and every try: left[try, point] = min(nearest, ‖x − y‖²), and what it weighs in
// all is added to weight[try].
void try_points(const PointBlocks& points, const Tries& tries, std::int64_t first, std::int64_t last, double* left,
                double* weight) {
    const std::int64_t all = points.blocks * kPointBlock;
    for (std::int64_t block = first; block < last; ++block) {
        const double* x = points.x + block * points.width * kPointBlock;
        const std::int64_t at = block * kPointBlock;
        for (std::int64_t begin = 0; begin < tries.count; begin += kTogether) {
            const int count = static_cast<int>(std::min(kTogether, tries.count - begin));
            const double* y[kTogether];
            double products[kTogether * kPointBlock];
            for (int t = 0; t < count; ++t) y[t] = tries.x + (begin + t) * points.width;
            for (std::int64_t half = 0; half < kPointBlock; half += kDoubles) {
                const auto run = count == 4   ? multiply<4>
                                 : count == 3 ? multiply<3>
                                 : count == 2 ? multiply<2>
                                              : multiply<1>;
                run(x + half, y, points.width, products + half);
            }
            for (int t = 0; t < count; ++t) {
                double* to = left + (begin + t) * all + at;
                for (std::int64_t i = 0; i < kPointBlock; i += kDoubles) {
                    const Doubles squares = load(points.square + at + i) + fill(tries.square[begin + t]);
                    const Doubles distance = squares - fill(2.0) * load(products + t * kPointBlock + i);
                    const Doubles nearest = smaller(distance, load(points.nearest + at + i));
                    store(to + i, nearest);
                    weight[begin + t] += total(load(points.weight + at + i) * nearest);
                }
            }
        }
    }
}

}  // namespace lf::LF_INSTRUCTION_SET

#ifdef LF_ENTRIES

namespace lf {

LF_REQUEST(KmeansPlusplusRequest, {
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

class KmeansPlusplus {
  public:
    KmeansPlusplus(const KmeansPlusplusRequest& request, std::int64_t problem, int threads)
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
            for (std::int64_t i = block * kPointBlock; i < (block + 1) * kPointBlock; ++i)
                mass_[block] += weight_[i] * nearest_[i];
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
        for (; row + 1 < request_.points.rows && left >= weight_[row] * nearest_[row]; ++row)
            left -= weight_[row] * nearest_[row];
        return row;
    }

    // The try that leaves least, the first among equals; the points' distances become what it leaves.
    std::int64_t choose(const std::vector<std::int64_t>& drawn) {
        const auto count = static_cast<std::int64_t>(drawn.size());
        for (std::int64_t t = 0; t < count; ++t) {
            for (std::int64_t d = 0; d < request_.points.width; ++d)
                tries_[t * request_.points.width + d] = x_[place(drawn[t], d)];
            try_square_[t] = square_[drawn[t]];
        }
        const PointBlocks points{request_.points.width, blocks_,        x_.data(),
                                 square_.data(),        weight_.data(), nearest_.data()};
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

    const KmeansPlusplusRequest& request_;
    const double* draws_;
    std::int64_t* picked_;
    const std::int64_t blocks_;
    std::vector<double> x_, square_, weight_, nearest_, left_, mass_, tries_, try_square_;
    const int threads_;
};

void kmeans_plusplus(const KmeansPlusplusRequest& request) {
    const bool alone = request.points.problems == 1;
    for_parts(request.points.problems, threads_for(request.points.problems, request.threads), 1,
              [&](std::int64_t i, int) { KmeansPlusplus(request, i, alone ? request.threads : 1).run(); });
}

}  // namespace
}  // namespace lf

LF_ENTRY(kmeans_plusplus, KmeansPlusplusRequest)

#endif  // LF_ENTRIES
