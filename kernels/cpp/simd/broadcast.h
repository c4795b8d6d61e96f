// The screen's register tile for sets that multiply four bytes of a row, broadcast, by four of each codeword of a
// vector.
#pragma once
#include <cstdint>

#include "search/codebook.h"

namespace lf::LF_INSTRUCTION_SET {

template <class Vector> struct Broadcasts {
    // Elements of the width that `multiply_step` takes.
    static constexpr int kStep = kStepWidth;

    // sums[r][v] += row r · each codeword of vector v, along one step. Rows are `stride` bytes apart.
    template <class Sums, int kRows>
    [[gnu::always_inline]] static void multiply_step(Sums (&sums)[kRows][kVectors], const std::uint8_t* rows,
                                                     std::int64_t stride, const std::int8_t* words) {
        decltype(Vector::broadcast_step(rows)) parts[kRows];
        for (int r = 0; r < kRows; ++r) parts[r] = Vector::broadcast_step(rows + r * stride);
        for (int v = 0; v < kVectors; ++v) {
            const auto part = Vector::load_bytes(words + v * Vector::kLayout.lanes * kStep);
            for (int r = 0; r < kRows; ++r) sums[r][v] = Vector::multiply_add(sums[r][v], parts[r], part);
        }
    }
    // From the order of the multiplication to sums[r][v] of row r and vector v, which they are already.
    template <class Tile> static void by_row(Tile&) {}

  private:
    Broadcasts() = default;
    friend Vector;
};

}  // namespace lf::LF_INSTRUCTION_SET
