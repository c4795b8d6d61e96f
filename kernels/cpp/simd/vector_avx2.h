// The kernels' operations on AVX2 registers.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "search/codebook.h"
#include "simd/broadcast.h"

namespace lf::LF_INSTRUCTION_SET {

struct Vector : Broadcasts<Vector> {
    static constexpr Layout kLayout{8, true, 4, 128};
    static constexpr int kRows = 2;  // rows a register tile: 2·4 sums, 2 rows' bytes, temporaries

    using Bytes = __m256i;  // four bytes of a codeword a lane
    using Sums = __m256i;
    using Wide = __m256i;
    using Float = __m256;

    static Bytes load_bytes(const std::int8_t* from) {
        // NOLINTNEXTLINE(misc-const-correctness): what follows may write it.
        Bytes bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
        // Into a register, once for all rows: as an operand in memory it would be loaded row by row.
        asm("" : "+x"(bytes));
        return bytes;
    }
    static Sums load_sums(const std::int8_t* from) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    }
    static Bytes broadcast_step(const std::uint8_t* from) {
        int four;
        __builtin_memcpy(&four, from, sizeof four);
        return _mm256_set1_epi32(four);
    }
    static Sums multiply_add(Sums sums, Bytes row, Bytes words) {
        sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(row, words));
        // Kept as one chain of additions: GCC would rather add in a tree, and spill what waits for it.
        asm("" : "+x"(sums));
        return sums;
    }
    static Wide widen(Sums sums) { return _mm256_madd_epi16(sums, _mm256_set1_epi16(1)); }
    static Wide add(Wide a, Wide b) { return _mm256_add_epi32(a, b); }
    static Float to_float(Wide a) { return _mm256_cvtepi32_ps(a); }

    static Float load(const float* from) { return _mm256_loadu_ps(from); }
    static void store(float* to, Float a) { _mm256_storeu_ps(to, a); }
    static Float fill(float value) { return _mm256_set1_ps(value); }
    static Float subtract(Float a, Float b) { return _mm256_sub_ps(a, b); }
    static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
    static Float multiply(Float a, Float b) { return _mm256_mul_ps(a, b); }
    static Float fused(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
    // Rounded once on every instruction set, as `fused` is not.
    static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
    static Float smaller(Float a, Float b) { return _mm256_min_ps(a, b); }
    // b where one of them is NaN.
    static Float larger(Float a, Float b) { return _mm256_max_ps(a, b); }
    // a, and 0 where x < limit.
    static Float zero_below(Float a, Float x, Float limit) {
        return _mm256_andnot_ps(_mm256_cmp_ps(x, limit, _CMP_LT_OQ), a);
    }
    // a·2ⁿ for normal results, n being the lowest bits of `counter`.
    static Float scaled(Float a, Float counter) {
        const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(counter), 23);
        return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), exponent));
    }
    // Bit i is set where lane i of a ≤ that of b.
    static std::uint32_t at_most(Float a, Float b) {
        return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LE_OQ)));
    }
    // Likewise, of so many vectors in memory, of 64 lanes in all at most.
    static std::uint64_t at_most(const float* from, std::int64_t vectors, Float limit) {
        std::uint64_t hits = 0;
        for (std::int64_t v = 0; v < vectors; ++v) hits |= std::uint64_t{at_most(load(from + 8 * v), limit)} << (8 * v);
        return hits;
    }
    // Stores the lanes that are set one after the other, and perhaps more behind; returns how many they are.
    static int pack(float* to, std::uint32_t lanes, Float a) {
        float all[8];
        store(all, a);
        int count = 0;
        for (; lanes; lanes &= lanes - 1) to[count++] = all[__builtin_ctz(lanes)];
        return count;
    }
    // Likewise, of the numbers first + lane.
    static int pack(std::int32_t* to, std::uint32_t lanes, std::int32_t first) {
        int count = 0;
        for (; lanes; lanes &= lanes - 1) to[count++] = first + __builtin_ctz(lanes);
        return count;
    }
    static float smallest(Float a) {
        __m128 b = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        b = _mm_min_ps(b, _mm_movehl_ps(b, b));
        return _mm_cvtss_f32(_mm_min_ss(b, _mm_movehdup_ps(b)));
    }
    // Sums of the lanes j with j mod 4 < 2, and of the others.
    static void halves(Float a, float& first, float& second) {
        const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        const __m128 c = _mm_add_ps(b, _mm_movehdup_ps(b));
        first = _mm_cvtss_f32(c);
        second = _mm_cvtss_f32(_mm_movehl_ps(c, c));
    }
    // The same of each of 8 vectors, a lane each.
    static void halves_of_each(const Float* of, Float& first, Float& second) {
        across(of, [](Float a, Float b) { return add(a, b); }, first, second);
    }
    static Float smallest_of_each(const Float* of) {
        Float first, second;
        across(of, [](Float a, Float b) { return smaller(a, b); }, first, second);
        return smaller(first, second);
    }
    // |a| as bits, whose order is that of the magnitudes, NaN and Inf on top.
    static Wide magnitude(Float a) { return _mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(0x7fffffff)); }
    static Wide larger(Wide a, Wide b) { return _mm256_max_epi32(a, b); }
    static Wide zero() { return _mm256_setzero_si256(); }
    static std::int32_t largest(Wide a) {
        __m128i b = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
        b = _mm_max_epi32(b, _mm_shuffle_epi32(b, 0x4e));
        return _mm_cvtsi128_si32(_mm_max_epi32(b, _mm_shuffle_epi32(b, 0xb1)));
    }
    // Rounds to integers, stores them plus 128 as bytes, and returns the rounded values.
    static Float store_rounded(std::uint8_t* to, Float a) {
        const __m256i rounded = _mm256_cvtps_epi32(a);
        const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
        const __m128i bytes = _mm_xor_si128(_mm_packs_epi16(words, words), _mm_set1_epi8(-128));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to), bytes);
        return _mm256_cvtepi32_ps(rounded);
    }
    static Float from_half(const std::uint16_t* from) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    }
    static Float from_bfloat(const std::uint16_t* from) {
        const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
        return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
    }

  private:
    // Neighbours of two vectors joined: what was in four lanes of one is then in two of four.
    template <class Join> static Float neighbours(Float a, Float b, Join join) {
        return join(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xdd));
    }
    // Lanes of 8 vectors joined in one tree for all, 3 instructions a vector; halves as in `halves`.
    template <class Join> static void across(const Float* of, Join join, Float& first, Float& second) {
        Float one[2], other[2];
        for (int i = 0; i < 2; ++i) {
            const Float a = neighbours(of[4 * i], of[4 * i + 1], join),
                        b = neighbours(of[4 * i + 2], of[4 * i + 3], join);
            one[i] = _mm256_shuffle_ps(a, b, 0x88);
            other[i] = _mm256_shuffle_ps(a, b, 0xdd);
        }
        first = join(_mm256_permute2f128_ps(one[0], one[1], 0x20), _mm256_permute2f128_ps(one[0], one[1], 0x31));
        second =
            join(_mm256_permute2f128_ps(other[0], other[1], 0x20), _mm256_permute2f128_ps(other[0], other[1], 0x31));
    }
};

}  // namespace lf::LF_INSTRUCTION_SET
