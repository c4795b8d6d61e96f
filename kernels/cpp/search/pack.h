// Owns what a `Codebook` points to.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "search/codebook.h"

namespace lf {

// The codewords that a search needs: those that can be nearest, or (all finite) every one.
enum class Keep { winners, all };

class PackedCodebook {
  public:
    // words [count, width] row-major, offset [count] or null.
    PackedCodebook(const float* words, const double* offset, std::int64_t count, std::int64_t width, Layout layout,
                   Keep keep = Keep::winners);
    PackedCodebook(const PackedCodebook&) = delete;
    PackedCodebook& operator=(const PackedCodebook&) = delete;

    const Codebook& view() const { return view_; }
    std::size_t bytes() const;
    // Whether some of the words can never win.
    bool left_out() const { return !left_out_.empty(); }
    // Whether it would be made of these words and no offsets.
    bool holds(const float* words, std::int64_t count, std::int64_t width) const;

  private:
    void find_winners(const float* words, const double* offset, std::int64_t count, std::int64_t width);
    void copy(const float* words, const double* offset, std::int64_t width);
    void sort_by_length(const float* words, std::int64_t width);
    void quantize(std::int64_t width, Layout layout);

    struct LeftOut {
        std::int64_t word, twin;  // the word that it equals, or −1: it isn't finite
    };

    std::int64_t width_;
    std::vector<LeftOut> left_out_;
    Codebook view_{};
    std::vector<float> exact_;
    std::vector<double> offset_;
    std::vector<std::int64_t> name_;
    std::vector<std::int8_t> packed_;
    std::vector<float> half_, unit_, rounding_, reach_;
};

}  // namespace lf
