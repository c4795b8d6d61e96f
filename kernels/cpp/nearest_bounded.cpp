// Rows whose codeword stays the nearest, by the triangle inequality (Hamerly 2010), whatever was rounded.
//
// If no codeword but a was within L of a row, and none but a has since moved by more than δ, then now none is
// within L − δ: where u = ‖x − e_a‖ is less, a is the only nearest codeword. A few that moved far would spoil δ
// for all. They are left out of it, and their distances computed, but for those with ‖e_a − f‖ ≥ u + L − δ,
// which are not within L − δ either. Float32 is enough for that:
//
//     every difference is rounded once, every square and its addition once more, so that a sum of D squares is
//     below its real number's (1 + 2⁻²³)^(D+2), and D squares, each below 2⁻¹²⁶, may vanish.
//
// From now on the bound is L′ = min(L − δ, nearest far codeword), rounded down. Compiled once per instruction set.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "abi.h"
#include "runtime/bounds.h"
#include "runtime/parallel.h"
#include "search/search.h"
#include "search/settle.h"
#include "simd/dispatch.h"
#include "simd/instruction_set.h"
#include "simd/scratch.h"

namespace lf {

// A codeword that moved far, seen from another: its number, and a lower bound of how far it lies from there.
struct Far {
    float distance;
    std::int32_t number;
};

struct KeepNearest : Matrix {
    const std::int64_t* codes;  // [rows] of the codewords before they moved; −1: unknown
    const float* bounds;        // [rows] no other codeword was nearer than this
    const float* words;         // [K, stride] as they are now, zeros beyond the width
    const float* fall;          // [K] how far any codeword but k and the far ones has moved, at most
    const std::int64_t* far;    // [far_count] those that moved most
    std::int64_t far_count;
    Far* near;                  // [K, far_count] the far ones but k itself, the nearest first
    std::int64_t stride;

    bool* kept;      // [rows] whether the row is proven; scores and lower are written only where it is
    double* scores;  // [rows]
    float* lower;    // [rows] as `bounds`, of the codewords as they are now
};

LF_KERNEL(void look_around(const KeepNearest&, std::int64_t k))
LF_KERNEL(void find_kept(const KeepNearest&, std::int64_t first, std::int64_t last, float* scratch))

}  // namespace lf

namespace lf::LF_INSTRUCTION_SET {
namespace {

// A lower bound of ‖a − b‖; 0 where it says nothing.
double distance_at_least(const float* a, const float* b, std::int64_t stride) {
    constexpr int kLanes = Vector::kLayout.lanes, kSums = 32 / kLanes;  // 32 divides the stride
    Vector::Float sums[kSums];
    for (auto& sum : sums) sum = Vector::fill(0.0f);
    for (std::int64_t d = 0; d < stride; d += 32)
        for (int i = 0; i < kSums; ++i) {
            const auto difference =
                Vector::subtract(Vector::load(a + d + i * kLanes), Vector::load(b + d + i * kLanes));
            sums[i] = Vector::fused(difference, difference, sums[i]);
        }
    for (int i = 1; i < kSums; ++i) sums[0] = Vector::add(sums[0], sums[i]);
    float first, second;
    Vector::halves(sums[0], first, second);
    const float square = first + second;
    if (!(square <= FLT_MAX)) return 0.0;
    const double width = static_cast<double>(stride), part = tested(Bound::distance, (width + 3) * 0x1p-23);
    const double down = square * (1 - part) - width * 0x1p-126;
    return down > 0 ? std::sqrt(down) * (1 - 0x1p-50) : 0.0;
}

}  // namespace

// The far codewords as seen from codeword k.
void look_around(const KeepNearest& job, std::int64_t k) {
    Far* near = job.near + k * job.far_count;
    std::int64_t count = 0;
    for (std::int64_t f = 0; f < job.far_count; ++f) {
        const std::int64_t other = job.far[f];
        if (other == k) continue;
        const double distance =
            distance_at_least(job.words + k * job.stride, job.words + other * job.stride, job.stride);
        const Far seen{below(distance, 0x1p-23), static_cast<std::int32_t>(other)};
        std::int64_t place = count++;
        for (; place > 0 && near[place - 1].distance > seen.distance; --place) near[place] = near[place - 1];
        near[place] = seen;
    }
    if (count < job.far_count) near[count] = {FLT_MAX, -1};
}

// Rows `first` … `last` − 1. scratch: a row.
void find_kept(const KeepNearest& job, std::int64_t first, std::int64_t last, float* scratch) {
    const bool as_it_is = job.element == Element::float32 && job.column_stride == 1 && job.width == job.stride;
    for (std::int64_t row = first; row < last; ++row) {
        job.kept[row] = false;
        const std::int64_t code = job.codes[row];
        if (code < 0) continue;
        double bound = (static_cast<double>(job.bounds[row]) - tested(Bound::movement, job.fall[code])) * (1 - 0x1p-50);
        if (!(bound > 0)) continue;
        const float* x = static_cast<const float*>(job.x) + row * job.row_stride;
        if (!as_it_is) {
            load_row<Vector>(job, row, job.stride, scratch);
            x = scratch;
        }
        const double square = distance64(x, job.words + code * job.stride, job.stride);
        const double own = std::sqrt(square) * (1 + static_cast<double>(job.stride + 8) * 0x1p-52);
        const Far* near = job.near + code * job.far_count;
        for (std::int64_t f = 0; own < bound && f < job.far_count && near[f].distance < own + bound; ++f) {
            const double distance = distance_at_least(x, job.words + near[f].number * job.stride, job.stride);
            bound = distance < bound ? distance : bound;
        }
        if (!(own < bound)) continue;
        job.kept[row] = true;
        job.scores[row] = square;
        job.lower[row] = below(bound, 0x1p-23);
    }
}

}  // namespace lf::LF_INSTRUCTION_SET

#ifdef LF_ENTRIES

namespace lf {

namespace {

// One codeword in kFarShare counts as far.
constexpr std::int64_t kFarShare = 32;
// Rows of a block that a thread takes at a time.
constexpr std::int64_t kBlockRows = 512;

std::int64_t round_up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

LF_REQUEST(KeepRequest, {
    Matrix x;
    const float* codebook;  // [count, width]
    std::int64_t count;
    const std::int64_t* codes;  // [rows]
    const float* bounds;        // [rows]
    const float* movement;      // [count]
    bool* kept;                 // [rows]
    double* scores;             // [rows]
    float* lower;               // [rows]
    std::int32_t threads, instruction_set;
});

namespace {

void keep_nearest(const KeepRequest& request) {
    check_codes(request.codes, request.x.rows, request.count);
    const std::int64_t count = request.count, width = request.x.width, stride = round_up(width, 32);
    const auto set = static_cast<Set>(request.instruction_set);

    // The far ones first, and behind them the two whose movement bounds all others'.
    const std::int64_t far = count / kFarShare;
    std::vector<std::int64_t> order(count);
    std::iota(order.begin(), order.end(), 0);
    const auto further = [&](std::int64_t a, std::int64_t b) {
        return request.movement[a] != request.movement[b] ? request.movement[a] > request.movement[b] : a < b;
    };
    std::partial_sort(order.begin(), order.begin() + std::min(far + 2, count), order.end(), further);
    std::vector<float> words(count * stride, 0.0f), fall(count);
    std::vector<Far> near(count * far);
    for (std::int64_t k = 0; k < count; ++k) {
        std::memcpy(&words[k * stride], request.codebook + k * width, width * sizeof(float));
        const std::int64_t first = far < count && order[far] == k ? far + 1 : far;
        fall[k] = first < count ? request.movement[order[first]] : 0.0f;
    }

    KeepNearest job{};
    static_cast<Matrix&>(job) = request.x;
    job.codes = request.codes;
    job.bounds = request.bounds;
    job.words = words.data();
    job.fall = fall.data();
    job.far = order.data();
    job.far_count = far;
    job.near = near.data();
    job.stride = stride;
    job.kept = request.kept;
    job.scores = request.scores;
    job.lower = request.lower;

    const std::int64_t blocks = (job.rows + kBlockRows - 1) / kBlockRows;
    const int threads = threads_for(blocks, request.threads);
    const Scratch scratch(threads, stride * sizeof(float));
    const auto look = LF_PICK(set, look_around);
    const auto find = LF_PICK(set, find_kept);
    for_parts(count, threads, 16, [&](std::int64_t k, int) { look(job, k); });
    for_parts(blocks, threads, 4, [&](std::int64_t i, int thread) {
        find(job, i * kBlockRows, std::min((i + 1) * kBlockRows, job.rows), scratch.floats(thread));
    });
}

}  // namespace
}  // namespace lf

LF_ENTRY(keep_nearest, KeepRequest)

#endif  // LF_ENTRIES
