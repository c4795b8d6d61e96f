// The C ABI of one assignment along arcs that another device has collected.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "abi.h"
#include "simd/dispatch.h"
#include "assignment/transport.h"

namespace lf {

LF_REQUEST(TransportRequest, {
    std::int64_t rows, clusters;
    const std::int64_t* starts;   // [rows + 1]
    const std::int32_t* cluster;  // [arcs]
    const double* arc_cost;       // [arcs]
    const std::int64_t* low;      // [clusters] less the rows that have no choice: maybe below 0
    const std::int64_t* high;     // [clusters] likewise
    double slack;                 // with which the arcs were collected, at `prices`
    double* prices;               // [clusters] in and out
    std::int64_t* labels;         // [rows]
    bool* done;  // optimal along these arcs; otherwise they have to be collected anew, at the new prices
    std::int32_t threads;
});

namespace {

void transport(const TransportRequest& request) {
    const std::int64_t clusters = request.clusters;
    Arcs arcs(request.rows);
    for (std::int64_t chunk = 0; chunk < arcs.chunks(); ++chunk) {
        ArcList& list = arcs.list(chunk);
        const std::int64_t first = chunk * Arcs::kChunk, last = std::min(first + Arcs::kChunk, request.rows);
        const std::int64_t begin = request.starts[first], end = request.starts[last];
        list.begin.clear();
        for (std::int64_t i = first; i <= last; ++i) list.begin.push_back(static_cast<std::size_t>(request.starts[i] - begin));
        list.cluster.assign(request.cluster + begin, request.cluster + end);
        list.cost.assign(request.arc_cost + begin, request.arc_cost + end);
    }
    Bounds bounds;
    bounds.low.assign(request.low, request.low + clusters);
    bounds.high.assign(request.high, request.high + clusters);
    Prices prices;
    prices.now.assign(request.prices, request.prices + clusters);
    prices.collected = prices.now;
    prices.slack.assign(clusters, request.slack);
    prices.leave.assign(clusters, 0.0);
    if (request.slack < std::numeric_limits<double>::infinity())
        ascend(arcs, bounds, request.rows, kFirstStep * request.slack, prices, request.threads);
    Repair repair(arcs, bounds, prices);
    *request.done = repair.run();
    prices.now = repair.prices();
    std::copy(prices.now.begin(), prices.now.end(), request.prices);
    std::copy(repair.labels().begin(), repair.labels().end(), request.labels);
}

}  // namespace
}  // namespace lf

LF_ENTRY(transport, TransportRequest)
