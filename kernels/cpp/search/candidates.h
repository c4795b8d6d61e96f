// Codewords that the screen could not rule out, from the hits of a tile to their float32 scores.
//
// Its loops have no branches that a processor would have to guess: how many candidates a row has is noise. They stay
// functions of their own, on pointers of their own; in one with everything around them GCC runs out of registers, and
// each of their chains goes through memory.
#pragma once
#include <cmath>
#include <cstdint>

#include "search/screen.h"

namespace lf::LF_INSTRUCTION_SET {
namespace {

#define LF_LOOP __attribute__((noinline))

struct Candidate {
    std::int32_t row, word;
    float lower;  // bound of its score
};

// The ceiling of a row of which the screen says nothing: no bound is at most this, not even −∞.
constexpr float kNoCandidates = NAN;
// The highest ceiling: every score that isn't padding's is below it, if its bound is below kLargestBound.
constexpr float kHighest = 0x1p110f, kLargestBound = 0x1p90f;

// Candidates that kGroup panels can give kLanes rows.
constexpr int kMostFound = kLanes * 64 * kVectors;

// Adds the codewords of up to kGroup panels whose lower bound is at most the row's ceiling, for `together` ≤ kLanes
// rows from `begin` on; -> how many.
LF_LOOP int find_candidates(const float* ceilings, int begin, int together, const Tile* tiles, std::int64_t panel,
                            Candidate* to) {
    int with_hits[kLanes + 1], rows = 0;
    std::uint64_t hits_of[kLanes + 1];
    for (int i = 0; i < together; ++i) {
        const std::uint64_t hits = lanes_below(tiles[i], panel, ceilings[i]);
        with_hits[rows] = i;
        hits_of[rows] = hits;
        rows += hits != 0;
    }
    hits_of[rows] = 0;
    const Candidate* const first = to;
    const auto first_word = static_cast<std::int32_t>(tiles[0].first * kPanelWords);
    std::uint64_t hits = hits_of[0];
    for (int at = 0; at < rows;) {  // a row that has no more hits makes way for the next
        const int i = with_hits[at], bit = __builtin_ctzll(hits);
        const std::int64_t hit = panel + bit / kLanes, place = hit * kPanelWords + bit % kLanes;
        const float ceiling = ceilings[i], bound = tiles[i].bound(hit);
        const float* const scores = tiles[i].scores + place;
        const auto word = static_cast<std::int32_t>(first_word + place);
        for (int v = 0; v < kVectors; ++v) {
            const float lower = scores[v * kLanes] - bound;
            *to = {begin + i, word + v * kLanes, lower};
            to += lower <= ceiling;
        }
        hits &= hits - 1;
        at += hits == 0;
        hits |= hits_of[at] & -static_cast<std::uint64_t>(hits == 0);
    }
    return static_cast<int>(to - first);
}

// Float32 scores of up to kLanes candidates; residual [rows, stride] -> scores [kLanes].
inline void score_some(const Codebook& book, const float* residual, const Candidate* of, int some, float* scores) {
    Vector::Float products[kLanes];
    for (int i = 0; i < kLanes; ++i) {
        const Candidate candidate = of[i < some ? i : 0];
        products[i] =
            products_of(residual + candidate.row * book.stride, book.exact + candidate.word * book.stride, book.stride);
        scores[i] = book.half[candidate.word];
    }
    Vector::Float first, second;
    Vector::halves_of_each(products, first, second);
    Vector::store(scores, Vector::subtract(Vector::load(scores), Vector::add(first, second)));
}

}  // namespace
}  // namespace lf::LF_INSTRUCTION_SET
