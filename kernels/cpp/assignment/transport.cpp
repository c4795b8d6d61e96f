#include "assignment/transport.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "abi.h"
#include "assignment/ascent.h"
#include "assignment/repair.h"

namespace lf {

double margin(const Arcs& arcs, const std::vector<double>& prices, double share) {
    std::vector<double> margins;
    for (std::int64_t i = 0; i < arcs.rows(); ++i) {
        const Arcs::Row row = arcs.row(i);
        if (row.count < 2) continue;
        const Best best = best_of(row, prices);
        margins.push_back(best.second - best.score);
    }
    const auto rank = static_cast<std::size_t>(share * static_cast<double>(arcs.rows()));
    if (rank >= margins.size()) return std::numeric_limits<double>::infinity();
    std::nth_element(margins.begin(), margins.begin() + static_cast<std::ptrdiff_t>(rank), margins.end());
    return margins[rank];
}

double dual(double least, const Bounds& bounds, const std::vector<double>& prices) {
    for (std::int64_t k = 0; k < bounds.clusters(); ++k)
        least -= prices[k] * static_cast<double>(prices[k] > 0 ? bounds.high[k] : bounds.low[k]);
    return least;
}

double dual(const Arcs& arcs, const Bounds& bounds, const std::vector<double>& prices) {
    double total = 0.0, part = 0.0;
    for (std::int64_t i = 0; i < arcs.rows(); ++i) {
        part += best_of(arcs.row(i), prices).score;
        if ((i + 1) % Arcs::kChunk == 0 || i + 1 == arcs.rows()) {  // sums of sums: a small rounding
            total += part;
            part = 0.0;
        }
    }
    return dual(total, bounds, prices);
}

double cost(const Arcs& arcs, const std::vector<std::int32_t>& labels) {
    double total = 0.0, part = 0.0;
    for (std::int64_t i = 0; i < arcs.rows(); ++i) {
        part += arcs.row(i).cost_of(labels[i]);
        if ((i + 1) % Arcs::kChunk == 0 || i + 1 == arcs.rows()) {
            total += part;
            part = 0.0;
        }
    }
    return total;
}

LF_REQUEST(TransportRequest, {
    std::int64_t rows, clusters;
    const std::int64_t* starts;  // [rows + 1]
    const std::int32_t* cluster;  // [arcs]
    const double* arc_cost;  // [arcs]
    const std::int64_t* low;  // [clusters] less the rows that have no choice: maybe below 0
    const std::int64_t* high;  // [clusters] likewise
    double slack;  // with which the arcs were collected, at `prices`
    double* prices;  // [clusters] in and out
    std::int64_t* labels;  // [rows]
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
        for (std::int64_t i = first; i <= last; ++i)
            list.begin.push_back(static_cast<std::size_t>(request.starts[i] - begin));
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
