// One level's codewords as the kernels read them. Made by `PackedCodebook` (pack.h).
#pragma once
#include <cstdint>

namespace lf {

// A panel is the unit of the screen: kVectors vectors of codewords scored together.
constexpr int kVectors = 4;
// A step is the part of the width that most multiply-add instructions take: 4 bytes a codeword.
constexpr int kStepWidth = 4;
// Steps come in blocks, unrolled; with 16-bit sums, a block's are widened before the next begins.
constexpr int kBlockSteps = 8, kShortBlockSteps = 4;
constexpr int kShortWidth = kShortBlockSteps * kStepWidth;

// The order of codewords in memory that an instruction set wants.
struct Layout {
    int lanes;         // codewords a vector: 32-bit lanes of a register
    bool narrow_sums;  // true: products are summed in 16 bits, half a block of them (vpmaddubsw); false: 32 (VNNI)
    int together;      // bytes of a codeword that lie side by side, before the next one's: 4 or 8
    int zero;          // the byte of a row's 0: 128 where rows are unsigned, else 0

    bool operator==(const Layout& other) const {
        return lanes == other.lanes && narrow_sums == other.narrow_sums && together == other.together &&
               zero == other.zero;
    }
};

struct Codebook {
    std::int64_t words;         // codewords that can win: finite, the first of equals
    std::int64_t stride;        // floats from one codeword to the next: the width in whole blocks
    const float* exact;         // [words, stride], zeros beyond the width
    const double* offset;       // [words], or null
    const std::int64_t* name;   // [words] the caller's index of each

    // The screen: b_k = β_p e_k rounded to int8, β_p of its panel. See screen.h for what each number bounds.
    bool screened;              // false: out of the screen's range, every row is settled over all words
    std::int64_t panels;
    std::int64_t panel_bytes;
    std::int64_t blocks;        // of kBlockSteps; one of kShortBlockSteps up to kShortWidth
    const std::int8_t* packed;  // [panels][blocks]: kVectors initial sums, then the block's steps
    const float* half;          // [panels, kVectors, lanes] ½‖e‖² + ½offset − shift; huge in the padding
    double shift;               // what all scores leave out
    const float* unit;          // [panels, and a vector beyond] 1/β_p
    const float* rounding;      // likewise, max_k ‖b_k − round(b_k)‖/β_p
    const float* reach;         // likewise, max_k ‖round(b_k)‖/β_p
    float lane_limit;           // largest norm of a row's half block whose 16-bit sums can't overflow
    float longest;              // max_k ‖e_k‖
    float highest;              // max_k |half_k|, and room for half's own rounding
};

}  // namespace lf
