// The AVX-512 intrinsics that kernels/cpp/simd/vector_avx512.h uses, as plain loops after Intel's own pseudocode,
// so that those kernels are tested on processors that lack them. See `make test-emulated`.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

struct __m128i {
    std::uint8_t bytes[16];
};
struct __m256i {
    std::uint16_t words[16];
};
struct __m512i {
    std::int32_t lanes[16];
};
struct __m512 {
    float lanes[16];
};
constexpr int _CMP_LE_OQ = 18, _CMP_NLT_UQ = 21;

template <class To, class From> inline To emulated_cast(const From& from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
template <class To> inline To emulated_load(const void* from) {
    To to;
    std::memcpy(&to, from, sizeof to);
    return to;
}
template <class Operation> inline __m512 emulated_floats(Operation operation) {
    __m512 to;
    for (int i = 0; i < 16; ++i) to.lanes[i] = operation(i);
    return to;
}
template <class Operation> inline __m512i emulated_lanes(Operation operation) {
    __m512i to;
    for (int i = 0; i < 16; ++i) to.lanes[i] = operation(i);
    return to;
}
struct Emulated16 {
    std::int16_t at[32];
};
struct Emulated8 {
    std::int8_t at[64];
};
struct EmulatedU8 {
    std::uint8_t at[64];
};

inline __m512i _mm512_loadu_si512(const void* from) { return emulated_load<__m512i>(from); }
inline __m256i _mm256_loadu_si256(const __m256i* from) { return emulated_load<__m256i>(from); }
inline void _mm_storeu_si128(__m128i* to, __m128i a) { std::memcpy(to, &a, sizeof a); }
inline __m512 _mm512_loadu_ps(const float* from) { return emulated_load<__m512>(from); }
inline void _mm512_storeu_ps(float* to, __m512 a) { std::memcpy(to, &a, sizeof a); }
inline __m512i _mm512_set1_epi32(int value) {
    return emulated_lanes([=](int) { return value; });
}
inline __m512i _mm512_setzero_si512() { return _mm512_set1_epi32(0); }
inline __m512 _mm512_set1_ps(float value) {
    return emulated_floats([=](int) { return value; });
}
inline __m512i _mm512_set1_epi16(std::int16_t value) {
    Emulated16 to;
    for (auto& lane : to.at) lane = value;
    return emulated_cast<__m512i>(to);
}
inline __m512 _mm512_castsi512_ps(__m512i a) { return emulated_cast<__m512>(a); }
inline __m512i _mm512_castps_si512(__m512 a) { return emulated_cast<__m512i>(a); }

inline __m512i _mm512_maddubs_epi16(__m512i unsigned_bytes, __m512i signed_bytes) {
    const auto a = emulated_cast<EmulatedU8>(unsigned_bytes);
    const auto b = emulated_cast<Emulated8>(signed_bytes);
    Emulated16 to;
    for (int i = 0; i < 32; ++i) {
        const int sum = a.at[2 * i] * b.at[2 * i] + a.at[2 * i + 1] * b.at[2 * i + 1];
        to.at[i] = static_cast<std::int16_t>(sum > 32767 ? 32767 : sum < -32768 ? -32768 : sum);
    }
    return emulated_cast<__m512i>(to);
}
inline __m512i _mm512_add_epi16(__m512i left, __m512i right) {
    auto a = emulated_cast<Emulated16>(left);
    const auto b = emulated_cast<Emulated16>(right);
    for (int i = 0; i < 32; ++i) a.at[i] = static_cast<std::int16_t>(a.at[i] + b.at[i]);
    return emulated_cast<__m512i>(a);
}
inline __m512i _mm512_madd_epi16(__m512i left, __m512i right) {
    const auto a = emulated_cast<Emulated16>(left), b = emulated_cast<Emulated16>(right);
    return emulated_lanes([&](int i) { return a.at[2 * i] * b.at[2 * i] + a.at[2 * i + 1] * b.at[2 * i + 1]; });
}
inline __m512i _mm512_dpbusd_epi32(__m512i sums, __m512i unsigned_bytes, __m512i signed_bytes) {
    const auto a = emulated_cast<EmulatedU8>(unsigned_bytes);
    const auto b = emulated_cast<Emulated8>(signed_bytes);
    return emulated_lanes([&](int i) {
        std::int32_t sum = sums.lanes[i];
        for (int d = 4 * i; d < 4 * i + 4; ++d) sum += a.at[d] * b.at[d];
        return sum;
    });
}
inline __m512i _mm512_add_epi32(__m512i a, __m512i b) {
    return emulated_lanes([&](int i) { return a.lanes[i] + b.lanes[i]; });
}
inline __m512i _mm512_and_si512(__m512i a, __m512i b) {
    return emulated_lanes([&](int i) { return a.lanes[i] & b.lanes[i]; });
}
inline __m512i _mm512_max_epi32(__m512i a, __m512i b) {
    return emulated_lanes([&](int i) { return a.lanes[i] < b.lanes[i] ? b.lanes[i] : a.lanes[i]; });
}
inline __m512i _mm512_slli_epi32(__m512i a, int bits) {
    return emulated_lanes(
        [&](int i) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(a.lanes[i]) << bits); });
}
inline __m512 _mm512_cvtepi32_ps(__m512i a) {
    return emulated_floats([&](int i) { return static_cast<float>(a.lanes[i]); });
}
inline __m512i _mm512_cvtps_epi32(__m512 a) {
    return emulated_lanes([&](int i) { return static_cast<std::int32_t>(std::lrint(a.lanes[i])); });
}
inline __m512i _mm512_cvtepu16_epi32(__m256i a) {
    return emulated_lanes([&](int i) { return a.words[i]; });
}
inline __m128i _mm512_cvtepi32_epi8(__m512i a) {
    __m128i to;
    for (int i = 0; i < 16; ++i) to.bytes[i] = static_cast<std::uint8_t>(a.lanes[i]);
    return to;
}
inline __m512 _mm512_cvtph_ps(__m256i a) {
    return emulated_floats([&](int i) {
        const int exponent = a.words[i] >> 10 & 31, fraction = a.words[i] & 1023;
        const float magnitude = exponent == 31  ? (fraction ? NAN : INFINITY)
                                : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                                : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
        return a.words[i] >> 15 ? -magnitude : magnitude;
    });
}
inline __m128i _mm_set1_epi8(char value) {
    __m128i to;
    std::memset(&to, value, sizeof to);
    return to;
}
inline __m128i _mm_xor_si128(__m128i a, __m128i b) {
    for (int i = 0; i < 16; ++i) a.bytes[i] ^= b.bytes[i];
    return a;
}

inline __m512 _mm512_add_ps(__m512 a, __m512 b) {
    return emulated_floats([&](int i) { return a.lanes[i] + b.lanes[i]; });
}
inline __m512 _mm512_sub_ps(__m512 a, __m512 b) {
    return emulated_floats([&](int i) { return a.lanes[i] - b.lanes[i]; });
}
inline __m512 _mm512_mul_ps(__m512 a, __m512 b) {
    return emulated_floats([&](int i) { return a.lanes[i] * b.lanes[i]; });
}
inline __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) {
    return emulated_floats([&](int i) { return std::fma(a.lanes[i], b.lanes[i], c.lanes[i]); });
}
inline __m512 _mm512_min_ps(__m512 a, __m512 b) {
    return emulated_floats([&](int i) { return a.lanes[i] < b.lanes[i] ? a.lanes[i] : b.lanes[i]; });
}
inline __m512 _mm512_max_ps(__m512 a, __m512 b) {
    return emulated_floats([&](int i) { return a.lanes[i] > b.lanes[i] ? a.lanes[i] : b.lanes[i]; });
}
inline std::uint16_t _mm512_cmp_ps_mask(__m512 a, __m512 b, int predicate) {
    unsigned mask = 0;
    for (int i = 0; i < 16; ++i) {
        const bool holds = predicate == _CMP_NLT_UQ ? !(a.lanes[i] < b.lanes[i]) : a.lanes[i] <= b.lanes[i];
        mask |= unsigned(holds) << i;
    }
    return static_cast<std::uint16_t>(mask);
}
inline __m512 _mm512_maskz_mov_ps(std::uint16_t mask, __m512 a) {
    return emulated_floats([&](int i) { return mask >> i & 1 ? a.lanes[i] : 0.0f; });
}
template <class Register> inline Register emulated_compress(std::uint16_t mask, const Register& a) {
    Register to{};
    int count = 0;
    for (int i = 0; i < 16; ++i)
        if (mask >> i & 1) to.lanes[count++] = a.lanes[i];
    return to;
}
inline __m512 _mm512_maskz_compress_ps(std::uint16_t mask, __m512 a) { return emulated_compress(mask, a); }
inline __m512i _mm512_maskz_compress_epi32(std::uint16_t mask, __m512i a) { return emulated_compress(mask, a); }
inline void _mm512_storeu_si512(void* to, __m512i a) { std::memcpy(to, &a, sizeof a); }
inline __m512 _mm512_shuffle_ps(__m512 a, __m512 b, int choice) {
    return emulated_floats([&](int i) {
        const __m512& from = i % 4 < 2 ? a : b;
        return from.lanes[i / 4 * 4 + (choice >> (2 * (i % 4)) & 3)];
    });
}
inline __m512 _mm512_shuffle_f32x4(__m512 a, __m512 b, int choice) {
    return emulated_floats([&](int i) {
        const __m512& from = i < 8 ? a : b;
        return from.lanes[4 * (choice >> (2 * (i / 4)) & 3) + i % 4];
    });
}
inline float _mm512_reduce_add_ps(__m512 a) {
    float sum = 0.0f;
    for (float value : a.lanes) sum += value;
    return sum;
}
inline float _mm512_reduce_min_ps(__m512 a) {
    float least = a.lanes[0];
    for (float value : a.lanes) least = value < least ? value : least;
    return least;
}
inline std::int32_t _mm512_reduce_max_epi32(__m512i a) {
    std::int32_t most = a.lanes[0];
    for (std::int32_t value : a.lanes) most = most < value ? value : most;
    return most;
}
