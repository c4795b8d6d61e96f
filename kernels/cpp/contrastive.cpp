// Mean in-batch InfoNCE, −1/B Σ_i log softmax_j(q_i·h_j)[i], and its gradients:
//
//     ∂q_i = (Σ_j p_ij h_j − h_i)/B        ∂h_j = (Σ_i p_ij q_i − [j < B] q_j)/B
#include <numeric>

#include "abi.h"
#include "softmax/run.h"

namespace lf {

LF_REQUEST(ContrastiveRequest, {
    const float* q;  // [rows, width]
    const float* h;  // [columns, width], the first `rows` of them the rows' own
    std::int64_t rows, columns, width;
    double* log_total;  // [rows] log Σ_j exp(q_i·h_j): given to the gradient of h, otherwise an output
    double* loss;       // null: the gradient of h is asked for
    float* gradient;    // of q, or null; of h
    std::int32_t threads, instruction_set;
});

namespace {

// gradient ← (gradient − own)/B, row by row.
void finish(float* gradient, std::int64_t rows, const float* own, std::int64_t own_rows, std::int64_t width,
            std::int64_t batch, int threads) {
    const auto scale = static_cast<float>(1.0 / static_cast<double>(batch));
    for_parts(rows, threads, 64, [&](std::int64_t row, int) {
        for (std::int64_t at = row * width; at < (row + 1) * width; ++at)
            gradient[at] = scale * (row < own_rows ? gradient[at] - own[at] : gradient[at]);
    });
}

void loss_and_gradient(const ContrastiveRequest& request) {
    const SoftmaxRun run(request.instruction_set, request.threads);
    std::vector<Buffer> memory;
    std::vector<float> own(request.rows);
    std::vector<std::int64_t> partner(request.rows);
    std::iota(partner.begin(), partner.end(), 0);
    Softmax softmax{};
    softmax.rows = request.q;
    softmax.count = request.rows;
    softmax.columns = run.pack(request.h, request.columns, request.width, memory);
    softmax.partner = partner.data();
    softmax.partner_score = own.data();
    softmax.log_total = request.log_total;
    softmax.out = request.gradient;
    run.rows(softmax, false);
    double loss = 0.0;
    for (std::int64_t row = 0; row < request.rows; ++row)
        loss += request.log_total[row] - static_cast<double>(own[row]);
    *request.loss = loss / static_cast<double>(request.rows);
    if (request.gradient)
        finish(request.gradient, request.rows, request.h, request.rows, request.width, request.rows,
               run.threads_for(request.rows));
}

void gradient_of_h(const ContrastiveRequest& request) {
    const SoftmaxRun run(request.instruction_set, request.threads);
    std::vector<Buffer> memory;
    Softmax softmax{};
    softmax.rows = request.h;
    softmax.count = request.columns;
    softmax.columns = run.pack(request.q, request.rows, request.width, memory);
    const std::vector<float> shifts = split_shifts(request.log_total, softmax.columns);
    softmax.shift_high = shifts.data();
    softmax.shift_low = shifts.data() + shifts.size() / 2;
    softmax.out = request.gradient;
    run.rows(softmax, true);
    finish(request.gradient, request.columns, request.q, request.rows, request.width, request.rows,
           run.threads_for(request.columns));
}

void contrastive(const ContrastiveRequest& request) {
    request.loss ? loss_and_gradient(request) : gradient_of_h(request);
}

}  // namespace
}  // namespace lf

LF_ENTRY(contrastive, ContrastiveRequest)
