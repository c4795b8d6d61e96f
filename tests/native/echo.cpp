// An entry that writes down what it was given: for tests/kernels/cpp/test_library.py.
#include "abi.h"

namespace lf {

LF_REQUEST(EchoRequest, {
    std::int32_t first, second;  // a comment is no part of the contract
    double weight;
    Matrix x;
    std::int32_t last;
    double* seen;  // [6]
});

namespace {

void echo(const EchoRequest& request) {
    const Matrix& x = request.x;
    const auto at = [&](std::int64_t row, std::int64_t column) {
        return static_cast<const float*>(x.x)[row * x.row_stride + column * x.column_stride];
    };
    const double seen[6] = {double(request.first), double(request.second), request.weight, at(0, 1), at(1, 0),
                            double(request.last)};
    for (int i = 0; i < 6; ++i) request.seen[i] = seen[i];
}

}  // namespace
}  // namespace lf

LF_ENTRY(echo, EchoRequest)

LF_EXPORT const char* lf_last_failure() { return lf::last_failure; }

LF_EXPORT const char* lf_Matrix_fields() { return lf::Matrix_fields; }
