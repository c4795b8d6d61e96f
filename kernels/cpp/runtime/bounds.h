// The error bounds that exact codes rest on. Each goes through `tested`, so that a test can make it too small, in a
// library of its own, and has to find a wrong code: a bound that nothing would miss is not tested, or not needed.
// docs/bounds.md derives them.
#pragma once

namespace lf {

enum class Bound {
    screen,  // of the int8 scores (search/screen.h)
    float32,  // of a score in float32 (search/screen.h)
    float64,  // of two distances in float64 (search/settle.h)
    movement,  // how far codewords have moved (nearest_bounded.cpp)
    distance,  // of a distance in float32 (nearest_bounded.cpp)
    others,  // of how far all other codewords are (residual_search.cpp)
    slack,  // of what an arc may cost more than the best (assignment/collect.cpp)
    extension,  // the same, where the best is known (assignment/collect.cpp)
};

#ifdef LF_WEAK_BOUNDS
inline double bound_factor[] = {1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0};
template <class T> inline T tested(Bound which, T value) {
    return value * static_cast<T>(bound_factor[static_cast<int>(which)]);
}
#else
template <class T> constexpr T tested(Bound, T value) { return value; }
#endif

}  // namespace lf
