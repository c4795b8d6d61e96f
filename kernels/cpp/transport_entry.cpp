// The C ABI of one assignment along arcs that another device has collected.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>
#include <vector>

#include "dispatch.h"
#include "guard.h"
#include "transport.h"

// Mirrored by transport.py.
struct TransportRequest {
    std::int64_t rows, clusters;
    const std::int64_t* starts;   // [rows + 1]
    const std::int32_t* cluster;  // [arcs]
    const double* arc_cost;       // [arcs]
    const std::int64_t* low;      // [clusters]
    const std::int64_t* high;     // [clusters]
    double slack;                 // with which the arcs were collected, at `prices`
    double* prices;               // [clusters] in and out
    std::int64_t* labels;         // [rows]
    double* cost;
    double* bound;
    std::int32_t threads;
};

// -> Status; kDone: optimal along these arcs.
LF_EXPORT std::int32_t lf_transport(const TransportRequest* request) {
    bool done = false;
    const std::int32_t status = lf::guarded([&] {
        const lf::DefaultArithmetic arithmetic;
        const std::int64_t clusters = request->clusters;
        lf::Arcs arcs(request->rows);
        for (std::int64_t chunk = 0; chunk < arcs.chunks(); ++chunk) {
            lf::ArcList& list = arcs.list(chunk);
            const std::int64_t first = chunk * lf::Arcs::kChunk, last = std::min(first + lf::Arcs::kChunk, request->rows);
            const std::int64_t begin = request->starts[first], end = request->starts[last];
            list.begin.clear();
            for (std::int64_t i = first; i <= last; ++i) list.begin.push_back(static_cast<std::size_t>(request->starts[i] - begin));
            list.cluster.assign(request->cluster + begin, request->cluster + end);
            list.cost.assign(request->arc_cost + begin, request->arc_cost + end);
        }
        lf::Bounds bounds;
        bounds.low.assign(request->low, request->low + clusters);
        bounds.high.assign(request->high, request->high + clusters);
        lf::Prices prices;
        prices.now.assign(request->prices, request->prices + clusters);
        prices.collected = prices.now;
        prices.slack.assign(clusters, request->slack);
        prices.leave.assign(clusters, 0.0);
        if (request->slack < std::numeric_limits<double>::infinity())
            lf::ascend(arcs, bounds, request->rows, lf::kFirstStep * request->slack, prices, request->threads);
        lf::Repair repair(arcs, bounds, prices);
        done = repair.run();
        prices.now = repair.prices();
        std::copy(prices.now.begin(), prices.now.end(), request->prices);
        std::copy(repair.labels().begin(), repair.labels().end(), request->labels);
        if (done) {
            *request->cost = lf::cost(arcs, repair.labels());
            *request->bound = std::min(lf::dual(arcs, bounds, prices.now), *request->cost);
        }
    });
    return status == lf::kDone && !done ? lf::kAnew : status;
}
