// Sums without rounding, for the comparisons that float64 can't decide.
#pragma once
#include <cstdint>

namespace lf {

// Sign of (‖x − a‖² + offset_a) − (‖y − b‖² + offset_b) as real numbers; all vectors [width] float32.
int compare_distances(const float* x, const float* a, double offset_a, const float* y, const float* b, double offset_b,
                      std::int64_t width);

}  // namespace lf
