// sums_k += Σ rint(x · 2ˢ) over the rows of code k, as integers.
//
// |x · 2ˢ| ≤ 2⁵¹, so that adding 1.5·2⁵² leaves the integer, rounded to even, in the lowest bits of the float64:
// no conversion instruction is needed, and every instruction set vectorises the loop as it stands.
// Compiled once per instruction set.
#include "code_sums.h"

#include <cstring>

#include "simd/instruction_set.h"
#include "simd/scratch.h"

namespace lf::LF_INSTRUCTION_SET {
namespace {

void add_steps(const float* __restrict from, std::int64_t width, double scale, std::int64_t* __restrict to) {
    constexpr double kMagic = 0x1.8p52;
    constexpr std::int64_t kMagicBits = 0x4338000000000000;
    for (std::int64_t d = 0; d < width; ++d) {
        const double shifted = static_cast<double>(from[d]) * scale + kMagic;
        std::int64_t bits;
        std::memcpy(&bits, &shifted, sizeof bits);
        to[d] += bits - kMagicBits;
    }
}

}  // namespace

// scratch: a row, in whole vectors.
void add_code_sums(const CodeSums& part, float* scratch) {
    constexpr std::int64_t kLanes = Vector::kLayout.lanes;
    const std::int64_t stride = (part.width + kLanes - 1) / kLanes * kLanes;
    const bool as_it_is = part.element == Element::float32 && part.column_stride == 1;
    for (std::int64_t row = 0; row < part.rows; ++row) {
        const std::int64_t code = part.codes[row];
        if (code < 0) continue;
        const float* from = static_cast<const float*>(part.x) + row * part.row_stride;
        if (!as_it_is) {
            load_row<Vector>(part, row, stride, scratch);
            from = scratch;
        }
        add_steps(from, part.width, part.scale, part.sums + code * part.sums_stride);
        if (part.counts) ++part.counts[code];
    }
}

}  // namespace lf::LF_INSTRUCTION_SET
