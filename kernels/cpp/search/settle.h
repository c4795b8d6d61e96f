// Settling: which of the candidates is the nearest, decided as if by real numbers.
//
// Distances are sums of squared differences, so they have no cancellation: with relative rounding u an
// n-term sum errs by less than (n + 8)·u of itself, in any order, fused or not. Float64 compares two
// distances, and where it can't separate them they are summed exactly.
#pragma once
#include <cfloat>
#include <cmath>
#include <cstdint>

#include "runtime/bounds.h"
#include "search/codebook.h"
#include "search/exact.h"
#include "simd/doubles.h"
#include "simd/instruction_set.h"

namespace lf::LF_INSTRUCTION_SET {
namespace {

struct Choice {
    std::int64_t word = -1;
    double score = 0.0;          // ‖r − e‖² + offset
    double runner_up = INFINITY;  // of the next distinct codeword
};

// Added in eight lanes whatever the registers, so that it has the same bits for every instruction set. The row may
// have been widened.
template <class Number> inline double distance64(const Number* row, const float* word, std::int64_t stride) {
    Doubles sums = fill(0.0);
    for (std::int64_t d = 0; d < stride; d += kDoubles) {
        const Doubles difference = load(row + d) - load(word + d);
        sums = sums + difference * difference;
    }
    return total(sums);
}

// ‖r‖², likewise.
inline double square64(const float* row, std::int64_t stride) {
    Doubles sums = fill(0.0);
    for (std::int64_t d = 0; d < stride; d += kDoubles) {
        const Doubles part = load(row + d);
        sums = sums + part * part;
    }
    return total(sums);
}

// Numbers in float64, whole vectors of them.
inline void widen(const float* from, std::int64_t count, double* to) {
    for (std::int64_t d = 0; d < count; d += kDoubles) store(to + d, load(from + d));
}

// A float32 below `value`, and by little more than `part` of it; denormal ones count as 0.
inline float below(double value, double part) {
    const double less = value * (1 - part);
    return less >= FLT_MIN ? static_cast<float>(less) : 0.0f;
}

inline const float* word_at(const Codebook& book, std::int64_t word) { return book.exact + word * book.stride; }

inline double offset_at(const Codebook& book, std::int64_t word) { return book.offset ? book.offset[word] : 0.0; }

// Rounding of two float64 scores together, an upper bound.
inline double score_error(double a, double offset_a, double b, double offset_b, std::int64_t stride) {
    const double share = static_cast<double>(stride + 8) * 0x1p-52;
    return tested(Bound::float64, share * (a + b + std::fabs(offset_a) + std::fabs(offset_b)));
}

// Takes `word` into account; the nearer codeword, or of equally near ones the earlier, is the choice.
inline void contend(const float* row, const Codebook& book, std::int64_t word, Choice& choice) {
    const double offset = offset_at(book, word);
    const double distance = distance64(row, word_at(book, word), book.stride), score = distance + offset;
    if (choice.word < 0) {
        choice.word = word;
        choice.score = score;
        return;
    }
    const double gap = score - choice.score, held = offset_at(book, choice.word);
    bool nearer = gap < 0;
    if (std::fabs(gap) <= score_error(distance, offset, std::fabs(choice.score - held), held, book.stride)) {
        const int sign =
            compare_distances(row, word_at(book, word), offset, row, word_at(book, choice.word), held, book.stride);
        nearer = sign < 0 || (sign == 0 && book.name[word] < book.name[choice.word]);
    }
    if (nearer) {
        choice.runner_up = choice.score;
        choice.word = word;
        choice.score = score;
    } else if (score < choice.runner_up) {
        choice.runner_up = score;
    }
}

// Whether float64 tells the chosen word from `other`; -> the nearer of them as the choice, with both scores.
inline bool order_by_score(const float* row, const Codebook& book, std::int64_t other, Choice& choice) {
    const std::int64_t word = choice.word;
    const double offset = offset_at(book, word), other_offset = offset_at(book, other);
    const float *const at = word_at(book, word), *const other_at = word_at(book, other);
    Doubles sums = fill(0.0), other_sums = sums;  // those of distance64, both in one pass
    for (std::int64_t d = 0; d < book.stride; d += kDoubles) {
        const Doubles part = load(row + d), gap = part - load(at + d), other_gap = part - load(other_at + d);
        sums = sums + gap * gap;
        other_sums = other_sums + other_gap * other_gap;
    }
    const double distance = total(sums), other_distance = total(other_sums);
    const double score = distance + offset, other_score = other_distance + other_offset;
    const bool swapped = other_score < score;
    choice = swapped ? Choice{other, other_score, score} : Choice{word, score, other_score};
    return choice.runner_up - choice.score > score_error(distance, offset, other_distance, other_offset, book.stride);
}

inline Choice settle_all(const float* row, const Codebook& book) {
    Choice choice;
    for (std::int64_t word = 0; word < book.words; ++word) contend(row, book, word, choice);
    return choice;
}

}  // namespace
}  // namespace lf::LF_INSTRUCTION_SET
