// An entry that throws, at the top or in a part of a parallel loop: for tests/kernels/cpp/test_library.py.
#include <new>
#include <stdexcept>
#include <vector>

#include "abi.h"
#include "runtime/parallel.h"

namespace lf {

LF_REQUEST(FaultRequest, {
    std::int32_t kind;  // of the exception
    std::int32_t at;    // the part that throws; −1: the entry itself
    std::int32_t threads;
    std::int32_t* started;  // [100] whether each part began
});

namespace {

void raise(std::int32_t kind) {
    switch (kind) {
        case 0: throw std::bad_alloc();
        case 1: throw std::length_error("too long");
        case 2: throw std::runtime_error("what went wrong");
        case 3: throw Refused{kNoRoom};
        case 4: throw 5;
        default: break;
    }
}

void fault(const FaultRequest& request) {
    if (request.at < 0) raise(request.kind);
    for_parts(100, request.threads, 1, [&](std::int64_t part, int) {
        request.started[part] = 1;
        if (part == request.at) raise(request.kind);
    });
}

}  // namespace
}  // namespace lf

LF_ENTRY(fault, FaultRequest)

LF_EXPORT const char* lf_last_failure() { return lf::last_failure; }
