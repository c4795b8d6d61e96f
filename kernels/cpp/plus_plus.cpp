// Compiled once per instruction set. Rows lie in blocks of kBlock, column by column, so that registers of any
// width hold neighbouring rows and every sum is added in the same order.
#include "plus_plus.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "instruction_set.h"

namespace lf::LF_INSTRUCTION_SET {
namespace {

constexpr std::int64_t kBlock = 64;
constexpr int kSums = 8;

// A row's distance to the nearest start, and a block's sum of them.
double lower(const float* block, const float* start, std::int64_t width, float* nearest) {
    float distance[kBlock] = {};
    for (std::int64_t d = 0; d < width; ++d)
        for (std::int64_t i = 0; i < kBlock; ++i) {
            const float gap = block[d * kBlock + i] - start[d];
            distance[i] += gap * gap;
        }
    double sums[kSums] = {};
    for (std::int64_t i = 0; i < kBlock; ++i) nearest[i] = distance[i] < nearest[i] ? distance[i] : nearest[i];
    for (std::int64_t i = 0; i < kBlock; i += kSums)
        for (int lane = 0; lane < kSums; ++lane) sums[lane] += static_cast<double>(nearest[i + lane]);
    for (int lane = 1; lane < kSums; ++lane) sums[0] += sums[lane];
    return sums[0];
}

}  // namespace

void plus_plus(const PlusPlus& of) {
    const std::int64_t blocks = (of.rows + kBlock - 1) / kBlock;
    const auto at = [&](std::int64_t row, std::int64_t d) { return of.x[row * of.row_stride + d * of.column_stride]; };
    std::vector<float> x(blocks * kBlock * of.width), start(of.width);
    for (std::int64_t row = 0; row < of.rows; ++row)
        for (std::int64_t d = 0; d < of.width; ++d) x[(row / kBlock * of.width + d) * kBlock + row % kBlock] = at(row, d);
    // Rows that fill up the last block are at distance 0: they are never drawn.
    std::vector<float> nearest(blocks * kBlock, 0.0f);
    std::fill_n(nearest.begin(), of.rows, std::numeric_limits<float>::max());
    std::vector<double> sums(blocks);
    const auto draw_any = [&](double draw) { return std::min(static_cast<std::int64_t>(draw * static_cast<double>(of.rows)), of.rows - 1); };

    of.picked[0] = draw_any(of.draws[0]);
    for (std::int64_t pick = 1; pick < of.picks; ++pick) {
        for (std::int64_t d = 0; d < of.width; ++d) start[d] = at(of.picked[pick - 1], d);
        double total = 0.0;
        for (std::int64_t block = 0; block < blocks; ++block) {
            sums[block] = lower(&x[block * of.width * kBlock], start.data(), of.width, &nearest[block * kBlock]);
            total += sums[block];
        }
        if (!(total > 0.0)) {  // every row is a start already
            of.picked[pick] = draw_any(of.draws[pick]);
            continue;
        }
        double left = of.draws[pick] * total;
        std::int64_t block = 0;
        for (; block + 1 < blocks && left >= sums[block]; ++block) left -= sums[block];
        std::int64_t row = block * kBlock, last = -1;
        for (const std::int64_t end = std::min(row + kBlock, of.rows); row < end; ++row) {
            if (!(nearest[row] > 0.0f)) continue;
            last = row;
            if (left < static_cast<double>(nearest[row])) break;
            left -= static_cast<double>(nearest[row]);
        }
        // Rounding can leave something over, and the last block without a row.
        while (last < 0) {
            --block;
            for (std::int64_t i = block * kBlock; i < (block + 1) * kBlock; ++i)
                if (nearest[i] > 0.0f) last = i;
        }
        of.picked[pick] = last;
    }
}

}  // namespace lf::LF_INSTRUCTION_SET
