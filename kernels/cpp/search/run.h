// The search that Python asks for, and the loop over its blocks of rows.
#pragma once
#include <cstddef>
#include <cstdint>

#include "abi.h"
#include "search/search.h"

namespace lf {

LF_REQUEST(SearchRequest, {
    Matrix x;
    const float* codebooks;  // [ΣK, width]
    const double* offset;    // [ΣK] or null
    const std::int64_t* sizes;
    std::int64_t levels, beam;
    const std::int64_t* index;  // [indexed] the rows that are meant, or null: all of them
    std::int64_t indexed;
    std::int64_t* codes;  // [rows, levels]
    float* quantized;     // [rows, width] or null
    float* margins;       // [rows, levels] or null, with errors
    float* errors;
    double* scores;       // [rows] or null
    float* lower;         // [rows], zeros, or null
    std::int32_t threads, instruction_set;
});

// Of the search for the nearest. A block starts at row `first` and works in its thread's own scratch.
LF_KERNEL(std::size_t scratch_bytes(const Search&))
LF_KERNEL(void search_block(const Search&, std::int64_t first, void* scratch))

// One instruction set's kernels, of that search or another.
struct SearchKernels {
    Layout layout;
    std::size_t (*scratch_bytes)(const Search&);
    void (*block)(const Search&, std::int64_t first, void* scratch);
};

// Packs the codebooks, or finds them packed, and shares blocks of rows among threads.
void run_search(const SearchRequest&, const SearchKernels&);

}  // namespace lf
