// Compiled once per instruction set: what each try would leave.
#include "plus_plus.h"

#include <algorithm>

#include "simd/doubles.h"
#include "simd/instruction_set.h"

namespace lf::LF_INSTRUCTION_SET {
namespace {

// Tries that share the loads of a block; the sums of eight points fill the registers of AVX2.
constexpr std::int64_t kTogether = 4;

// products[t, i] = ⟨x_i, y_t⟩ of eight points.
template <int kTries>
void multiply(const double* x, const double* const* y, std::int64_t width, double* products) {
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
void try_points(const PointBlocks& points, const Tries& tries, std::int64_t first, std::int64_t last, double* left, double* weight) {
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
                const auto run = count == 4 ? multiply<4> : count == 3 ? multiply<3> : count == 2 ? multiply<2> : multiply<1>;
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
