// The C ABI of size-constrained k-means: problems side by side where they are many, else threads within one.
#include <algorithm>
#include <cstdint>

#include "abi.h"
#include "balanced.h"
#include "simd/dispatch.h"
#include "runtime/parallel.h"

namespace lf {

#define LF_DECLARE(set)                                                                                          \
    namespace set {                                                                                              \
    extern const Layout kLayout;                                                                                 \
    std::size_t arcs_scratch_bytes(const Search&);                                                               \
    void collect_arcs(const Search&, const Reach&, std::int64_t, std::int64_t, void*, ArcList&);                       \
    }
LF_FOR_EACH_SET(LF_DECLARE)

LF_REQUEST(BalancedRequest, {
    Problems x;
    std::int64_t clusters;
    const std::int64_t* low;   // [clusters]
    const std::int64_t* high;  // [clusters]
    std::int64_t iterations;
    double tolerance;
    float* centroids;      // [problems, clusters, width] in and out
    std::int64_t* labels;  // [problems, rows]
    double* prices;        // [problems, clusters]
    double* cost;          // [problems]
    double* bound;         // [problems]
    std::int32_t exponent, threads, instruction_set;
});

namespace {

void balanced_lloyd(const BalancedRequest& request) {
    const auto set = static_cast<Set>(request.instruction_set);
    Bounds bounds;
    bounds.low.assign(request.low, request.low + request.clusters);
    bounds.high.assign(request.high, request.high + request.clusters);
    const bool side_by_side = request.x.problems >= request.threads;
    Balanced problem{};
    problem.rows.element = Element::float32;
    problem.rows.rows = request.x.rows;
    problem.rows.width = request.x.width;
    problem.rows.row_stride = request.x.row_stride;
    problem.rows.column_stride = request.x.column_stride;
    problem.layout = LF_PICK(set, kLayout);
    problem.scratch_bytes = LF_PICK(set, arcs_scratch_bytes);
    problem.collect = LF_PICK(set, collect_arcs);
    problem.bounds = &bounds;
    problem.iterations = request.iterations;
    problem.tolerance = request.tolerance;
    problem.exponent = request.exponent;
    problem.threads = side_by_side ? 1 : request.threads;
    for_parts(request.x.problems, side_by_side ? request.threads : 1, 1, [&](std::int64_t i, int) {
        Balanced mine = problem;
        mine.rows.x = request.x.x + i * request.x.problem_stride;
        lloyd(mine, request.centroids + i * request.clusters * request.x.width, request.labels + i * request.x.rows,
              request.prices + i * request.clusters, request.cost + i, request.bound + i);
    });
}

}  // namespace
}  // namespace lf

LF_ENTRY(balanced_lloyd, BalancedRequest)
