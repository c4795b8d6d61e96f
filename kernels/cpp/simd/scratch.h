// A thread's scratch: arrays carved out of one piece of memory, and rows loaded into it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "search/search.h"
#include "simd/instruction_set.h"

namespace lf::LF_INSTRUCTION_SET {
namespace {

class Carver {
  public:
    // Null only measures.
    explicit Carver(void* memory) : memory_(static_cast<char*>(memory)) {}

    template <class T> T* take(std::int64_t count) {
        T* part = memory_ ? reinterpret_cast<T*>(memory_ + bytes_) : nullptr;
        bytes_ += (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
        return part;
    }
    std::size_t bytes() const { return bytes_; }

  private:
    char* memory_;
    std::size_t bytes_ = 0;
};

// Row `row` of x as float32, zeros up to the stride.
template <class V> void load_row(const Matrix& matrix, std::int64_t row, std::int64_t stride, float* to) {
    const std::int64_t width = matrix.width, step = matrix.column_stride;
    constexpr std::int64_t kLanes = V::kLayout.lanes;
    if (matrix.element == Element::float32) {
        const float* from = static_cast<const float*>(matrix.x) + row * matrix.row_stride;
        std::int64_t d = 0;
        for (; step == 1 && d + kLanes <= width; d += kLanes) V::store(to + d, V::load(from + d));
        for (; d < width; ++d) to[d] = from[d * step];
        for (; d < stride; ++d) to[d] = 0.0f;
        return;
    }
    std::memset(to + width, 0, (stride - width) * sizeof(float));
    const auto* from = static_cast<const std::uint16_t*>(matrix.x) + row * matrix.row_stride;
    for (std::int64_t d = 0; d < width; d += kLanes) {
        const std::int64_t count = width - d < kLanes ? width - d : kLanes;
        std::uint16_t part[kLanes] = {};
        const std::uint16_t* source = from + d;
        if (step != 1 || count < kLanes) {
            for (std::int64_t i = 0; i < count; ++i) part[i] = from[(d + i) * step];
            source = part;
        }
        V::store(to + d, matrix.element == Element::float16 ? V::from_half(source) : V::from_bfloat(source));
    }
}

// Has row `row` of x on its way to the cache, if its elements are neighbours.
inline void prefetch_row(const Matrix& matrix, std::int64_t row) {
    if (matrix.column_stride != 1) return;
    const std::int64_t bytes = matrix.element == Element::float32 ? 4 : 2;
    const char* from = static_cast<const char*>(matrix.x) + row * matrix.row_stride * bytes;
    for (std::int64_t at = 0; at < matrix.width * bytes; at += 64) __builtin_prefetch(from + at, 0, 2);
}

template <class V> void load_row(const Search& search, std::int64_t row, float* to) {
    load_row<V>(search, row, search.stride, to);
}

}  // namespace
}  // namespace lf::LF_INSTRUCTION_SET
