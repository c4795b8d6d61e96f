// The two loops over a codebook that assignments spend their time in. Plain C++ for the compiler to vectorise
// over codewords: each of them sees the same operations in the same order, whatever the registers.
#include <cmath>

#include "simd/instruction_set.h"

#include "assignment/distances.h"

namespace lf::LF_INSTRUCTION_SET {

// distance[k] = Σ_d (x_d − e_kd)² in float64, summed in the order of d. The differences of float32 values are
// exact but for their last bit, and squares have no sign: a relative error of at most (width + 2)·2⁻⁵³.
void squared_distances(const DistanceTable& table, const float* x, double* distance) {
    const double* word = table.words;
    for (std::int64_t begin = 0; begin < table.stride; begin += kTableBlock) {
        double sum[kTableBlock] = {};
        for (std::int64_t d = 0; d < table.width; ++d, word += kTableBlock) {
            const double value = x[d];
            for (int k = 0; k < kTableBlock; ++k) {
                const double gap = value - word[k];
                sum[k] += gap * gap;
            }
        }
        for (int k = 0; k < kTableBlock; ++k) distance[begin + k] = sum[k];
    }
}

// Lowers reach[k], the length of the shortest path to k so far, to that through `row`, which is reached at `floor`
// and whose matched edge costs `base`: floor + (cost_k − price_k − base), never below the floor.
// -> the least reach[k] + closed[k], where closed is 0 or infinite.
double relax(const Edges& edges, const double* cost, double base, double floor, std::int64_t row) {
    double least[kTableBlock];
    for (double& value : least) value = INFINITY;
    for (std::int64_t begin = 0; begin < edges.stride; begin += kTableBlock) {
        const double* __restrict costs = cost + begin;
        const double* __restrict prices = edges.price + begin;
        const double* __restrict closed = edges.closed + begin;
        double* __restrict reach = edges.reach + begin;
        std::int64_t* __restrict through = edges.through + begin;
        for (int k = 0; k < kTableBlock; ++k) {
            const double path = floor + ((costs[k] - prices[k]) - base);
            const double length = path < floor ? floor : path;
            const double before = reach[k];
            const bool shorter = length < before;
            const double now = shorter ? length : before;
            through[k] = shorter ? row : through[k];
            reach[k] = now;
            const double open = now + closed[k];
            least[k] = open < least[k] ? open : least[k];
        }
    }
    for (int k = 1; k < kTableBlock; ++k) least[0] = least[k] < least[0] ? least[k] : least[0];
    return least[0];
}

}  // namespace lf::LF_INSTRUCTION_SET
