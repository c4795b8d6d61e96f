// The C ABI of k-means++: several starts of the same or of different rows, side by side.
#include <cstdint>
#include <new>

#include "dispatch.h"
#include "plus_plus.h"

namespace lf {

#define LF_DECLARE(set)               \
    namespace set {                   \
    void plus_plus(const PlusPlus&);  \
    }
LF_FOR_EACH_SET(LF_DECLARE)

using Run = void (*)(const PlusPlus&);
static Run pick(Set set) { return LF_PICK(set, plus_plus); }

}  // namespace lf

// Mirrored by plus_plus.py.
struct PlusPlusRequest {
    const float* x;
    std::int64_t problems, rows, width, problem_stride, row_stride, column_stride;
    std::int64_t picks;
    const double* draws;   // [problems, picks]
    std::int64_t* picked;  // [problems, picks]
    std::int32_t threads;
    std::int32_t instruction_set;
};

// 0, or 1 where memory ran out.
LF_EXPORT std::int32_t lf_plus_plus(const PlusPlusRequest* request) {
    const auto run = lf::pick(static_cast<lf::Set>(request->instruction_set));
    bool failed = false;
#pragma omp parallel for num_threads(request->threads) schedule(dynamic) if (request->problems > 1)
    for (std::int64_t i = 0; i < request->problems; ++i) {
        const lf::DefaultArithmetic arithmetic;
        try {
            run({request->x + i * request->problem_stride, request->rows, request->width, request->row_stride,
                 request->column_stride, request->picks, request->draws + i * request->picks,
                 request->picked + i * request->picks});
        } catch (const std::bad_alloc&) {
#pragma omp atomic write
            failed = true;
        }
    }
    return failed ? 1 : 0;
}
