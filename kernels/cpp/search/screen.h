// The screen: scores of all codewords in int8, and which of them could be the nearest.
//
// With a = α r, b_k = β_p e_k (β_p of a panel p of codewords) and â, b̂_k rounded to integers, rank by
//
//     s_k = ½‖e_k‖² + ½offset_k − r·e_k        ŝ_k = half_k − (â·b̂_k)/(αβ_p)
//
// The integer product is exact, and a·b − â·b̂ = a·(b − b̂) + (a − â)·b̂, so that by Cauchy–Schwarz
//
//     |ŝ_k − s_k| ≤ E_p = (‖a‖ max‖b − b̂‖ + ‖a − â‖ max‖b̂‖)/(αβ_p) + 2⁻²⁰ (‖r‖ max‖e‖ + max|half|)
//
// with the norms of the errors actually made. The maxima of the first two terms are taken over a panel, and
// codewords are sorted by length, so that short ones get fine steps and a short bound; the last term covers
// every float32 rounding on the way (half, the conversion, 1/(αβ_p), one fused multiply-add, the sums with
// E: each ≤ 2⁻²³ of these magnitudes). With U any upper bound of the least score (the least ŝ_k + E_p; a
// float32 score and its error) the nearest codeword is among the candidates: those with ŝ_k − E_p ≤ U.
// docs/bounds.md has all bounds side by side, and the tests that make them too small.
#pragma once
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "runtime/bounds.h"
#include "search/codebook.h"
#include "simd/instruction_set.h"

namespace lf::LF_INSTRUCTION_SET {
namespace {

constexpr int kLanes = Vector::kLayout.lanes;
constexpr int kPanelWords = kVectors * kLanes;
constexpr std::int64_t kBlockWidth = kBlockSteps * kStepWidth;
// Codewords scored before candidates are looked for: their bytes should stay in the L1 cache.
constexpr std::int64_t kTileBytes = 24 * 1024;
constexpr std::int64_t kTilePanels = 1024 / kPanelWords;

// Numbers of a block's rows, each an array of `rows`: the arithmetic on them is vectorised over rows.
struct Rounded {
    float* largest;   // max |r_j|, known before the rest
    float* square;    // ‖r‖²
    float* half;      // the largest squared norm of half a block
    float* scale;     // α
    float* error;     // ‖a − â‖²
    float* inverse;   // 1/α
    float* along;     // E of panel p is along·rounding_p + across·reach_p + float32
    float* across;
    float* float32;
    float* product;   // bound of the rounding of a float32 r·e
};

// r·e in float32: a lane adds stride / kLanes products, and the lanes are added in a tree.
inline Vector::Float products_of(const float* row, const float* word, std::int64_t stride) {
    auto sum = Vector::fill(0.0f);
    for (std::int64_t d = 0; d < stride; d += kLanes)
        sum = Vector::fused(Vector::load(row + d), Vector::load(word + d), sum);
    return sum;
}

inline float product_of(const float* row, const float* word, std::int64_t stride) {
    float first, second;
    Vector::halves(products_of(row, word, stride), first, second);
    return first + second;
}

// E of a panel's scores for one row.
inline float bound_of(const Codebook& book, const Rounded& of, int row, std::int64_t panel) {
    return of.along[row] * book.rounding[panel] + of.across[row] * book.reach[panel] + of.float32[row];
}

// The largest of the magnitudes in `most`; NaN or Inf where one of them is.
inline float largest_of(Vector::Wide most) {
    const std::int32_t bits = Vector::largest(most);
    float largest;
    std::memcpy(&largest, &bits, sizeof bits);
    return largest;
}

// The largest magnitude of a row.
inline float largest_of(const float* row, std::int64_t stride) {
    auto most = Vector::zero();
    for (std::int64_t d = 0; d < stride; d += kLanes)
        most = Vector::larger(most, Vector::magnitude(Vector::load(row + d)));
    return largest_of(most);
}

inline bool is_finite(const float* row, std::int64_t stride) { return largest_of(row, stride) <= FLT_MAX; }

// Norms of up to kLanes rows.
inline void measure_rows(const float* rows, int count, std::int64_t stride, const Rounded& of, int at) {
    auto square = Vector::fill(0.0f), half = square;
    for (std::int64_t begin = 0; begin < stride; begin += kBlockWidth) {
        const std::int64_t end = begin + kBlockWidth < stride ? begin + kBlockWidth : stride;
        Vector::Float squares[kLanes];
        for (int i = 0; i < kLanes; ++i) {
            const float* row = rows + (i < count ? i : 0) * stride;
            squares[i] = Vector::fill(0.0f);
            for (std::int64_t d = begin; d < end; d += kLanes) {
                const auto part = Vector::load(row + d);
                squares[i] = Vector::fused(part, part, squares[i]);
            }
        }
        Vector::Float first, second;
        Vector::halves_of_each(squares, first, second);
        square = Vector::add(square, Vector::add(first, second));
        half = Vector::larger(half, Vector::larger(first, second));
    }
    Vector::store(of.square + at, square);
    Vector::store(of.half + at, half);
}

inline void round_some(const float* rows, int count, std::int64_t stride, const Rounded& of, int at,
                       std::uint8_t* bytes) {
    Vector::Float errors[kLanes];
    for (int i = 0; i < kLanes; ++i) {
        const int row = i < count ? i : 0;
        const auto factor = Vector::fill(of.scale[at + row]);
        errors[i] = Vector::fill(0.0f);
        for (std::int64_t d = row * stride; d < (row + 1) * stride; d += kLanes) {
            const auto scaled = Vector::multiply(factor, Vector::load(rows + d));
            const auto error = Vector::subtract(scaled, Vector::store_rounded(bytes + d, scaled));
            errors[i] = Vector::fused(error, error, errors[i]);
        }
    }
    Vector::Float first, second;
    Vector::halves_of_each(errors, first, second);
    Vector::store(of.error + at, Vector::add(first, second));
}

// Rounds a block's rows to bytes. α is as large as 8 bits, and the 16-bit sums of half a block, allow.
inline void round_rows(const float* rows, int count, const Codebook& book, const Rounded& of, std::uint8_t* bytes) {
    const std::int64_t stride = book.stride;
    for (int row = 0; row < count; row += kLanes) measure_rows(rows + row * stride, count - row, stride, of, row);
    // The square root's rounding; and squares below 2⁻¹²⁶ may vanish, so that a norm is short by √D·2⁻⁶³.
    constexpr float kUp = 1 + 0x1p-10f;
    const float vanished = std::sqrt(static_cast<float>(stride)) * 0x1p-60f;
#pragma omp simd
    for (int row = 0; row < count; ++row) {
        float scale = 126.99f / of.largest[row];
        if (Vector::kLayout.narrow_sums) {
            const float by_half = book.lane_limit / (std::sqrt(of.half[row]) * kUp + vanished);
            scale = by_half < scale ? by_half : scale;
        }
        of.scale[row] = scale < 0x1p60f ? scale : 0x1p60f;  // keeps α r finite where the row is nearly 0
    }
    for (int row = 0; row < count; row += kLanes)
        round_some(rows + row * stride, count - row, stride, of, row, bytes + row * stride);
    const std::int64_t additions = stride / kLanes + 16;
#pragma omp simd
    for (int row = 0; row < count; ++row) {
        const float norm = std::sqrt(of.square[row]) * kUp + vanished;
        const float error = std::sqrt(of.error[row]) * kUp + vanished + norm * of.scale[row] * 0x1p-22f;
        of.inverse[row] = 1.0f / of.scale[row];
        of.along[row] = tested(Bound::screen, norm * kUp);
        of.across[row] = tested(Bound::screen, error * of.inverse[row] * kUp);
        of.float32[row] = 0x1p-20f * (norm * book.longest + book.highest);
        of.product[row] = static_cast<float>(additions) * 0x1p-23f * norm * book.longest;
    }
}

inline std::int64_t tile_panels(const Codebook& book) {
    const std::int64_t fitting = kTileBytes / book.panel_bytes;
    const std::int64_t most = book.panels < kTilePanels ? book.panels : kTilePanels;
    return fitting < 1 ? 1 : fitting < most ? fitting : most;
}

// One row's part of the scores of a tile.
struct Tile {
    std::int64_t first, panels;
    float* scores;    // [panels, kPanelWords]
    float* lower;     // [panels, kLanes] the smallest of a lane's kVectors scores, less E
    float* upper;     // [kLanes] the smallest of a lane's scores and their E
    float* bounds;    // [panels, step kLanes] E
    float* inverses;  // [panels, step kLanes] 1/(αβ_p)

    float bound(std::int64_t panel) const { return bounds[panel * kLanes]; }
};

// The tiles of some rows, one behind the other.
struct Tiles {
    float *scores, *lower, *upper, *bounds, *inverses;
    std::int64_t most;  // panels of a tile

    // rows: a multiple of kLanes; books: those that will be screened
    template <class Carver> void carve(Carver& carver, std::int64_t rows, const Codebook* books, std::int64_t count) {
        most = 1;
        for (const Codebook* book = books; book < books + count; ++book) {
            const std::int64_t panels = book->screened ? tile_panels(*book) : 0;
            most = panels > most ? panels : most;
        }
        scores = carver.template take<float>(rows * most * kPanelWords);
        lower = carver.template take<float>(rows * most * kLanes);
        upper = carver.template take<float>(rows * kLanes);
        bounds = carver.template take<float>(rows * most);
        inverses = carver.template take<float>(rows * most);
    }
    Tile of(int row, std::int64_t first, std::int64_t panels) const {
        return {first,
                panels,
                scores + row * panels * kPanelWords,
                lower + row * panels * kLanes,
                upper + row * kLanes,
                bounds + row / kLanes * most * kLanes + row % kLanes,
                inverses + row / kLanes * most * kLanes + row % kLanes};
    }
};

// E and 1/(αβ_p) of a tile, for kLanes rows from that of `tile` on, whose norms begin at `row`.
inline void find_bounds(const Codebook& book, const Rounded& rounded, int row, const Tile& tile) {
    const auto along = Vector::load(rounded.along + row), across = Vector::load(rounded.across + row);
    const auto inverse = Vector::load(rounded.inverse + row), float32 = Vector::load(rounded.float32 + row);
    const std::int64_t first = tile.first;
    for (std::int64_t p = 0; p < tile.panels; ++p) {
        const auto rest = Vector::fused(across, Vector::fill(book.reach[first + p]), float32);
        Vector::store(tile.bounds + p * kLanes, Vector::fused(along, Vector::fill(book.rounding[first + p]), rest));
        Vector::store(tile.inverses + p * kLanes, Vector::multiply(inverse, Vector::fill(book.unit[first + p])));
    }
}

// Scores of a tile's panels for kRows rows, and what bounds them. bytes: kRows rows, `stride` apart; tile: that of the
// first row, the others' are those behind it; bounds and inverses are known.
template <int kSteps, bool kOneBlock>
inline void score_tile(const Codebook& book, const std::uint8_t* bytes, const Tile tile) {
    constexpr int kRows = Vector::kRows;
    constexpr bool kNarrow = Vector::kLayout.narrow_sums, kInRegisters = kOneBlock || !kNarrow;
    constexpr int kWidth = kSteps * kStepWidth;
    constexpr std::int64_t kVectorBytes = 4 * kLanes;
    const std::int8_t* at = book.packed + tile.first * book.panel_bytes;
    const float* half = book.half + tile.first * kPanelWords;
    Vector::Float upper[kRows];
    for (auto& of_row : upper) of_row = Vector::fill(FLT_MAX);
    for (std::int64_t panel = 0; panel < tile.panels; ++panel) {
        typename Vector::Sums sums[kRows][kVectors];
        Vector::Wide totals[kRows][kVectors];
        std::int64_t block = 0;
        do {
            if (kNarrow || block == 0)
                for (int v = 0; v < kVectors; ++v) {
                    const auto initial = Vector::load_sums(at + v * kVectorBytes);
                    for (auto& of_row : sums) of_row[v] = initial;
                }
            at += kVectors * kVectorBytes;
            const std::uint8_t* row = bytes + block * kWidth;
#pragma GCC unroll 8
            for (int d = 0; d < kWidth; d += Vector::kStep)
                Vector::multiply_step(sums, row + d, book.stride, at + d * kPanelWords);
            at += kWidth * kPanelWords;
            if (kOneBlock) break;
            if (kInRegisters) continue;  // to the condition: the sums go on
            for (int r = 0; r < kRows; ++r)
                for (int v = 0; v < kVectors; ++v) {
                    const auto wide = Vector::widen(sums[r][v]);
                    totals[r][v] = block > 0 ? Vector::add(totals[r][v], wide) : wide;
                }
        } while (++block < book.blocks);
        if (kInRegisters) Vector::by_row(sums);
        for (int r = 0; r < kRows; ++r) {
            const auto inverse = Vector::fill(tile.inverses[panel * kLanes + r]);
            const auto bound = Vector::fill(tile.bounds[panel * kLanes + r]);
            auto smallest = Vector::fill(FLT_MAX);
            for (int v = 0; v < kVectors; ++v) {
                const auto total = kInRegisters ? Vector::widen(sums[r][v]) : totals[r][v];
                const auto score = Vector::fused(Vector::to_float(total), inverse, Vector::load(half + v * kLanes));
                Vector::store(tile.scores + (r * tile.panels + panel) * kPanelWords + v * kLanes, score);
                smallest = v == 0 ? score : Vector::smaller(smallest, score);
            }
            upper[r] = Vector::smaller(upper[r], Vector::add(smallest, bound));
            Vector::store(tile.lower + (r * tile.panels + panel) * kLanes, Vector::subtract(smallest, bound));
        }
        half += kPanelWords;
    }
    for (int r = 0; r < kRows; ++r) Vector::store(tile.upper + r * kLanes, upper[r]);
}

using ScoreTile = decltype(&score_tile<kBlockSteps, true>);

inline ScoreTile score_tile_for(const Codebook& book) {
    if (book.stride <= kShortWidth) return score_tile<kShortBlockSteps, true>;
    return book.blocks == 1 ? score_tile<kBlockSteps, true> : score_tile<kBlockSteps, false>;
}

// ½‖e‖² + ½offset − r·e in float32.
inline float score32(const Codebook& book, const float* row, std::int64_t word) {
    return book.half[word] - product_of(row, book.exact + word * book.stride, book.stride);
}

// Its distance from the real number, at most.
inline float score32_error(const Rounded& of, int row) {
    return tested(Bound::float32, of.float32[row] + of.product[row]);
}

// Bits of the lanes, from panel `begin` on, that hold a score which could be at most `ceiling`.
constexpr std::int64_t kGroup = 64 / kLanes;

inline std::uint64_t lanes_below(const Tile& tile, std::int64_t begin, float ceiling) {
    const std::int64_t group = tile.panels - begin < kGroup ? tile.panels - begin : kGroup;
    return Vector::at_most(tile.lower + begin * kLanes, group, Vector::fill(ceiling));
}

// The codeword of a tile with the least lower bound of its score; −1 where that is above `ceiling`.
inline std::int64_t most_promising(const Tile& tile, float ceiling) {
    auto lowest = Vector::load(tile.lower);
    for (std::int64_t panel = 1; panel < tile.panels; ++panel)
        lowest = Vector::smaller(lowest, Vector::load(tile.lower + panel * kLanes));
    const float least = Vector::smallest(lowest);
    if (!(least <= ceiling)) return -1;
    for (std::int64_t begin = 0; begin < tile.panels; begin += kGroup) {
        const std::uint64_t hits = lanes_below(tile, begin, least);
        if (!hits) continue;
        const int bit = __builtin_ctzll(hits);
        const std::int64_t at = (begin + bit / kLanes) * kPanelWords + bit % kLanes;
        int best = 0;
        for (int v = 1; v < kVectors; ++v)
            best = tile.scores[at + v * kLanes] < tile.scores[at + best * kLanes] ? v : best;
        return tile.first * kPanelWords + at + best * kLanes;
    }
    return -1;
}

}  // namespace
}  // namespace lf::LF_INSTRUCTION_SET
