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
// rows from `begin` on; -> how many. tiles: the rows', one behind the other.
LF_LOOP int find_candidates(const float* ceilings, int begin, int together, const Tile* tiles, std::int64_t panel,
                            Candidate* to) {
    struct Hit {
        std::int16_t row, panel;
    };
    struct Rest {
        Hit hit;
        std::uint64_t words;
    };
    Hit hits[kLanes * kGroup + 1];
    Rest rests[kLanes * kGroup + 1];
    const Tile first = tiles[0];
    const std::int64_t end = panel + kGroup < first.panels ? panel + kGroup : first.panels;
    int count = 0;
    for (int i = 0; i < together; ++i) {
        const auto ceiling = Vector::fill(ceilings[i]);
        const float* lower = first.lower + i * first.panels * kLanes;
        for (std::int64_t p = panel; p < end; ++p) {
            hits[count] = {static_cast<std::int16_t>(i), static_cast<std::int16_t>(p)};
            count += Vector::at_most(Vector::load(lower + p * kLanes), ceiling) != 0;
        }
    }
    const auto candidate = [&](const Hit& hit, std::uint64_t words) {
        const std::int64_t word = hit.panel * kPanelWords + __builtin_ctzll(words);
        return Candidate{
            begin + hit.row, static_cast<std::int32_t>(first.first * kPanelWords + word),
            first.scores[hit.row * first.panels * kPanelWords + word] - first.bounds[hit.panel * kLanes + hit.row]};
    };
    int found = 0, rest = 0;
    for (const Hit* hit = hits; hit < hits + count; ++hit) {
        const std::int64_t row = hit->row, at = hit->panel;
        const auto ceiling = Vector::fill(ceilings[row]), bound = Vector::fill(first.bounds[at * kLanes + row]);
        const float* const scores = first.scores + (row * first.panels + at) * kPanelWords;
        std::uint64_t words = 0;
        for (int v = 0; v < kVectors; ++v) {
            const auto lower = Vector::subtract(Vector::load(scores + v * kLanes), bound);
            words |= std::uint64_t{Vector::at_most(lower, ceiling)} << (v * kLanes);
        }
        to[found++] = candidate(*hit, words);
        words &= words - 1;
        rests[rest] = {*hit, words};
        rest += words != 0;
    }
    rests[rest].words = 0;
    const Rest* of = rests;
    for (std::uint64_t words = of->words; words;) {  // a panel that has no more makes way for the next
        to[found++] = candidate(of->hit, words);
        words &= words - 1;
        of += words == 0;
        words |= of->words & -static_cast<std::uint64_t>(words == 0);
    }
    return found;
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
