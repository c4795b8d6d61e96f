// Owns what a `Codebook` points to.
#pragma once
#include <cstdint>
#include <vector>

#include "codebook.h"

namespace lf {

class PackedCodebook {
  public:
    // words [count, width] row-major, offset [count] or null.
    PackedCodebook(const float* words, const double* offset, std::int64_t count, std::int64_t width,
                   Layout layout);
    PackedCodebook(const PackedCodebook&) = delete;
    PackedCodebook& operator=(const PackedCodebook&) = delete;

    const Codebook& view() const { return view_; }

  private:
    void keep_winners(const float* words, const double* offset, std::int64_t count, std::int64_t width);
    void sort_by_length(const float* words, std::int64_t width);
    void quantize(std::int64_t width, Layout layout);

    Codebook view_{};
    std::vector<float> exact_;
    std::vector<double> offset_;
    std::vector<std::int64_t> name_;
    std::vector<std::int8_t> packed_;
    std::vector<float> half_, rounding_, reach_;
};

}  // namespace lf
