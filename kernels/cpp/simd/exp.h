// eˣ of float32 vectors, the same bits from every instruction set.
//
// x = n·ln 2 + r with |r| ≤ ½ ln 2 (Cody and Waite: ln 2 in two parts, of which n times the first is exact), eʳ
// by a polynomial of degree 6 whose relative error is below 2⁻²⁸, and 2ⁿ added to its exponent. With the
// roundings the result is within 1 unit in the last place for −87.33 ≤ x ≤ 88 (all such floats tried).
// Below that it is 0: the true value is a subnormal number. NaN stays NaN.
#pragma once
#include "simd/instruction_set.h"

namespace lf::LF_INSTRUCTION_SET {
namespace {

inline Vector::Float exp(Vector::Float x) {
    const auto constant = [](float value) { return Vector::fill(value); };
    // Adding 1.5·2²³ rounds to an integer, which then stands in the lowest bits.
    const auto shifted = Vector::fma(x, constant(0x1.715476p+0f), constant(0x1.8p23f));
    const auto n = Vector::subtract(shifted, constant(0x1.8p23f));
    auto r = Vector::fma(n, constant(-0x1.62e4p-1f), x);
    r = Vector::fma(n, constant(-0x1.7f7d1cp-20f), r);
    auto power = Vector::fma(r, constant(0x1.6a23dp-10f), constant(0x1.123a2p-7f));
    power = Vector::fma(power, r, constant(0x1.5558f2p-5f));
    power = Vector::fma(power, r, constant(0x1.555492p-3f));
    power = Vector::fma(power, r, constant(0x1.fffffcp-2f));
    power = Vector::fma(power, r, constant(1.0f));
    power = Vector::fma(power, r, constant(1.0f));
    return Vector::zero_below(Vector::scaled(power, shifted), x, constant(-0x1.5d589ep+6f));
}

}  // namespace
}  // namespace lf::LF_INSTRUCTION_SET
