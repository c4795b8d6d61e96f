// sums_k += Σ rint(x · 2ˢ) over the rows of code k, as integers.
//
// |x · 2ˢ| ≤ 2⁵¹, so that adding 1.5·2⁵² leaves the integer, rounded to even, in the lowest bits of the float64:
// no conversion instruction is needed, and every instruction set vectorises the loop as it stands.
// Compiled once per instruction set.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "abi.h"
#include "runtime/parallel.h"
#include "simd/dispatch.h"
#include "simd/instruction_set.h"
#include "simd/scratch.h"

namespace lf {

struct ClusterSums : Matrix {
    const std::int64_t* codes;  // [rows], −1 counts nowhere
    double scale;               // 2ˢ
    std::int64_t* sums;         // of the part's first column; `sums_stride` from one code to the next
    std::int64_t sums_stride;
    std::int64_t* counts;       // [codes], or null where another part counts the same rows
};

LF_KERNEL(void add_cluster_sums(const ClusterSums&, float* scratch))

}  // namespace lf

namespace lf::LF_INSTRUCTION_SET {
namespace {

void add_steps(const float* __restrict from, std::int64_t width, double scale, std::int64_t* __restrict to) {
    constexpr double kMagic = 0x1.8p52;
    constexpr std::int64_t kMagicBits = 0x4338000000000000;
    for (std::int64_t d = 0; d < width; ++d) {
        const double shifted = static_cast<double>(from[d]) * scale + kMagic;
        std::int64_t bits;
        std::memcpy(&bits, &shifted, sizeof bits);
        to[d] += bits - kMagicBits;
    }
}

}  // namespace

// scratch: a row, in whole vectors.
void add_cluster_sums(const ClusterSums& part, float* scratch) {
    constexpr std::int64_t kLanes = Vector::kLayout.lanes;
    const std::int64_t stride = (part.width + kLanes - 1) / kLanes * kLanes;
    const bool as_it_is = part.element == Element::float32 && part.column_stride == 1;
    for (std::int64_t row = 0; row < part.rows; ++row) {
        const std::int64_t code = part.codes[row];
        if (code < 0) continue;
        const float* from = static_cast<const float*>(part.x) + row * part.row_stride;
        if (!as_it_is) {
            load_row<Vector>(part, row, stride, scratch);
            from = scratch;
        }
        add_steps(from, part.width, part.scale, part.sums + code * part.sums_stride);
        if (part.counts) ++part.counts[code];
    }
}

}  // namespace lf::LF_INSTRUCTION_SET

#ifdef LF_ENTRIES

namespace lf {

namespace {

// Threads share columns, which needs no memory, as long as each gets a few cache lines of them.
constexpr std::int64_t kLeastColumns = 64;
// Beyond that they share rows: each part but the first adds into memory of its own, at most this much together,
// and only where its rows outweigh clearing and adding that up.
constexpr std::int64_t kMostBytes = std::int64_t{64} << 20, kRowsPerCode = 4;

}  // namespace

LF_REQUEST(ClusterSumsRequest, {
    Matrix x;
    const std::int64_t* codes;  // [rows] < count; −1 counts nowhere
    std::int64_t count;
    double scale;          // 2ˢ
    std::int64_t* sums;    // [count, width], zeros
    std::int64_t* counts;  // [count], zeros
    std::int32_t threads, instruction_set;
});

namespace {

void cluster_sums(const ClusterSumsRequest& request) {
    check_codes(request.codes, request.x.rows, request.count);
    const Matrix& x = request.x;
    const std::int64_t rows = x.rows, width = x.width, count = request.count;
    const std::int64_t threads = std::max(request.threads, 1), entries = count * (width + 1);
    const std::int64_t by_columns = std::clamp<std::int64_t>(width / kLeastColumns, 1, threads);
    const std::int64_t by_rows = std::max<std::int64_t>(
        1, std::min({threads / by_columns, 1 + rows / (kRowsPerCode * std::max<std::int64_t>(count, 1)),
                     1 + kMostBytes / (8 * std::max<std::int64_t>(entries, 1))}));
    const std::int64_t parts = by_columns * by_rows;
    std::vector<std::int64_t> others((by_rows - 1) * entries);
    std::vector<std::vector<float>> scratch(parts, std::vector<float>((width / by_columns + 64) / 16 * 16));
    const auto set = static_cast<Set>(request.instruction_set);
    const auto add = LF_PICK(set, add_cluster_sums);
    const std::int64_t size = x.element == Element::float32 ? 4 : 2;

    for_parts(parts, static_cast<int>(parts), 1, [&](std::int64_t i, int thread) {
        const std::int64_t column = i % by_columns, row = i / by_columns;
        const std::int64_t first = width * column / by_columns, begin = rows * row / by_rows;
        std::int64_t* into = row == 0 ? request.sums : others.data() + (row - 1) * entries;
        ClusterSums part{};
        static_cast<Matrix&>(part) = x;
        part.x = static_cast<const char*>(x.x) + size * (begin * x.row_stride + first * x.column_stride);
        part.rows = rows * (row + 1) / by_rows - begin;
        part.width = width * (column + 1) / by_columns - first;
        part.codes = request.codes + begin;
        part.scale = request.scale;
        part.sums = into + first;
        part.sums_stride = width;
        if (column == 0) part.counts = row == 0 ? request.counts : into + count * width;
        add(part, scratch[thread].data());
    });
    // Integers: the order doesn't matter.
    for (std::int64_t part = 0; part + 1 < by_rows; ++part) {
        const std::int64_t* from = others.data() + part * entries;
        for (std::int64_t j = 0; j < count * width; ++j) request.sums[j] += from[j];
        for (std::int64_t k = 0; k < count; ++k) request.counts[k] += from[count * width + k];
    }
}

}  // namespace
}  // namespace lf

LF_ENTRY(cluster_sums, ClusterSumsRequest)

#endif  // LF_ENTRIES
