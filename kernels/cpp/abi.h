// The contract between C++ and Python, written once.
//
// An entry point takes one request. Its fields stand where the operation is defined, in LF_REQUEST, and nowhere else:
// the library carries their text, and Python builds the struct from it (library.py). So no layout can differ from what
// was compiled. A field is a number, a pointer to numbers, or a record of this file; library.py refuses anything else.
#pragma once
#include <cstdint>

#include "runtime/guard.h"

// A struct, and its fields as text.
#define LF_REQUEST(name, ...) \
    struct name __VA_ARGS__;  \
    inline constexpr char name##_fields[] = #__VA_ARGS__

// Defines the entry point lf_<name>, which calls <name>(request) with default arithmetic and reports what it throws
// (-> Status), and what Python asks of its request.
#define LF_ENTRY(name, Request)                                                 \
    LF_EXPORT std::int32_t lf_##name(const lf::Request* request) {              \
        return lf::guarded([&] {                                                \
            const lf::DefaultArithmetic arithmetic;                             \
            lf::name(*request);                                                 \
        });                                                                     \
    }                                                                           \
    LF_EXPORT const char* lf_##name##_fields() { return lf::Request##_fields; } \
    LF_EXPORT std::int64_t lf_##name##_bytes() { return sizeof(lf::Request); }

namespace lf {

enum class Element : std::int32_t { float32 = 0, float16 = 1, bfloat16 = 2 };

// Rows of any layout.
LF_REQUEST(Matrix, {
    const void* x;  // [rows, width], strides in elements
    std::int64_t rows, width, row_stride, column_stride;
    Element element;
});

// The rows of several problems of one size; a problem_stride of 0 gives all of them the same rows.
LF_REQUEST(Problems, {
    const float* x;  // [problems, rows, width], strides in elements
    std::int64_t problems, rows, width, problem_stride, row_stride, column_stride;
});

}  // namespace lf
