// The parts that entry points of the C ABI share: the instruction sets, and arithmetic that no other code has changed.
#pragma once
#include <cfenv>
#include <cstdint>

#define LF_EXPORT extern "C" __attribute__((visibility("default")))

// Kernels are compiled once per instruction set, each time into the namespace of its name. In namespace lf,
// LF_KERNEL(declaration) declares one for all sets; LF_PICK(set, name) is lf::<set>::name.
#ifdef LF_X86
#define LF_KERNEL(...)      \
    namespace portable {    \
    __VA_ARGS__;            \
    }                       \
    namespace avx2 {        \
    __VA_ARGS__;            \
    }                       \
    namespace avx512 {      \
    __VA_ARGS__;            \
    }                       \
    namespace avx512_vnni { \
    __VA_ARGS__;            \
    }
#define LF_PICK(set, name)                          \
    ((set) == ::lf::kAvx512Vnni ? avx512_vnni::name \
     : (set) == ::lf::kAvx512   ? avx512::name      \
     : (set) == ::lf::kAvx2     ? avx2::name        \
                                : portable::name)
#elif defined(LF_ARM)
#define LF_KERNEL(...)       \
    namespace portable {     \
    __VA_ARGS__;             \
    }                        \
    namespace neon {         \
    __VA_ARGS__;             \
    }                        \
    namespace neon_dotprod { \
    __VA_ARGS__;             \
    }                        \
    namespace neon_i8mm {    \
    __VA_ARGS__;             \
    }
#define LF_PICK(set, name)                              \
    ((set) == ::lf::kNeonI8mm      ? neon_i8mm::name    \
     : (set) == ::lf::kNeonDotprod ? neon_dotprod::name \
     : (set) == ::lf::kNeon        ? neon::name         \
                                   : portable::name)
#else
#define LF_KERNEL(...)   \
    namespace portable { \
    __VA_ARGS__;         \
    }
#define LF_PICK(set, name) (static_cast<void>(set), portable::name)
#endif

namespace lf {

// From the narrowest to the widest of this architecture; a request names one by its number.
#ifdef LF_ARM
enum Set : std::int32_t { kPortable = 0, kNeon = 1, kNeonDotprod = 2, kNeonI8mm = 3 };
inline constexpr char set_names[] = "portable neon neon_dotprod neon_i8mm";
#else
enum Set : std::int32_t { kPortable = 0, kAvx2 = 1, kAvx512 = 2, kAvx512Vnni = 3 };
inline constexpr char set_names[] = "portable avx2 avx512 avx512_vnni";
#endif

// Rounding to nearest and subnormals kept, whatever the caller's thread has set: codes depend on neither.
class DefaultArithmetic {
  public:
    DefaultArithmetic() {
        std::fegetenv(&before_);
        std::fesetenv(FE_DFL_ENV);
    }
    ~DefaultArithmetic() { std::fesetenv(&before_); }
    DefaultArithmetic(const DefaultArithmetic&) = delete;
    DefaultArithmetic& operator=(const DefaultArithmetic&) = delete;

  private:
    std::fenv_t before_;
};

}  // namespace lf
