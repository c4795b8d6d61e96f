#include "search/pack.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <unordered_map>

namespace lf {
namespace {

// Beyond these magnitudes float32 norms could overflow or lose their leading bits.
constexpr float kSmallest = 0x1p-40f, kLargest = 0x1p40f;
// Beyond this width 32-bit sums of 255·127 could overflow.
constexpr std::int64_t kWidest = 1 << 16;
// Scores of padding: above every score, yet finite, so that no NaN can come of it.
constexpr float kNever = 0x1p120f;

// To the nearest integer, ties to even; |value| < 2⁵¹. Unlike nearbyint it needs no call.
double rounded_to_integer(double value) { return (value + 0x1.8p52) - 0x1.8p52; }

std::int64_t round_up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit * unit; }

bool all_finite(const float* word, std::int64_t width) {
    return std::all_of(word, word + width, [](float value) { return std::isfinite(value); });
}

// Equal codewords hash alike: −0 counts as 0.
std::uint64_t hash_of(const float* word, std::int64_t width) {
    // Independent sums, for the compiler to vectorise; each element's bits are mixed with its place.
    std::uint64_t hash = 0;
    for (std::int64_t d = 0; d < width; ++d) {
        const float value = word[d] + 0.0f;
        std::uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        hash += (bits + 0x9e3779b9u * static_cast<std::uint64_t>(d)) *
                (0x100000001b3u + 2 * static_cast<std::uint64_t>(d) * 0x85ebca6bu);
    }
    return hash ^ hash >> 31;
}

}  // namespace

PackedCodebook::PackedCodebook(const float* words, const double* offset, std::int64_t count, std::int64_t width,
                               Layout layout, Keep keep)
    : width_(width) {
    view_.stride = width <= kShortWidth ? kShortWidth : round_up(width, kBlockSteps * kStepWidth);
    if (keep == Keep::winners) {
        find_winners(words, offset, count, width);
    } else {
        name_.resize(count);
        std::iota(name_.begin(), name_.end(), std::int64_t{0});
    }
    sort_by_length(words, width);
    copy(words, offset, width);
    view_.words = static_cast<std::int64_t>(name_.size());
    view_.exact = exact_.data();
    view_.offset = offset ? offset_.data() : nullptr;
    view_.name = name_.data();
    quantize(width, layout);
}

std::size_t PackedCodebook::bytes() const {
    return (exact_.size() + half_.size()) * sizeof(float) + packed_.size() + name_.size() * sizeof(std::int64_t) +
           left_out_.size() * sizeof(LeftOut);
}

bool PackedCodebook::holds(const float* words, std::int64_t count, std::int64_t width) const {
    const auto names = static_cast<std::int64_t>(name_.size() + left_out_.size());
    if (count != names || width != width_ || view_.offset) return false;
    for (std::int64_t k = 0; k < view_.words; ++k)
        if (std::memcmp(words + name_[k] * width, &exact_[k * view_.stride], width * sizeof(float)) != 0) return false;
    return std::all_of(left_out_.begin(), left_out_.end(), [&](const LeftOut& out) {
        const float* word = words + out.word * width;
        return out.twin < 0 ? !all_finite(word, width) : std::equal(word, word + width, words + out.twin * width);
    });
}

// Of equal codewords only the first of those with the least offset can win; one with NaN or Inf never.
void PackedCodebook::find_winners(const float* words, const double* offset, std::int64_t count, std::int64_t width) {
    std::unordered_multimap<std::uint64_t, std::int64_t> seen;
    seen.reserve(static_cast<std::size_t>(count));
    std::vector<std::int64_t> kept;
    for (std::int64_t k = 0; k < count; ++k) {
        const float* word = words + k * width;
        if (!all_finite(word, width) || (offset && !std::isfinite(offset[k]))) {
            left_out_.push_back({k, -1});
            continue;
        }
        const std::uint64_t hash = hash_of(word, width);
        auto [begin, end] = seen.equal_range(hash);
        const auto twin = std::find_if(begin, end, [&](const auto& entry) {
            return std::equal(word, word + width, words + kept[entry.second] * width);
        });
        if (twin == end) {
            seen.emplace(hash, static_cast<std::int64_t>(kept.size()));
            kept.push_back(k);
            continue;
        }
        std::int64_t& first = kept[twin->second];
        std::int64_t other = k;
        if (offset && offset[k] < offset[first]) std::swap(first, other);
        left_out_.push_back({other, first});
    }
    name_ = std::move(kept);
}

void PackedCodebook::copy(const float* words, const double* offset, std::int64_t width) {
    exact_.assign(name_.size() * view_.stride, 0.0f);
    for (std::size_t k = 0; k < name_.size(); ++k) {
        std::memcpy(&exact_[k * view_.stride], words + name_[k] * width, width * sizeof(float));
        if (offset) offset_.push_back(offset[name_[k]]);
    }
}

// Panels of like lengths have tight bounds. The order means nothing else: ties compare names.
void PackedCodebook::sort_by_length(const float* words, std::int64_t width) {
    std::vector<double> square(name_.size());
    std::vector<std::size_t> order(name_.size());
    for (std::size_t i = 0; i < name_.size(); ++i) {
        const float* word = words + name_[i] * width;
        square[i] = std::inner_product(word, word + width, word, 0.0);
        order[i] = i;
    }
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return square[a] < square[b]; });
    std::vector<std::int64_t> sorted;
    sorted.reserve(order.size());
    for (const std::size_t i : order) sorted.push_back(name_[i]);
    name_ = std::move(sorted);
}

void PackedCodebook::quantize(std::int64_t width, Layout layout) {
    const std::int64_t count = view_.words;
    // What must fit in a byte: the largest element, or, as vpmaddubsw saturates and 255·(b_j + b_{j+1}) must fit in
    // 16 bits, the largest sum of same-signed neighbours.
    std::vector<float> extent(count);
    double longest = 0.0, magnitude = 0.0;
    std::vector<double> half(count);
    for (std::int64_t k = 0; k < count; ++k) {
        const float* word = &exact_[k * view_.stride];
        float largest = 0.0f, sums = 0.0f;
        double square = 0.0;
#pragma omp simd reduction(max : largest, sums) reduction(+ : square)
        for (std::int64_t d = 0; d < view_.stride; d += 2) {
            const float a = word[d], b = word[d + 1];
            square += static_cast<double>(a) * a + static_cast<double>(b) * b;
            largest = std::max({largest, std::abs(a), std::abs(b)});
            sums = std::max({sums, std::max(a, 0.0f) + std::max(b, 0.0f), std::max(-a, 0.0f) + std::max(-b, 0.0f)});
        }
        extent[k] = layout.narrow_sums ? sums : largest;
        longest = std::max(longest, std::sqrt(square));
        const double shift = view_.offset ? 0.5 * view_.offset[k] : 0.0;
        half[k] = 0.5 * square + shift;
        magnitude = std::max(magnitude, 0.5 * square + std::abs(shift));
    }
    double highest = 0.0;
    if (count && view_.offset) {
        view_.shift = *std::min_element(half.begin(), half.end());
        for (double& value : half) value -= view_.shift;
    }
    for (const double value : half) highest = std::max(highest, std::abs(value));
    // What an offset cancels or has in common with all others leaves its rounding behind: (stride + 8)·2⁻⁵³
    // of the magnitudes. The screen takes 2⁻²⁰ of `highest` for the rounding of scores.
    highest += static_cast<double>(view_.stride + 8) * 0x1p-33 * magnitude;
    const float widest = count ? *std::max_element(extent.begin(), extent.end()) : 0.0f;
    view_.screened = count > 1 && widest >= kSmallest && widest <= kLargest && highest < kLargest * kLargest &&
                     view_.stride <= kWidest;
    if (!view_.screened) return;

    view_.longest = static_cast<float>(longest * (1 + 1e-6));
    view_.highest = static_cast<float>(highest * (1 + 1e-6));
    const std::int64_t block_steps = width <= kShortWidth ? kShortBlockSteps : kBlockSteps;
    view_.blocks = view_.stride / (block_steps * kStepWidth);
    const std::int64_t vector_bytes = 4 * layout.lanes;
    const std::int64_t panel_words = kVectors * layout.lanes;
    view_.panels = (count + panel_words - 1) / panel_words;
    view_.panel_bytes = view_.blocks * (1 + block_steps) * kVectors * vector_bytes;
    packed_.assign(view_.panels * view_.panel_bytes, 0);
    half_.assign(view_.panels * panel_words, kNever);

    for (auto* of : {&unit_, &rounding_, &reach_}) of->assign(view_.panels + layout.lanes, 0.0f);
    double lane_reach = 0.0;
    float scale = 0.0f;
    std::vector<std::int8_t> word(view_.stride);
    for (std::int64_t k = 0; k < count; ++k) {
        const std::int64_t panel = k / panel_words, vector = k % panel_words / layout.lanes;
        if (k % panel_words == 0) {
            const auto begin = extent.begin() + k, end = begin + std::min(panel_words, count - k);
            scale = static_cast<float>(126.9 / std::max(*std::max_element(begin, end), kSmallest));
            unit_[panel] = 1.0f / scale;
        }
        double error = 0.0, square = 0.0;
        const float* exact = &exact_[k * view_.stride];
#pragma omp simd reduction(+ : error, square)
        for (std::int64_t d = 0; d < view_.stride; ++d) {
            const double scaled = static_cast<double>(exact[d]) * scale, rounded = rounded_to_integer(scaled);
            error += (scaled - rounded) * (scaled - rounded);
            square += rounded * rounded;
            word[d] = static_cast<std::int8_t>(static_cast<std::int32_t>(-rounded));  // negated: scores subtract it
        }
        rounding_[panel] = std::max(rounding_[panel], static_cast<float>(std::sqrt(error) / scale * (1 + 1e-6)));
        reach_[panel] = std::max(reach_[panel], static_cast<float>(std::sqrt(square) / scale * (1 + 1e-6)));
        const std::int64_t lane = k % layout.lanes;
        half_[k] = static_cast<float>(half[k]);
        std::int8_t* target = &packed_[panel * view_.panel_bytes + vector * vector_bytes + 4 * lane];
        std::int8_t* bytes = &packed_[panel * view_.panel_bytes + kVectors * vector_bytes +
                                      layout.together * (vector * layout.lanes + lane)];
        // The row's bytes carry +128 where they are unsigned; the initial sums take it off again: 16-bit ones
        // in every block, 32-bit ones once.
        std::int32_t whole = 0;
        for (std::int64_t block = 0; block < view_.blocks; ++block) {
            const std::int64_t at = block * (1 + block_steps) * kVectors * vector_bytes;
            std::int32_t sums[2] = {0, 0}, squares[2] = {0, 0};
            for (std::int64_t step = 0; step < block_steps; ++step) {
                const std::int8_t* part = &word[(block * block_steps + step) * kStepWidth];
                const std::int64_t within = step * kStepWidth % layout.together;
                std::memcpy(bytes + at + (step * kStepWidth - within) * panel_words + within, part, kStepWidth);
                for (int d = 0; d < kStepWidth; ++d) {
                    sums[d / 2] += part[d];
                    squares[d / 2] += part[d] * part[d];
                }
            }
            whole += sums[0] + sums[1];
            if (!layout.narrow_sums) continue;
            const std::int16_t correction[2] = {static_cast<std::int16_t>(-layout.zero * sums[0]),
                                                static_cast<std::int16_t>(-layout.zero * sums[1])};
            std::memcpy(target + at, correction, sizeof correction);
            lane_reach = std::max(lane_reach, std::sqrt(static_cast<double>(std::max(squares[0], squares[1]))));
        }
        if (!layout.narrow_sums) {
            const std::int32_t correction = -layout.zero * whole;
            std::memcpy(target, &correction, sizeof correction);
        }
    }
    view_.packed = packed_.data();
    view_.half = half_.data();
    view_.unit = unit_.data();
    view_.rounding = rounding_.data();
    view_.reach = reach_.data();
    // ‖round(a)‖ over the 16 numbers of a half block is at most ‖a‖ + ½√16, and Cauchy–Schwarz bounds
    // a half block's sum by ‖round(a)‖·lane_reach ≤ 32767; on the way to it 16 bits may wrap.
    view_.lane_limit = layout.narrow_sums && lane_reach > 0 ? static_cast<float>(32700.0 / lane_reach - 2.0)
                                                            : std::numeric_limits<float>::infinity();
}

}  // namespace lf
