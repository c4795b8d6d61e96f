// Forward: q = Σ_l e_{c_l} and Σ_i ‖r_l‖², which both loss terms of a level are. Backward, with weights a level:
//
//     ∂x_i = ∂q_i + Σ_l to_x_l r_l        ∂e_k = −Σ_{i: c_l = k} (own_l r_l + Σ_{m > l} later_m r_m)
//
// which every mode of residual_grad is a case of. Residuals are walked anew, never stored for all rows.
// A thread of the backward pass owns a slice of the columns and takes the rows in order, so that each sum
// has one order whatever the threads; it adds in float64, as do the squares: 8 lanes a row, rows in order,
// blocks in order.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "abi.h"
#include "runtime/parallel.h"
#include "simd/dispatch.h"
#include "simd/instruction_set.h"

namespace lf {

struct ResidualWalk {
    const float* x;  // [rows, width]
    std::int64_t rows, width;
    const float* codebooks;      // [ΣK, width]
    const std::int64_t* starts;  // [levels] first row of each
    std::int64_t levels, words;  // words = ΣK
    const std::int64_t* codes;   // [rows, levels]; a row of −1 takes no part

    float* quantized;  // [rows, width] Σ_l e_{c_l}

    const float* grad_quantized;       // [rows, width]
    const double *to_x, *own, *later;  // [levels] each
    float* grad_x;                     // [rows, width]
    float* grad_codebooks;             // [ΣK, width]
};

// Rows whose squares add up before the others' do: fixed, so that threads don't change the sum.
constexpr std::int64_t kWalkBlock = 256;
// Columns that one thread takes through all rows: a cache line.
constexpr std::int64_t kWalkSlice = 16;

// One instruction set's kernels.
struct WalkKernels {
    // Quantized rows of one block, and errors [levels] += ‖r_l‖²; -> rows that take part.
    std::int64_t (*forward_block)(const ResidualWalk&, std::int64_t first, double* errors, float* residual);
    std::size_t (*slice_bytes)(const ResidualWalk&);
    void (*backward_slice)(const ResidualWalk&, std::int64_t column, void* scratch);
};

LF_KERNEL(extern const WalkKernels kWalk)

}  // namespace lf

namespace lf::LF_INSTRUCTION_SET {
namespace {

constexpr int kSquareLanes = 8;

const float* word_of(const ResidualWalk& walk, const std::int64_t* codes, std::int64_t level) {
    return walk.codebooks + (walk.starts[level] + codes[level]) * walk.width;
}

// r ← r − e, q ← q + e; -> ‖r‖²
inline double step(const float* __restrict word, float* __restrict residual, float* __restrict quantized,
                   std::int64_t width) {
    double lanes[kSquareLanes] = {};
    std::int64_t d = 0;
    for (; d + kSquareLanes <= width; d += kSquareLanes)
        for (int i = 0; i < kSquareLanes; ++i) {
            const float left = residual[d + i] - word[d + i];
            residual[d + i] = left;
            quantized[d + i] += word[d + i];
            lanes[i] += static_cast<double>(left) * static_cast<double>(left);
        }
    for (int i = 0; d + i < width; ++i) {
        const float left = residual[d + i] - word[d + i];
        residual[d + i] = left;
        quantized[d + i] += word[d + i];
        lanes[i] += static_cast<double>(left) * static_cast<double>(left);
    }
    return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

std::int64_t forward_block(const ResidualWalk& walk, std::int64_t first, double* errors, float* residual) {
    const std::int64_t last = first + kWalkBlock < walk.rows ? first + kWalkBlock : walk.rows;
    std::int64_t counted = 0;
    for (std::int64_t row = first; row < last; ++row) {
        const std::int64_t* codes = walk.codes + row * walk.levels;
        float* quantized = walk.quantized + row * walk.width;
        std::memset(quantized, 0, walk.width * sizeof(float));
        if (codes[0] < 0) continue;
        ++counted;
        std::memcpy(residual, walk.x + row * walk.width, walk.width * sizeof(float));
        for (std::int64_t level = 0; level < walk.levels; ++level)
            errors[level] += step(word_of(walk, codes, level), residual, quantized, walk.width);
    }
    return counted;
}

// A slice of one row in parts that are one register each on AVX2; elsewhere the compiler splits or pads them.
constexpr int kPart = 4, kParts = kWalkSlice / kPart;
using FloatPart = float __attribute__((vector_size(kPart * sizeof(float))));
using Part = double __attribute__((vector_size(kPart * sizeof(double))));

struct Floats {
    FloatPart part[kParts];
};

// `count` columns; kWhole: all of a slice.
template <bool kWhole> inline void load(Floats& to, const float* from, std::int64_t count) {
    if (!kWhole) to = Floats{};
    std::memcpy(&to, from, (kWhole ? kWalkSlice : count) * sizeof(float));
}
template <bool kWhole> inline void store(float* to, const Floats& from, std::int64_t count) {
    std::memcpy(to, &from, (kWhole ? kWalkSlice : count) * sizeof(float));
}

// kLater: some of the weights `later` are not 0.
template <bool kWhole, bool kLater> void backward_rows(const ResidualWalk& walk, std::int64_t column, double* sums) {
    const std::int64_t count = walk.width - column, levels = walk.levels;
    for (std::int64_t row = 0; row < walk.rows; ++row) {
        const std::int64_t* codes = walk.codes + row * levels;
        const std::int64_t at = row * walk.width + column;
        if (codes[0] < 0) {
            store<kWhole>(walk.grad_x + at, Floats{}, count);
            continue;
        }
        Floats residual, word;
        Part carried[kParts] = {}, to_x[kParts];
        if (kLater) {
            load<kWhole>(residual, walk.x + at, count);
            for (std::int64_t level = 0; level < levels; ++level) {
                load<kWhole>(word, word_of(walk, codes, level) + column, count);
                for (int p = 0; p < kParts; ++p) {
                    residual.part[p] -= word.part[p];
                    carried[p] += walk.later[level] * __builtin_convertvector(residual.part[p], Part);
                }
            }
        }
        load<kWhole>(residual, walk.grad_quantized + at, count);
        for (int p = 0; p < kParts; ++p) to_x[p] = __builtin_convertvector(residual.part[p], Part);
        load<kWhole>(residual, walk.x + at, count);
        for (std::int64_t level = 0; level < levels; ++level) {
            load<kWhole>(word, word_of(walk, codes, level) + column, count);
            double* to = sums + (walk.starts[level] + codes[level]) * kWalkSlice;
            for (int p = 0; p < kParts; ++p) {
                residual.part[p] -= word.part[p];
                const Part left = __builtin_convertvector(residual.part[p], Part);
                to_x[p] += walk.to_x[level] * left;
                Part sum;
                std::memcpy(&sum, to + p * kPart, sizeof sum);
                sum += walk.own[level] * left;
                if (kLater) {
                    carried[p] -= walk.later[level] * left;
                    sum += carried[p];
                }
                std::memcpy(to + p * kPart, &sum, sizeof sum);
            }
        }
        for (int p = 0; p < kParts; ++p) residual.part[p] = __builtin_convertvector(to_x[p], FloatPart);
        store<kWhole>(walk.grad_x + at, residual, count);
    }
}

std::size_t slice_bytes(const ResidualWalk& walk) { return walk.words * kWalkSlice * sizeof(double); }

void backward_slice(const ResidualWalk& walk, std::int64_t column, void* scratch) {
    auto* sums = static_cast<double*>(scratch);
    std::memset(sums, 0, slice_bytes(walk));
    bool later = false;
    for (std::int64_t level = 0; level < walk.levels; ++level) later |= walk.later[level] != 0.0;
    const std::int64_t count = walk.width - column < kWalkSlice ? walk.width - column : kWalkSlice;
    if (count == kWalkSlice)
        later ? backward_rows<true, true>(walk, column, sums) : backward_rows<true, false>(walk, column, sums);
    else
        later ? backward_rows<false, true>(walk, column, sums) : backward_rows<false, false>(walk, column, sums);
    for (std::int64_t word = 0; word < walk.words; ++word)
        for (std::int64_t d = 0; d < count; ++d)
            walk.grad_codebooks[word * walk.width + column + d] = static_cast<float>(0.0 - sums[word * kWalkSlice + d]);
}

}  // namespace

const WalkKernels kWalk = {forward_block, slice_bytes, backward_slice};

}  // namespace lf::LF_INSTRUCTION_SET

#ifdef LF_ENTRIES

namespace lf {

LF_REQUEST(ResidualLossesRequest, {
    const float* x;  // [rows, width]
    std::int64_t rows, width;
    const float* codebooks;  // [ΣK, width]
    const std::int64_t* sizes;
    std::int64_t levels;
    const std::int64_t* codes;  // [rows, levels]
    float* quantized;           // [rows, width]
    double* errors;             // [levels] Σ ‖r_l‖²
    std::int64_t* counted;
    const float* grad_quantized;  // [rows, width]
    const double* weights;        // [3, levels] to_x, own, later; null: forward is asked for
    float* grad_x;                // [rows, width]
    float* grad_codebooks;        // [ΣK, width]
    std::int32_t threads, instruction_set;
});

namespace {

void forward(const ResidualWalk& walk, const WalkKernels& kernels, const ResidualLossesRequest& request) {
    const std::int64_t blocks = (walk.rows + kWalkBlock - 1) / kWalkBlock;
    const int threads = threads_for(blocks, request.threads);
    std::vector<double> errors(blocks * walk.levels, 0.0);
    std::vector<std::int64_t> counted(blocks);
    std::vector<float> residual(threads * walk.width);
    for_parts(blocks, threads, 1, [&](std::int64_t block, int thread) {
        counted[block] = kernels.forward_block(walk, block * kWalkBlock, &errors[block * walk.levels],
                                               &residual[thread * walk.width]);
    });
    std::fill_n(request.errors, walk.levels, 0.0);
    for (std::int64_t at = 0; at < blocks * walk.levels; ++at) request.errors[at % walk.levels] += errors[at];
    *request.counted = std::accumulate(counted.begin(), counted.end(), std::int64_t{0});
}

void backward(const ResidualWalk& walk, const WalkKernels& kernels, const ResidualLossesRequest& request) {
    const std::int64_t slices = (walk.width + kWalkSlice - 1) / kWalkSlice;
    const int threads = threads_for(slices, request.threads);
    const Scratch scratch(threads, kernels.slice_bytes(walk));
    for_parts(slices, threads, 1, [&](std::int64_t slice, int thread) {
        kernels.backward_slice(walk, slice * kWalkSlice, scratch.of(thread));
    });
}

void residual_losses(const ResidualLossesRequest& request) {
    check_codes(request.codes, request.rows, request.levels, request.sizes);
    std::vector<std::int64_t> starts(request.levels + 1, 0);
    std::partial_sum(request.sizes, request.sizes + request.levels, starts.begin() + 1);
    ResidualWalk walk{};
    walk.x = request.x;
    walk.rows = request.rows;
    walk.width = request.width;
    walk.codebooks = request.codebooks;
    walk.starts = starts.data();
    walk.levels = request.levels;
    walk.words = starts.back();
    walk.codes = request.codes;
    walk.quantized = request.quantized;
    walk.grad_quantized = request.grad_quantized;
    if (request.weights) {
        walk.to_x = request.weights;
        walk.own = walk.to_x + walk.levels;
        walk.later = walk.own + walk.levels;
    }
    walk.grad_x = request.grad_x;
    walk.grad_codebooks = request.grad_codebooks;
    const WalkKernels kernels = LF_PICK(request.instruction_set, kWalk);
    request.weights ? backward(walk, kernels, request) : forward(walk, kernels, request);
}

}  // namespace
}  // namespace lf

LF_ENTRY(residual_losses, ResidualLossesRequest)

#endif  // LF_ENTRIES
