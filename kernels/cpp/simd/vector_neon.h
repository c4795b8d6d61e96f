// The kernels' operations on NEON registers. The screen multiplies by what the processor has:
//
//     i8mm      two rows by two codewords, eight bytes each, in one instruction (smmla)
//     dotprod   four bytes of a row by four of each of four codewords (sdot)
//     neither   a byte of a row by one of each of eight in 16 bits (smlal), as AVX2
//
// All take signed bytes.
#pragma once
#include <arm_neon.h>

#include <cstdint>

#include "search/codebook.h"
#include "simd/broadcast.h"

namespace lf::LF_INSTRUCTION_SET {

// Four float32 lanes.
struct Vector
#if !defined(LF_NEON_DOTPROD) && !defined(LF_NEON_I8MM)
    : Broadcasts<Vector>
#endif
{
    using Wide = int32x4_t;
    using Float = float32x4_t;

#if defined(LF_NEON_I8MM)
    static constexpr Layout kLayout{4, false, 8, 0};
    static constexpr int kRows = 4;  // 32 registers: 4·4 sums, 4 rows' bytes, temporaries
    static constexpr int kStep = 16;
    using Sums = int32x4_t;

    // A register holds the products of two rows with two codewords: sums[r][v] of an even row those with the first
    // two of the vector, that of the next row those with the others.
    [[gnu::always_inline]] static void multiply_step(Sums (&sums)[kRows][kVectors], const std::uint8_t* rows,
                                                     std::int64_t stride, const std::int8_t* words) {
        int8x16_t pairs[2][kRows / 2];  // eight elements of two rows
        for (int r = 0; r < kRows; r += 2) {
            const int64x2_t one = load_row(rows + r * stride), other = load_row(rows + (r + 1) * stride);
            pairs[0][r / 2] = vreinterpretq_s8_s64(vzip1q_s64(one, other));
            pairs[1][r / 2] = vreinterpretq_s8_s64(vzip2q_s64(one, other));
        }
        for (const auto& pair : pairs)
            for (int v = 0; v < kVectors; ++v, words += 32) {
                const int8x16_t first = vld1q_s8(words), second = vld1q_s8(words + 16);
                for (int r = 0; r < kRows; r += 2) {
                    sums[r][v] = vmmlaq_s32(sums[r][v], pair[r / 2], first);
                    sums[r + 1][v] = vmmlaq_s32(sums[r + 1][v], pair[r / 2], second);
                }
            }
    }
    static void by_row(Sums (&sums)[kRows][kVectors]) {
        for (int r = 0; r < kRows; r += 2)
            for (int v = 0; v < kVectors; ++v) {
                const int64x2_t first = vreinterpretq_s64_s32(sums[r][v]),
                                second = vreinterpretq_s64_s32(sums[r + 1][v]);
                sums[r][v] = vreinterpretq_s32_s64(vzip1q_s64(first, second));
                sums[r + 1][v] = vreinterpretq_s32_s64(vzip2q_s64(first, second));
            }
    }
    static int64x2_t load_row(const std::uint8_t* from) { return vreinterpretq_s64_u8(vld1q_u8(from)); }
    static Sums load_sums(const std::int8_t*) { return zero(); }
    static Wide widen(Sums sums) { return sums; }
#elif defined(LF_NEON_DOTPROD)
    static constexpr Layout kLayout{4, false, 4, 0};
    static constexpr int kRows = 4;
    static constexpr int kStep = 16;
    using Sums = int32x4_t;

    [[gnu::always_inline]] static void multiply_step(Sums (&sums)[kRows][kVectors], const std::uint8_t* rows,
                                                     std::int64_t stride, const std::int8_t* words) {
        int8x16_t parts[kRows];
        for (int r = 0; r < kRows; ++r) parts[r] = vreinterpretq_s8_u8(vld1q_u8(rows + r * stride));
        multiply_four<0>(sums, parts, words);
        multiply_four<1>(sums, parts, words);
        multiply_four<2>(sums, parts, words);
        multiply_four<3>(sums, parts, words);
    }
    // The kth four elements of a step.
    template <int k>
    [[gnu::always_inline]] static void multiply_four(Sums (&sums)[kRows][kVectors], const int8x16_t (&parts)[kRows],
                                                     const std::int8_t* words) {
        for (int v = 0; v < kVectors; ++v) {
            const int8x16_t part = vld1q_s8(words + (k * kVectors + v) * 16);
            for (int r = 0; r < kRows; ++r) sums[r][v] = vdotq_laneq_s32(sums[r][v], part, parts[r], k);
        }
    }
    static void by_row(Sums (&)[kRows][kVectors]) {}
    static Sums load_sums(const std::int8_t*) { return zero(); }
    static Wide widen(Sums sums) { return sums; }
#else
    static constexpr Layout kLayout{4, true, 4, 0};
    static constexpr int kRows = 2;  // 32 registers: 2·4 sums of two registers each, rows, codewords

    // A sum in each of a codeword's four bytes: those of the first two codewords, and of the others.
    struct Sums {
        int16x8_t first, second;
    };
    static int8x16_t load_bytes(const std::int8_t* from) { return vld1q_s8(from); }
    static int8x16_t broadcast_step(const std::uint8_t* from) {
        std::int32_t four;
        __builtin_memcpy(&four, from, sizeof four);
        return vreinterpretq_s8_s32(vdupq_n_s32(four));
    }
    static Sums load_sums(const std::int8_t*) { return {vdupq_n_s16(0), vdupq_n_s16(0)}; }
    static Sums multiply_add(Sums sums, int8x16_t row, int8x16_t words) {
        return {vmlal_s8(sums.first, vget_low_s8(row), vget_low_s8(words)), vmlal_high_s8(sums.second, row, words)};
    }
    static Wide widen(Sums sums) { return vpaddlq_s16(vpaddq_s16(sums.first, sums.second)); }
#endif
    static Wide add(Wide a, Wide b) { return vaddq_s32(a, b); }
    static Float to_float(Wide a) { return vcvtq_f32_s32(a); }

    static Float load(const float* from) { return vld1q_f32(from); }
    static void store(float* to, Float a) { vst1q_f32(to, a); }
    static Float fill(float value) { return vdupq_n_f32(value); }
    static Float subtract(Float a, Float b) { return vsubq_f32(a, b); }
    static Float add(Float a, Float b) { return vaddq_f32(a, b); }
    static Float multiply(Float a, Float b) { return vmulq_f32(a, b); }
    static Float fused(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
    static Float fma(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
    static Float smaller(Float a, Float b) { return vminnmq_f32(a, b); }
    // As AVX's: b where one of them is NaN.
    static Float larger(Float a, Float b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
    static Float zero_below(Float a, Float x, Float limit) {
        return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a), vcltq_f32(x, limit)));
    }
    static Float scaled(Float a, Float counter) {
        const int32x4_t exponent = vshlq_n_s32(vreinterpretq_s32_f32(counter), 23);
        return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a), exponent));
    }
    static std::uint32_t at_most(Float a, Float b) {
        static constexpr std::uint32_t kBits[4] = {1, 2, 4, 8};
        return vaddvq_u32(vandq_u32(vcleq_f32(a, b), vld1q_u32(kBits)));
    }
    static int pack(float* to, std::uint32_t lanes, Float a) {
        vst1q_u8(reinterpret_cast<std::uint8_t*>(to), vqtbl1q_u8(vreinterpretq_u8_f32(a), packed(lanes)));
        return __builtin_popcount(lanes);
    }
    static int pack(std::int32_t* to, std::uint32_t lanes, std::int32_t first) {
        static constexpr std::int32_t kNumbers[4] = {0, 1, 2, 3};
        const uint8x16_t numbers = vreinterpretq_u8_s32(vaddq_s32(vdupq_n_s32(first), vld1q_s32(kNumbers)));
        vst1q_u8(reinterpret_cast<std::uint8_t*>(to), vqtbl1q_u8(numbers, packed(lanes)));
        return __builtin_popcount(lanes);
    }
    // For a table lookup: the bytes of the lanes that are set, one after the other.
    static uint8x16_t packed(std::uint32_t lanes) {
        static constexpr std::uint8_t kFirst[16][4] = {
            {0},  {0},     {4},     {0, 4},     {8},     {0, 8},     {4, 8},     {0, 4, 8},
            {12}, {0, 12}, {4, 12}, {0, 4, 12}, {8, 12}, {0, 8, 12}, {4, 8, 12}, {0, 4, 8, 12}};
        static constexpr std::uint8_t kSpread[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3},
                                      kWithin[16] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
        std::uint32_t four;
        __builtin_memcpy(&four, kFirst[lanes], sizeof four);
        const uint8x16_t first = vqtbl1q_u8(vreinterpretq_u8_u32(vdupq_n_u32(four)), vld1q_u8(kSpread));
        return vaddq_u8(first, vld1q_u8(kWithin));
    }
    // 64 lanes are compared together, whatever is asked for: a register of masks costs as much as its bits.
    static std::uint64_t at_most(const float* from, std::int64_t vectors, Float limit) {
        static constexpr std::uint8_t kBits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
        const uint8x16_t bits = vld1q_u8(kBits);
        uint8x16_t masks[4];
        for (int i = 0; i < 4; ++i) {
            const float* at = from + 16 * i;
            const auto below = [&](int v) { return vreinterpretq_u16_u32(vcleq_f32(load(at + 4 * v), limit)); };
            const uint16x8_t low = vuzp1q_u16(below(0), below(1)), high = vuzp1q_u16(below(2), below(3));
            masks[i] = vandq_u8(vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high)), bits);
        }
        uint8x16_t sums = vpaddq_u8(vpaddq_u8(masks[0], masks[1]), vpaddq_u8(masks[2], masks[3]));
        sums = vpaddq_u8(sums, sums);
        const std::uint64_t hits = vgetq_lane_u64(vreinterpretq_u64_u8(sums), 0);
        return vectors < 16 ? hits & ((std::uint64_t{1} << (4 * vectors)) - 1) : hits;
    }
    static float smallest(Float a) { return vminnmvq_f32(a); }
    static void halves(Float a, float& first, float& second) {
        const Float sums = vpaddq_f32(a, a);
        first = vgetq_lane_f32(sums, 0);
        second = vgetq_lane_f32(sums, 1);
    }
    // The same of each of four vectors, a lane each.
    static void halves_of_each(const Float* of, Float& first, Float& second) {
        const Float low = vpaddq_f32(of[0], of[1]), high = vpaddq_f32(of[2], of[3]);
        first = vuzp1q_f32(low, high);
        second = vuzp2q_f32(low, high);
    }
    static Float smallest_of_each(const Float* of) {
        return vpminnmq_f32(vpminnmq_f32(of[0], of[1]), vpminnmq_f32(of[2], of[3]));
    }
    static Wide magnitude(Float a) { return vandq_s32(vreinterpretq_s32_f32(a), vdupq_n_s32(0x7fffffff)); }
    static Wide larger(Wide a, Wide b) { return vmaxq_s32(a, b); }
    static Wide zero() { return vdupq_n_s32(0); }
    static std::int32_t largest(Wide a) { return vmaxvq_s32(a); }
    static Float store_rounded(std::uint8_t* to, Float a) {
        const int32x4_t rounded = vcvtnq_s32_f32(a);
        const int16x4_t words = vqmovn_s32(rounded);
        const int8x8_t bytes = vqmovn_s16(vcombine_s16(words, words));
        vst1_lane_u32(reinterpret_cast<std::uint32_t*>(to), vreinterpret_u32_s8(bytes), 0);
        return vcvtq_f32_s32(rounded);
    }
    static Float from_half(const std::uint16_t* from) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from))); }
    static Float from_bfloat(const std::uint16_t* from) {
        return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(from), 16));
    }
};

}  // namespace lf::LF_INSTRUCTION_SET
