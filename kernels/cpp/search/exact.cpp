#include "search/exact.h"

#include <cmath>
#include <cstdint>

namespace lf {
namespace {

// A fixed-point number wide enough for every float64, in limbs of 32 bits with lazy carries: limb i
// counts 2^(32 i − 1152). A float64 touches three limbs, by less than 2³² each, so that 2³⁰ additions
// can't overflow the 63 bits that a limb has.
class Accumulator {
  public:
    void add(double value) {
        if (value == 0.0) return;
        int exponent;
        // value = mantissa · 2^(exponent − 53), |mantissa| < 2⁵³ an integer.
        const auto mantissa = static_cast<std::int64_t>(std::ldexp(std::frexp(value, &exponent), 53));
        const int position = exponent - 53 + kBias;
        const int limb = position >> 5, shift = position & 31;
        const bool negative = mantissa < 0;
        const auto magnitude = static_cast<unsigned __int128>(negative ? -mantissa : mantissa) << shift;
        for (int part = 0; part < 3; ++part) {
            const auto digit = static_cast<std::int64_t>(static_cast<std::uint32_t>(magnitude >> (32 * part)));
            limbs_[limb + part] += negative ? -digit : digit;
        }
    }

    int sign() {
        std::int64_t carry = 0;
        bool nonzero = false;
        for (std::int64_t& limb : limbs_) {
            const std::int64_t total = limb + carry;
            carry = total >> 32;  // rounds down: every limb ends in [0, 2³²)
            limb = total & 0xffffffff;
            nonzero |= limb != 0;
        }
        return carry < 0 ? -1 : (nonzero || carry > 0);
    }

  private:
    static constexpr int kBias = 1152;  // the least float64 has exponent − 53 = −1126
    std::int64_t limbs_[72] = {};
};

// ‖x − a‖² = Σ x² − 2xa + a², each product of two float32 exact in float64.
void add_distance(Accumulator& sum, const float* x, const float* a, std::int64_t width, double sign) {
    for (std::int64_t d = 0; d < width; ++d) {
        const double p = x[d], q = a[d];
        sum.add(sign * p * p);
        sum.add(-2.0 * sign * p * q);
        sum.add(sign * q * q);
    }
}

}  // namespace

int compare_distances(const float* x, const float* a, double offset_a, const float* y, const float* b, double offset_b,
                      std::int64_t width) {
    Accumulator sum;
    add_distance(sum, x, a, width, 1.0);
    add_distance(sum, y, b, width, -1.0);
    sum.add(offset_a);
    sum.add(-offset_b);
    return sum.sign();
}

}  // namespace lf
