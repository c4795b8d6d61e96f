// The same operations in plain C++, for the compiler to vectorise: what every other processor runs.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "search/codebook.h"
#include "simd/broadcast.h"

namespace lf::LF_INSTRUCTION_SET {

struct Vector : Broadcasts<Vector> {
    static constexpr Layout kLayout{8, false, 4, 128};
    static constexpr int kRows = 2;
    static constexpr int kLanes = 8;

    struct Bytes {
        std::int8_t at[4 * kLanes];
    };
    struct Step {
        std::uint8_t at[4];
    };
    struct Wide {
        std::int32_t at[kLanes];
    };
    using Sums = Wide;
    struct Float {
        float at[kLanes];
    };

    template <class To, class From> static To copy(const From* from) {
        To to;
        std::memcpy(&to, from, sizeof to);
        return to;
    }
    template <class Operation> static Float map(Operation operation) {
        Float to;
        for (int i = 0; i < kLanes; ++i) to.at[i] = operation(i);
        return to;
    }

    // a·b + c as one rounding of the real number.
    static float rounded_once(float a, float b, float c) {
#ifdef __FP_FAST_FMAF
        return std::fma(a, b, c);
#else
        // The product is exact in float64. Its sum with c is rounded to the odd neighbour, after which the
        // rounding to float32 is as if there had been no other (Boldo and Melquiond, 2008).
        const double product = static_cast<double>(a) * b, sum = product + c, back = sum - product;
        const double error = (product - (sum - back)) + (c - back);
        std::uint64_t bits;
        std::memcpy(&bits, &sum, sizeof bits);
        const std::uint64_t inexact = (error > 0) | (error < 0), away = (error > 0) == (sum > 0);
        bits += (inexact & ~bits & 1) * (2 * away - 1);
        double odd;
        std::memcpy(&odd, &bits, sizeof odd);
        return static_cast<float>(odd);
#endif
    }

    static Bytes load_bytes(const std::int8_t* from) { return copy<Bytes>(from); }
    static Sums load_sums(const std::int8_t* from) { return copy<Sums>(from); }
    static Step broadcast_step(const std::uint8_t* from) { return copy<Step>(from); }
    static Sums multiply_add(Sums sums, Step row, Bytes words) {
        for (int i = 0; i < kLanes; ++i) {
            std::int32_t sum = sums.at[i];
            for (int d = 0; d < 4; ++d) sum += row.at[d] * words.at[4 * i + d];
            sums.at[i] = sum;
        }
        return sums;
    }
    static Wide widen(Sums sums) { return sums; }
    static Wide add(Wide a, Wide b) {
        for (int i = 0; i < kLanes; ++i) a.at[i] += b.at[i];
        return a;
    }
    static Float to_float(Wide a) {
        return map([&](int i) { return static_cast<float>(a.at[i]); });
    }

    static Float load(const float* from) { return copy<Float>(from); }
    static void store(float* to, Float a) { std::memcpy(to, &a, sizeof a); }
    static Float fill(float value) {
        return map([&](int) { return value; });
    }
    static Float subtract(Float a, Float b) {
        return map([&](int i) { return a.at[i] - b.at[i]; });
    }
    static Float add(Float a, Float b) {
        return map([&](int i) { return a.at[i] + b.at[i]; });
    }
    static Float multiply(Float a, Float b) {
        return map([&](int i) { return a.at[i] * b.at[i]; });
    }
    static Float fused(Float a, Float b, Float c) {
        return map([&](int i) { return a.at[i] * b.at[i] + c.at[i]; });
    }
    static Float fma(Float a, Float b, Float c) {
        return map([&](int i) { return rounded_once(a.at[i], b.at[i], c.at[i]); });
    }
    static Float smaller(Float a, Float b) {
        return map([&](int i) { return a.at[i] < b.at[i] ? a.at[i] : b.at[i]; });
    }
    static Float larger(Float a, Float b) {
        return map([&](int i) { return a.at[i] > b.at[i] ? a.at[i] : b.at[i]; });
    }
    static Float zero_below(Float a, Float x, Float limit) {
        return map([&](int i) { return x.at[i] < limit.at[i] ? 0.0f : a.at[i]; });
    }
    static Float scaled(Float a, Float counter) {
        Wide bits = copy<Wide>(&a);
        const Wide count = copy<Wide>(&counter);
        for (int i = 0; i < kLanes; ++i)
            bits.at[i] = static_cast<std::int32_t>(std::uint32_t(bits.at[i]) + (std::uint32_t(count.at[i]) << 23));
        return copy<Float>(&bits);
    }
    static std::uint32_t at_most(Float a, Float b) {
        std::uint32_t mask = 0;
        for (int i = 0; i < kLanes; ++i) mask |= std::uint32_t(a.at[i] <= b.at[i]) << i;
        return mask;
    }
    static std::uint64_t at_most(const float* from, std::int64_t vectors, Float limit) {
        std::uint64_t hits = 0;
        for (std::int64_t i = 0; i < vectors * kLanes; ++i) hits |= std::uint64_t(from[i] <= limit.at[0]) << i;
        return hits;
    }
    static int pack(float* to, std::uint32_t lanes, Float a) {
        int count = 0;
        for (int i = 0; i < kLanes; ++i)
            if (lanes >> i & 1) to[count++] = a.at[i];
        return count;
    }
    static int pack(std::int32_t* to, std::uint32_t lanes, std::int32_t first) {
        int count = 0;
        for (int i = 0; i < kLanes; ++i)
            if (lanes >> i & 1) to[count++] = first + i;
        return count;
    }
    static float smallest(Float a) {
        float least = a.at[0];
        for (float value : a.at) least = value < least ? value : least;
        return least;
    }
    static void halves(Float a, float& first, float& second) {
        first = a.at[0] + a.at[1] + a.at[4] + a.at[5];
        second = a.at[2] + a.at[3] + a.at[6] + a.at[7];
    }
    // The same of each of kLanes vectors, a lane each.
    static void halves_of_each(const Float* of, Float& first, Float& second) {
        for (int i = 0; i < kLanes; ++i) halves(of[i], first.at[i], second.at[i]);
    }
    static Float smallest_of_each(const Float* of) {
        return map([&](int i) { return smallest(of[i]); });
    }
    static Wide magnitude(Float a) {
        Wide bits = copy<Wide>(&a);
        for (std::int32_t& value : bits.at) value &= 0x7fffffff;
        return bits;
    }
    static Wide larger(Wide a, Wide b) {
        for (int i = 0; i < kLanes; ++i) a.at[i] = a.at[i] < b.at[i] ? b.at[i] : a.at[i];
        return a;
    }
    static Wide zero() { return Wide{}; }
    static std::int32_t largest(Wide a) {
        std::int32_t most = a.at[0];
        for (std::int32_t value : a.at) most = most < value ? value : most;
        return most;
    }
    static Float store_rounded(std::uint8_t* to, Float a) {
        return map([&](int i) {
            const float rounded = std::nearbyint(a.at[i]);
            to[i] = static_cast<std::uint8_t>(static_cast<int>(rounded) + 128);
            return rounded;
        });
    }
    // 5 exponent and 10 fraction bits; a subnormal is fraction · 2⁻²⁴.
    static Float from_half(const std::uint16_t* from) {
        return map([&](int i) {
            const std::uint32_t sign = (from[i] & 0x8000u) << 16, exponent = from[i] >> 10 & 31,
                                fraction = from[i] & 1023u;
            if (exponent == 0) return std::copysign(static_cast<float>(fraction) * 0x1p-24f, sign ? -1.0f : 1.0f);
            const std::uint32_t bits = sign | (exponent == 31 ? 255u : exponent + 112u) << 23 | fraction << 13;
            return copy<float>(&bits);
        });
    }
    static Float from_bfloat(const std::uint16_t* from) {
        return map([&](int i) {
            const std::uint32_t bits = std::uint32_t(from[i]) << 16;
            return copy<float>(&bits);
        });
    }
};

}  // namespace lf::LF_INSTRUCTION_SET
