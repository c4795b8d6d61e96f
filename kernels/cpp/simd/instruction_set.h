// The instruction set that this object is compiled for: its registers, and its own namespace, so that the
// linker can't merge inline code of one set into another's.
#pragma once

#if defined(LF_AVX512_VNNI)
#define LF_INSTRUCTION_SET avx512_vnni
#define LF_VNNI
#include "simd/vector_avx512.h"
#elif defined(LF_AVX512)
#define LF_INSTRUCTION_SET avx512
#include "simd/vector_avx512.h"
#elif defined(LF_AVX2)
#define LF_INSTRUCTION_SET avx2
#include "simd/vector_avx2.h"
#elif defined(LF_NEON_I8MM)
#define LF_INSTRUCTION_SET neon_i8mm
#include "simd/vector_neon.h"
#elif defined(LF_NEON_DOTPROD)
#define LF_INSTRUCTION_SET neon_dotprod
#include "simd/vector_neon.h"
#elif defined(LF_NEON)
#define LF_INSTRUCTION_SET neon
#include "simd/vector_neon.h"
#else
#define LF_INSTRUCTION_SET portable
// This object also holds what its source has once for all sets: the entry point, and the code around the kernels. It
// must not be compiled for more than every processor runs.
#define LF_ENTRIES
#include "simd/vector_portable.h"
#endif
