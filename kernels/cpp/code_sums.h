// What code_sums is asked: one part of the rows and columns, which one thread adds up.
#pragma once
#include <cstdint>

#include "search/search.h"

namespace lf {

struct CodeSums : Matrix {
    const std::int64_t* codes;  // [rows], −1 counts nowhere
    double scale;               // 2ˢ
    std::int64_t* sums;         // of the part's first column; `sums_stride` from one code to the next
    std::int64_t sums_stride;
    std::int64_t* counts;       // [codes], or null where another part counts the same rows
};

}  // namespace lf
