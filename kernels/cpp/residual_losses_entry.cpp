// The C ABI of residual_losses.cpp: forward over blocks of rows, backward over slices of columns.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "abi.h"
#include "simd/dispatch.h"
#include "runtime/parallel.h"
#include "residual_losses.h"

namespace lf {

#define LF_DECLARE_WALK(set)        \
    namespace set {                 \
    extern const WalkKernels kWalk; \
    }
LF_FOR_EACH_SET(LF_DECLARE_WALK)

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
        counted[block] = kernels.forward_block(walk, block * kWalkBlock, &errors[block * walk.levels], &residual[thread * walk.width]);
    });
    std::fill_n(request.errors, walk.levels, 0.0);
    for (std::int64_t at = 0; at < blocks * walk.levels; ++at) request.errors[at % walk.levels] += errors[at];
    *request.counted = std::accumulate(counted.begin(), counted.end(), std::int64_t{0});
}

void backward(const ResidualWalk& walk, const WalkKernels& kernels, const ResidualLossesRequest& request) {
    const std::int64_t slices = (walk.width + kWalkSlice - 1) / kWalkSlice;
    const int threads = threads_for(slices, request.threads);
    const Scratch scratch(threads, kernels.slice_bytes(walk));
    for_parts(slices, threads, 1,
              [&](std::int64_t slice, int thread) { kernels.backward_slice(walk, slice * kWalkSlice, scratch.of(thread)); });
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
