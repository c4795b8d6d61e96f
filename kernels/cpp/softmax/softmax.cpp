// softmax.h's pass over a block of rows, tile of columns by tile.
//
// A tile is packed twice, for the two products: as keys (bᵀ, lanes run over columns) and as values (b, lanes run
// over the width). A group of rows has its scores, then its weights in the L1 cache. Both products are one
// register tile of kGroup rows × kAcross vectors of fused multiply-adds.
//
// Every sum has one order: a score adds its products along the width; the weights of a row add up in 16 lanes
// a tile in float32, then in float64; out_i adds up along the columns of a tile in float32, then tile by
// tile. None depends on the registers' width, on the block or on the threads.
#include "softmax/softmax.h"

#include <cmath>
#include <cstring>

#include "simd/exp.h"
#include "simd/instruction_set.h"
#include "simd/scratch.h"

namespace lf::LF_INSTRUCTION_SET {
namespace {

constexpr int kLanes = Vector::kLayout.lanes;
constexpr int kPanel = kLanes == 16 ? 32 : 16;    // columns, or elements of the width, of a register tile
constexpr int kAcross = kPanel / kLanes;          // its vectors
constexpr int kGroup = kLanes == 16 ? 12 : 6;     // its rows
constexpr int kSumLanes = 16;                     // in which a row's weights add up
constexpr int kMostColumns = 256;                 // of a tile
constexpr int kScoreStride = kMostColumns + 16;   // not a multiple of 4 KB, which would share cache sets

std::int64_t round_up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit * unit; }

const float* keys_of(const Columns& columns, std::int64_t tile) { return columns.packed + tile * columns.tile_floats; }
const float* values_of(const Columns& columns, std::int64_t tile) {
    return keys_of(columns, tile) + columns.tile * columns.width;
}
std::int64_t columns_in(const Columns& columns, std::int64_t tile) {
    const std::int64_t left = columns.count - tile * columns.tile;
    return left < columns.tile ? left : columns.tile;
}

struct Block {
    float* rows;         // [groups][width][kGroup]
    float* out;          // [rows, width in panels]
    float* highest;      // [rows] the largest score so far
    double* total;       // [rows] Σ exp(score − highest)
    float* scores;       // [kGroup, kScoreStride]
};

Block carve(const Softmax& softmax, Carver& carver) {
    const std::int64_t rows = round_up(softmax.block, kGroup), width = softmax.columns.width;
    Block block;
    block.rows = carver.take<float>(rows * width);
    block.out = carver.take<float>(rows * round_up(width, kPanel));
    block.highest = carver.take<float>(rows);
    block.total = carver.take<double>(rows);
    block.scores = carver.take<float>(kGroup * kScoreStride);
    return block;
}

// sums[r][v] = Σ_k rows[r·kRow + k·kStep] panel[k][v], in the order of k.
template <int kRow, int kStep>
inline void multiply(const float* rows, const float* panel, std::int64_t depth,
                     Vector::Float (&sums)[kGroup][kAcross]) {
    for (auto& row : sums)
        for (auto& sum : row) sum = Vector::fill(0.0f);
    for (std::int64_t k = 0; k < depth; ++k) {
        Vector::Float columns[kAcross];
        for (int v = 0; v < kAcross; ++v) columns[v] = Vector::load(panel + k * kPanel + v * kLanes);
#pragma GCC unroll 12
        for (int r = 0; r < kGroup; ++r) {
            const auto row = Vector::fill(rows[r * kRow + k * kStep]);
            for (int v = 0; v < kAcross; ++v) sums[r][v] = Vector::fma(row, columns[v], sums[r][v]);
        }
    }
}

// Scores of a group with a tile. Those of the padding say −inf.
void score(const Columns& columns, std::int64_t tile, const float* rows, float* scores) {
    const float* keys = keys_of(columns, tile);
    const std::int64_t count = columns_in(columns, tile), padded = round_up(count, kPanel);
    for (std::int64_t c = 0; c < padded; c += kPanel) {
        Vector::Float sums[kGroup][kAcross];
        multiply<1, kGroup>(rows, keys + c * columns.width, columns.width, sums);
        for (int r = 0; r < kGroup; ++r)
            for (int v = 0; v < kAcross; ++v) Vector::store(scores + r * kScoreStride + c + v * kLanes, sums[r][v]);
    }
    for (int r = 0; r < kGroup; ++r)
        for (std::int64_t c = count; c < padded; ++c) scores[r * kScoreStride + c] = -INFINITY;
}

// out ← factor·out + weights·values.
void gather(const Columns& columns, std::int64_t tile, const float* weights, const float (&factor)[kGroup],
            float* out) {
    const std::int64_t width = round_up(columns.width, kPanel), count = columns_in(columns, tile);
    for (std::int64_t d = 0; d < width; d += kPanel) {
        Vector::Float sums[kGroup][kAcross];
        multiply<kScoreStride, 1>(weights, values_of(columns, tile) + d * columns.tile, count, sums);
        for (int r = 0; r < kGroup; ++r)
            for (int v = 0; v < kAcross; ++v) {
                float* at = out + r * width + d + v * kLanes;
                Vector::store(at, Vector::fma(Vector::load(at), Vector::fill(factor[r]), sums[r][v]));
            }
    }
}

float exp_of(float x) {
    float lanes[kLanes];
    Vector::store(lanes, exp(Vector::fill(x)));
    return lanes[0];
}

// The largest score of a row and `most`; NaN counts as nothing here, and comes out of exp.
float largest_score(const float* scores, std::int64_t padded, float most) {
    auto vector = Vector::fill(most);
    for (std::int64_t c = 0; c < padded; c += kLanes) vector = Vector::larger(Vector::load(scores + c), vector);
    float lanes[kLanes];
    Vector::store(lanes, vector);
    for (const float value : lanes) most = value > most ? value : most;
    return most;
}

// Scores become exp(score − highest); -> their sum.
double weigh(float* scores, std::int64_t padded, float highest) {
    constexpr int kChains = kSumLanes / kLanes;
    const auto shift = Vector::fill(highest);
    Vector::Float sums[kChains];
    for (auto& sum : sums) sum = Vector::fill(0.0f);
    for (std::int64_t c = 0; c < padded; c += kSumLanes)
        for (int v = 0; v < kChains; ++v) {
            const auto weight = exp(Vector::subtract(Vector::load(scores + c + v * kLanes), shift));
            Vector::store(scores + c + v * kLanes, weight);
            sums[v] = Vector::add(sums[v], weight);
        }
    float lanes[kSumLanes];
    for (int v = 0; v < kChains; ++v) Vector::store(lanes + v * kLanes, sums[v]);
    double total = 0.0;
    for (const float lane : lanes) total += static_cast<double>(lane);
    return total;
}

// Copies the score in `partner`'s place to `partner_score`, or sets it to −∞ where that is null.
void take_partner(const Softmax& softmax, std::int64_t tile, std::int64_t row, float* scores) {
    if (!softmax.partner || row >= softmax.count) return;
    const std::int64_t at = softmax.partner[row] - tile * softmax.columns.tile;
    if (softmax.partner[row] < 0 || at < 0 || at >= columns_in(softmax.columns, tile)) return;
    if (softmax.partner_score)
        softmax.partner_score[row] = scores[at];
    else
        scores[at] = -INFINITY;
}

// Rows of a block, interleaved for the product; zeros after the last.
void load_rows(const Softmax& softmax, std::int64_t first, std::int64_t count, float* to) {
    const std::int64_t width = softmax.columns.width;
    std::memset(to, 0, round_up(count, kGroup) * width * sizeof(float));
    for (std::int64_t row = 0; row < count; ++row) {
        const float* from = softmax.rows + (first + row) * width;
        float* group = to + row / kGroup * kGroup * width + row % kGroup;
        for (std::int64_t d = 0; d < width; ++d) group[d * kGroup] = from[d];
    }
}

// A block of rows against all columns. kShifted: exp(s_ij − shift_j) with shifts given; otherwise the
// largest score so far is subtracted, and what has been added is scaled when it grows.
template <bool kShifted> void pass(const Softmax& softmax, std::int64_t first, void* scratch) {
    Carver carver(scratch);
    const Block block = carve(softmax, carver);
    const Columns& columns = softmax.columns;
    const std::int64_t left = softmax.count - first, width = round_up(columns.width, kPanel);
    const std::int64_t count = left < softmax.block ? left : softmax.block;
    load_rows(softmax, first, count, block.rows);
    std::memset(block.out, 0, round_up(count, kGroup) * width * sizeof(float));
    for (std::int64_t row = 0; row < round_up(count, kGroup); ++row) {
        block.highest[row] = -INFINITY;
        block.total[row] = 0.0;
    }

    for (std::int64_t tile = 0; tile < columns.tiles(); ++tile) {
        const std::int64_t padded = round_up(columns_in(columns, tile), kPanel);
        for (std::int64_t group = 0; group < count; group += kGroup) {
            float factor[kGroup];
            score(columns, tile, block.rows + group * columns.width, block.scores);
            for (int r = 0; r < kGroup; ++r) {
                float* scores = block.scores + r * kScoreStride;
                const std::int64_t row = group + r;
                take_partner(softmax, tile, first + row, scores);
                factor[r] = 1.0f;
                if (kShifted) {
                    const float* high = softmax.shift_high + tile * columns.tile;
                    const float* low = softmax.shift_low + tile * columns.tile;
                    for (std::int64_t c = 0; c < padded; c += kLanes) {
                        const auto less = Vector::subtract(Vector::load(scores + c), Vector::load(high + c));
                        Vector::store(scores + c, exp(Vector::subtract(less, Vector::load(low + c))));
                    }
                    continue;
                }
                const float before = block.highest[row], highest = largest_score(scores, padded, before);
                if (highest > before) factor[r] = exp_of(before - highest);
                block.highest[row] = highest;
                block.total[row] = block.total[row] * static_cast<double>(factor[r]) + weigh(scores, padded, highest);
            }
            if (softmax.out) gather(columns, tile, block.scores, factor, block.out + group * width);
        }
    }

    for (std::int64_t row = 0; row < count; ++row) {
        float scale = 1.0f;
        if (!kShifted) {
            softmax.log_total[first + row] = static_cast<double>(block.highest[row]) + std::log(block.total[row]);
            scale = static_cast<float>(1.0 / block.total[row]);
        }
        if (!softmax.out) continue;
        float* to = softmax.out + (first + row) * columns.width;
        for (std::int64_t d = 0; d < columns.width; ++d) to[d] = scale * block.out[row * width + d];
    }
}

Columns plan(const float* at, std::int64_t count, std::int64_t width) {
    // A tile's keys and values should stay in the L2 cache.
    std::int64_t tile = kMostColumns;
    while (tile > 32 && tile * width > 16384) tile /= 2;
    return {at, count, width, nullptr, tile, tile * (width + round_up(width, kPanel))};
}

// Keys [tile / kPanel][width][kPanel], values [width / kPanel][tile][kPanel]; zeros in the padding.
void pack_tile(const Columns& columns, std::int64_t tile) {
    const std::int64_t width = columns.width, count = columns_in(columns, tile);
    float* keys = columns.packed + tile * columns.tile_floats;
    float* values = keys + columns.tile * width;
    std::memset(keys, 0, columns.tile_floats * sizeof(float));
    for (std::int64_t c = 0; c < count; ++c) {
        const float* from = columns.at + (tile * columns.tile + c) * width;
        for (std::int64_t d = 0; d < width; ++d) {
            keys[(c / kPanel * width + d) * kPanel + c % kPanel] = from[d];
            values[(d / kPanel * columns.tile + c) * kPanel + d % kPanel] = from[d];
        }
    }
}

std::size_t scratch_bytes(const Softmax& softmax) {
    Carver carver(nullptr);
    carve(softmax, carver);
    return carver.bytes();
}

}  // namespace

const SoftmaxKernels kSoftmax = {plan, pack_tile, scratch_bytes, pass<false>, pass<true>};

}  // namespace lf::LF_INSTRUCTION_SET
