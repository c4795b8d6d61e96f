// The kernels' operations on AVX-512 registers (F, BW, DQ, VL); with VNNI, four products go straight
// into a 32-bit sum.
#pragma once
#ifdef LF_EMULATED  // the emulator brings its own intrinsics
#define LF_KEEP(value)
#else
#include <immintrin.h>
// In a register as it is; see vector_avx2.h.
#define LF_KEEP(value) asm("" : "+v"(value))
#endif

#include <cstdint>

#include "search/codebook.h"
#include "simd/broadcast.h"

namespace lf::LF_INSTRUCTION_SET {

struct Vector : Broadcasts<Vector> {
#ifdef LF_VNNI
    static constexpr Layout kLayout{16, false, 4, 128};
#else
    static constexpr Layout kLayout{16, true, 4, 128};
#endif
    static constexpr int kRows = 4;  // 32 registers: 4·4 sums, 4 rows' bytes, temporaries

    using Bytes = __m512i;
    using Sums = __m512i;
    using Wide = __m512i;
    using Float = __m512;

    static Bytes load_bytes(const std::int8_t* from) {
        Bytes bytes = _mm512_loadu_si512(from);
        LF_KEEP(bytes);
        return bytes;
    }
    static Sums load_sums(const std::int8_t* from) { return _mm512_loadu_si512(from); }
    static Bytes broadcast_step(const std::uint8_t* from) {
        int four;
        __builtin_memcpy(&four, from, sizeof four);
        return _mm512_set1_epi32(four);
    }
#ifdef LF_VNNI
    static Sums multiply_add(Sums sums, Bytes row, Bytes words) { return _mm512_dpbusd_epi32(sums, row, words); }
    static Wide widen(Sums sums) { return sums; }
#else
    static Sums multiply_add(Sums sums, Bytes row, Bytes words) {
        sums = _mm512_add_epi16(sums, _mm512_maddubs_epi16(row, words));
        LF_KEEP(sums);
        return sums;
    }
    static Wide widen(Sums sums) { return _mm512_madd_epi16(sums, _mm512_set1_epi16(1)); }
#endif
    static Wide add(Wide a, Wide b) { return _mm512_add_epi32(a, b); }
    static Float to_float(Wide a) { return _mm512_cvtepi32_ps(a); }

    static Float load(const float* from) { return _mm512_loadu_ps(from); }
    static void store(float* to, Float a) { _mm512_storeu_ps(to, a); }
    static Float fill(float value) { return _mm512_set1_ps(value); }
    static Float subtract(Float a, Float b) { return _mm512_sub_ps(a, b); }
    static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
    static Float multiply(Float a, Float b) { return _mm512_mul_ps(a, b); }
    static Float fused(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
    static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
    static Float smaller(Float a, Float b) { return _mm512_min_ps(a, b); }
    static Float larger(Float a, Float b) { return _mm512_max_ps(a, b); }
    static Float zero_below(Float a, Float x, Float limit) {
        return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), a);
    }
    static Float scaled(Float a, Float counter) {
        const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(counter), 23);
        return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), exponent));
    }
    static std::uint32_t at_most(Float a, Float b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
    static int pack(float* to, std::uint32_t lanes, Float a) {
        _mm512_storeu_ps(to, _mm512_maskz_compress_ps(static_cast<std::uint16_t>(lanes), a));
        return __builtin_popcount(lanes);
    }
    static int pack(std::int32_t* to, std::uint32_t lanes, std::int32_t first) {
        static constexpr std::int32_t kNumbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        const __m512i numbers = _mm512_loadu_si512((const void*)kNumbers);
        const __m512i from_first = _mm512_add_epi32(_mm512_set1_epi32(first), numbers);
        _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(static_cast<std::uint16_t>(lanes), from_first));
        return __builtin_popcount(lanes);
    }
    static std::uint64_t at_most(const float* from, std::int64_t vectors, Float limit) {
        std::uint64_t hits = 0;
        for (std::int64_t v = 0; v < vectors; ++v)
            hits |= std::uint64_t{at_most(load(from + 16 * v), limit)} << (16 * v);
        return hits;
    }
    static float smallest(Float a) { return _mm512_reduce_min_ps(a); }
    static void halves(Float a, float& first, float& second) {
        first = _mm512_reduce_add_ps(_mm512_maskz_mov_ps(0x3333, a));
        second = _mm512_reduce_add_ps(_mm512_maskz_mov_ps(0xcccc, a));
    }
    // The same of each of 16 vectors, a lane each.
    static void halves_of_each(const Float* of, Float& first, Float& second) {
        across(of, [](Float a, Float b) { return add(a, b); }, first, second);
    }
    static Float smallest_of_each(const Float* of) {
        Float first, second;
        across(of, [](Float a, Float b) { return smaller(a, b); }, first, second);
        return smaller(first, second);
    }
    static Wide magnitude(Float a) { return _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffffff)); }
    static Wide larger(Wide a, Wide b) { return _mm512_max_epi32(a, b); }
    static Wide zero() { return _mm512_setzero_si512(); }
    static std::int32_t largest(Wide a) { return _mm512_reduce_max_epi32(a); }
    static Float store_rounded(std::uint8_t* to, Float a) {
        const __m512i rounded = _mm512_cvtps_epi32(a);
        const __m128i bytes = _mm_xor_si128(_mm512_cvtepi32_epi8(rounded), _mm_set1_epi8(-128));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
        return _mm512_cvtepi32_ps(rounded);
    }
    static Float from_half(const std::uint16_t* from) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }
    static Float from_bfloat(const std::uint16_t* from) {
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
        return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
    }

  private:
    // Neighbours of two vectors joined: what was in four lanes of one is then in two of four.
    template <class Join> static Float neighbours(Float a, Float b, Join join) {
        return join(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
    }
    template <class Join> static Float quarters(Float a, Float b, Join join) {
        return join(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    }
    // Lanes of 16 vectors joined in one tree for all, 3 instructions a vector; halves as in `halves`.
    template <class Join> static void across(const Float* of, Join join, Float& first, Float& second) {
        Float one[4], other[4];
        for (int i = 0; i < 4; ++i) {
            const Float a = neighbours(of[4 * i], of[4 * i + 1], join),
                        b = neighbours(of[4 * i + 2], of[4 * i + 3], join);
            one[i] = _mm512_shuffle_ps(a, b, 0x88);
            other[i] = _mm512_shuffle_ps(a, b, 0xdd);
        }
        first = quarters(quarters(one[0], one[1], join), quarters(one[2], one[3], join), join);
        second = quarters(quarters(other[0], other[1], join), quarters(other[2], other[3], join), join);
    }
};

}  // namespace lf::LF_INSTRUCTION_SET
