// What Python asks of the library as a whole.
#include "abi.h"
#include "runtime/bounds.h"

namespace lf {
namespace {

Set widest_set() {
#ifdef LF_EMULATED
    return kAvx512Vnni;
#elif defined(LF_X86)
    __builtin_cpu_init();
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (avx512 && __builtin_cpu_supports("avx512vnni")) return kAvx512Vnni;
    if (avx512) return kAvx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) return kAvx2;
#endif
    return kPortable;
}

}  // namespace
}  // namespace lf

// The widest instruction set this processor runs: 0 portable, 1 AVX2 + FMA, 2 AVX-512 (F, BW, DQ, VL),
// 3 AVX-512 with VNNI.
LF_EXPORT std::int32_t lf_instruction_set() { return lf::widest_set(); }

// What went wrong when an entry point last returned kFailed to this thread.
LF_EXPORT const char* lf_last_failure() { return lf::last_failure; }

#ifdef LF_WEAK_BOUNDS
LF_EXPORT void lf_weaken(std::int32_t which, double factor) { lf::bound_factor[which] = factor; }
#endif

LF_EXPORT const char* lf_Matrix_fields() { return lf::Matrix_fields; }
LF_EXPORT const char* lf_Problems_fields() { return lf::Problems_fields; }
