// What the library tells about itself before any kernel is called.
#include <cstdint>

#define LF_EXPORT extern "C" __attribute__((visibility("default")))

// Raised whenever a signature of the C ABI changes; the loader refuses a library of another number.
constexpr std::int32_t kAbiVersion = 1;

LF_EXPORT std::int32_t lf_abi_version() { return kAbiVersion; }

// The widest instruction set this processor runs: 0 portable, 1 AVX2 + FMA, 2 AVX-512 (F, BW, DQ, VL),
// 3 AVX-512 with VNNI.
LF_EXPORT std::int32_t lf_instruction_set() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (avx512 && __builtin_cpu_supports("avx512vnni")) return 3;
    if (avx512) return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
    return 0;
}
