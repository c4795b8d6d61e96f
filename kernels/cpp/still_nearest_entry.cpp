// The C ABI of still_nearest: which codewords moved far, and blocks of rows shared among threads.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "abi.h"
#include "simd/dispatch.h"
#include "runtime/parallel.h"
#include "still_nearest.h"

namespace lf {

#define LF_DECLARE(set)                                                                                        \
    namespace set {                                                                                            \
    void look_around(const StillNearest&, std::int64_t k);                                                     \
    void find_still_nearest(const StillNearest&, std::int64_t first, std::int64_t last, float* scratch);       \
    }
LF_FOR_EACH_SET(LF_DECLARE)

namespace {

// One codeword in so many counts as far.
constexpr std::int64_t kFarShare = 32;
// Rows of a block that a thread takes at a time.
constexpr std::int64_t kBlockRows = 512;

std::int64_t round_up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

LF_REQUEST(StillRequest, {
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

void still_nearest(const StillRequest& request) {
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

    StillNearest job{};
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
    const auto find = LF_PICK(set, find_still_nearest);
    for_parts(count, threads, 16, [&](std::int64_t k, int) { look(job, k); });
    for_parts(blocks, threads, 4, [&](std::int64_t i, int thread) {
        find(job, i * kBlockRows, std::min((i + 1) * kBlockRows, job.rows), scratch.floats(thread));
    });
}

}  // namespace
}  // namespace lf

LF_ENTRY(still_nearest, StillRequest)
