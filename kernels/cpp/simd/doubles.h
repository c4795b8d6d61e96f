// Eight float64 lanes, on any instruction set and with the same bits: lane j of a sum holds the terms j, j + 8, …,
// and the lanes are added in one tree. No product is fused with a sum.
#pragma once
#include <cmath>
#include <cstdint>

#include "simd/instruction_set.h"

namespace lf::LF_INSTRUCTION_SET {
namespace {

#if defined(__AVX512F__)
constexpr int kPieceBytes = 64;
#elif defined(__AVX__)
constexpr int kPieceBytes = 32;
#else
constexpr int kPieceBytes = 16;
#endif

constexpr int kDoubles = 8, kPieces = kDoubles * 8 / kPieceBytes;

using Piece = double __attribute__((vector_size(kPieceBytes)));
using Bits = std::int64_t __attribute__((vector_size(kPieceBytes)));
// In memory, at any number: clang keeps the alignment of a typedef only, and loads of the others fault.
// NOLINTBEGIN(modernize-use-using)
typedef double Loose __attribute__((vector_size(kPieceBytes), aligned(8), may_alias));
typedef float LooseFloats __attribute__((vector_size(kPieceBytes / 2), aligned(4), may_alias));
// NOLINTEND(modernize-use-using)
static_assert(alignof(Loose) == 8 && alignof(LooseFloats) == 4, "the compiler takes numbers for aligned");

struct Doubles {
    Piece at[kPieces];  // a register each
};

template <class Operation> inline Doubles by_piece(Operation operation) {
    Doubles to;
    for (int i = 0; i < kPieces; ++i) to.at[i] = operation(i);
    return to;
}

// Piece by piece: GCC copies a whole `Doubles` in parts of 16 bytes, through memory.
inline Doubles load(const double* from) {
    return by_piece([&](int i) { return reinterpret_cast<const Loose*>(from)[i]; });
}
// Eight floats, widened.
inline Doubles load(const float* from) {
#if defined(__AVX512F__)
    return {{reinterpret_cast<Piece>(_mm512_cvtps_pd(_mm256_loadu_ps(from)))}};  // GCC would convert each half
#else
    return by_piece(
        [&](int i) { return __builtin_convertvector(reinterpret_cast<const LooseFloats*>(from)[i], Piece); });
#endif
}
inline void store(double* to, Doubles a) {
    for (int i = 0; i < kPieces; ++i) reinterpret_cast<Loose*>(to)[i] = a.at[i];
}
inline Doubles fill(double value) {
    return by_piece([&](int) { return value - Piece{}; });
}
inline Doubles operator+(Doubles a, Doubles b) {
    return by_piece([&](int i) { return a.at[i] + b.at[i]; });
}
inline Doubles operator-(Doubles a, Doubles b) {
    return by_piece([&](int i) { return a.at[i] - b.at[i]; });
}
inline Doubles operator*(Doubles a, Doubles b) {
    return by_piece([&](int i) { return a.at[i] * b.at[i]; });
}
inline Doubles operator/(Doubles a, Doubles b) {
    return by_piece([&](int i) { return a.at[i] / b.at[i]; });
}
inline Doubles smaller(Doubles a, Doubles b) {
    return by_piece([&](int i) { return a.at[i] < b.at[i] ? a.at[i] : b.at[i]; });
}
inline Doubles larger(Doubles a, Doubles b) {
    return by_piece([&](int i) { return a.at[i] > b.at[i] ? a.at[i] : b.at[i]; });
}
template <class Operation> inline double across(Doubles a, Operation operation) {
    double lane[kDoubles];
    store(lane, a);
    for (int width = kDoubles / 2; width > 0; width /= 2)
        for (int i = 0; i < width; ++i) lane[i] = operation(lane[i], lane[i + width]);
    return lane[0];
}
inline double first(Doubles a) { return a.at[0][0]; }
inline double total(Doubles a) {
    return across(a, [](double b, double c) { return b + c; });
}
inline double smallest(Doubles a) {
    return across(a, [](double b, double c) { return b < c ? b : c; });
}
inline double largest(Doubles a) {
    return across(a, [](double b, double c) { return b > c ? b : c; });
}

// Below this, exp_of is 0: e⁻⁷⁰⁸ is the last power that is a normal number.
constexpr double kExpFloor = -708.0;

// eˣ for x ≤ 709: 2ⁿ·eʳ with n = round(x/ln 2), |r| ≤ ½ ln 2, and Taylor's series up to r¹³/13!, whose rest is below
// 2⁻⁵⁷. Off by less than 1.2·2⁻⁵² of itself: half of that from the last addition, the rest from r and the smaller
// terms.
inline Doubles exp_of(Doubles x) {
    // Added to a number of up to 51 bits, 1.5·2⁵² rounds it to an integer, which then stands in the lowest bits.
    constexpr double kRounder = 0x1.8p52 + 1023.0;
    constexpr double kLog2e = 0x1.71547652b82fep+0;
    // ln 2 in two parts; n·kHigh is exact, as kHigh has 21 zeros at its end.
    constexpr double kHigh = 0x1.62e42feep-1, kLow = 0x1.a39ef35793c76p-33;
    return by_piece([&](int i) -> Piece {
        const Piece rounded = x.at[i] * kLog2e + kRounder, n = rounded - kRounder;
        const Piece r = (x.at[i] - n * kHigh) - n * kLow;
        const Piece r2 = r * r, r4 = r2 * r2;
        // q = 1/2! + r/3! + … + r¹¹/13!, by pairs: a chain of 14 additions would be waited for.
        const Piece low = (r * (1.0 / 6.0) + 0.5) + (r * (1.0 / 120.0) + 1.0 / 24.0) * r2;
        const Piece middle = (r * (1.0 / 5040.0) + 1.0 / 720.0) + (r * (1.0 / 362880.0) + 1.0 / 40320.0) * r2;
        const Piece high =
            (r * (1.0 / 39916800.0) + 1.0 / 3628800.0) + (r * (1.0 / 6227020800.0) + 1.0 / 479001600.0) * r2;
        const Piece q = low + (middle + high * r4) * r4;
        // 2ⁿ: n + 1023 becomes the exponent.
        const auto scale = reinterpret_cast<Piece>(reinterpret_cast<Bits>(rounded) << 52);
        return x.at[i] < kExpFloor ? Piece{} : ((q * r2 + r) + 1.0) * scale;
    });
}

// ln s for 2⁻¹⁰⁰⁰ < s < 2¹⁰⁰⁰, to about 2⁻⁵²: two of Halley's steps y + 2(s − eʸ)/(s + eʸ), whose error is a twelfth of
// the cube of y's. They start from the bits of s: read as an integer they are its binary logarithm to within 0.043.
inline Doubles log_of(Doubles s) {
    Doubles y = by_piece([&](int i) -> Piece {
        // 2⁵² + bits·2⁻²⁰.
        const Bits shifted = (reinterpret_cast<Bits>(s.at[i]) >> 20) | std::int64_t{0x4330000000000000};
        return ((reinterpret_cast<Piece>(shifted) - 0x1p52) * 0x1p-32 + (0.043 - 1023.0)) * 0x1.62e42fefa39efp-1;
    });
    for (int step = 0; step < 2; ++step) {
        const Doubles e = exp_of(y);
        y = y + fill(2.0) * (s - e) / (s + e);
    }
    return y;
}

}  // namespace
}  // namespace lf::LF_INSTRUCTION_SET
