// The entry points that concern the library as a whole.
#if defined(LF_X86) && !defined(LF_EMULATED)
#include <cpuid.h>
#elif defined(LF_ARM) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(LF_ARM)
#include <sys/auxv.h>
#endif

#include "abi.h"
#include "runtime/bounds.h"

namespace lf {
namespace {

#if defined(LF_X86) && !defined(LF_EMULATED)
// The features that processor and operating system both have, asked of cpuid itself: zig's __builtin_cpu_supports
// knows of nothing, and a library that it built would run the portable kernels everywhere.
class Processor {
  public:
    Processor() {
        unsigned eax, ebx, ecx, edx;
        if (!__get_cpuid_count(1, 0, &eax, &ebx, &ecx, &edx) || !has(ecx, 27)) return;  // xgetbv
        unsigned kept, unused;
        asm volatile("xgetbv" : "=a"(kept), "=d"(unused) : "c"(0));
        const bool narrow = has(ecx, 12) && has(ecx, 28) && has(ecx, 29);  // FMA, AVX, F16C
        if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return;
        // Registers that the system keeps over a change of threads: bits 1, 2; of AVX-512 also 5, 6, 7.
        avx2 = narrow && has(ebx, 5) && (kept & 0x06) == 0x06;
        avx512 = avx2 && has(ebx, 16) && has(ebx, 17) && has(ebx, 30) && has(ebx, 31) && (kept & 0xe6) == 0xe6;
        vnni = avx512 && has(ecx, 11);
    }
    bool avx2 = false, avx512 = false, vnni = false;  // avx512: F, DQ, BW and VL

  private:
    static bool has(unsigned word, int bit) { return word >> bit & 1; }
};
#endif

#ifdef LF_ARM
// NEON itself is part of every 64-bit ARM processor.
class Processor {
  public:
#ifdef __APPLE__
    bool dotprod = has("hw.optional.arm.FEAT_DotProd"), i8mm = has("hw.optional.arm.FEAT_I8MM");

  private:
    static bool has(const char* name) {
        int value = 0;
        std::size_t size = sizeof value;
        return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
    }
#else
    // HWCAP_ASIMDDP and HWCAP2_I8MM, which headers of older systems don't name.
    bool dotprod = getauxval(AT_HWCAP) >> 20 & 1, i8mm = getauxval(AT_HWCAP2) >> 13 & 1;
#endif
};
#endif

Set widest_set() {
#ifdef LF_EMULATED
    return kAvx512Vnni;
#elif defined(LF_X86)
    const Processor processor;
    return processor.vnni ? kAvx512Vnni : processor.avx512 ? kAvx512 : processor.avx2 ? kAvx2 : kPortable;
#elif defined(LF_ARM)
    const Processor processor;
    return processor.dotprod ? processor.i8mm ? kNeonI8mm : kNeonDotprod : kNeon;
#else
    return kPortable;
#endif
}

}  // namespace
}  // namespace lf

// The instruction sets of the library, from the narrowest to the widest, and the number of the widest that this
// processor runs. avx2: with FMA and F16C; avx512: F, BW, DQ and VL.
LF_EXPORT const char* lf_instruction_sets() { return lf::set_names; }
LF_EXPORT std::int32_t lf_instruction_set() { return lf::widest_set(); }

// The message of the last entry point that returned kFailed to this thread.
LF_EXPORT const char* lf_last_failure() { return lf::last_failure; }

#ifdef LF_WEAK_BOUNDS
LF_EXPORT void lf_weaken(std::int32_t which, double factor) { lf::bound_factor[which] = factor; }
#endif

LF_EXPORT const char* lf_Matrix_fields() { return lf::Matrix_fields; }
LF_EXPORT const char* lf_Problems_fields() { return lf::Problems_fields; }
