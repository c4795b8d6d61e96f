// LETTER's diversity loss of all levels, and its gradient. Per level, with n_k the rows of code k that have a
// partner and t their partners,
//
//     loss = (Σ_k n_k log Σ_{j≠k} exp e_k·e_j − Σ_rows e_k·e_t)/B
//     ∂e_k = (n_k Σ_{j≠k} p_kj e_j + Σ_{j≠k} n_j p_jk e_j − c_k)/B        c_k = Σ_{code k} e_t + Σ_{partner k} e_code
//
// The first sum is a softmax pass of the used codewords over all, the second a pass of all over the used with
// shifts log Σ − log n. Nothing of the size K × K exists. Σ_rows e_k·e_t is ½ Σ_k e_k·c_k.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "abi.h"
#include "softmax/run.h"

namespace lf {

LF_REQUEST(DiversityRequest, {
    const std::int64_t* codes;  // [rows, levels]; −1 counts nowhere
    std::int64_t rows, levels, width;
    const float* codebooks;  // [ΣK, width]
    const std::int64_t* sizes;
    const std::int64_t* groups;  // [ΣK]
    std::int64_t seed;
    double* losses;   // [levels]
    float* gradient;  // [ΣK, width] or null
    std::int32_t threads, instruction_set;
});

namespace {

// SplitMix64 (Steele, Lea and Flood, 2014) as a function of its counter.
constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15;
std::uint64_t random_bits(std::uint64_t seed, std::uint64_t counter) {
    std::uint64_t z = seed + (counter + 1) * kGolden;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

// The codewords of a level by group, ascending within each.
struct Groups {
    explicit Groups(const std::int64_t* group, std::int64_t size) : order(size), begin(size), end(size), place(size) {
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(),
                         [&](std::int64_t a, std::int64_t b) { return group[a] < group[b]; });
        for (std::int64_t first = 0, last = 0; first < size; first = last) {
            while (last < size && group[order[last]] == group[order[first]]) ++last;
            for (std::int64_t at = first; at < last; ++at) {
                begin[order[at]] = first;
                end[order[at]] = last;
                place[order[at]] = at;
            }
        }
    }
    // The other member that `random`, 32 bits, picks; −1 where there is none.
    std::int64_t partner(std::int64_t code, std::uint64_t random) const {
        const std::int64_t others = end[code] - begin[code] - 1;
        if (others == 0) return -1;
        const auto step = static_cast<std::int64_t>(random * static_cast<std::uint64_t>(others) >> 32);
        return order[begin[code] + (place[code] - begin[code] + 1 + step) % (others + 1)];
    }
    std::vector<std::int64_t> order, begin, end, place;
};

struct Level {
    const float* words;  // [size, width]
    std::int64_t size;
    std::int64_t counted = 0;     // rows not marked
    std::vector<double> count;    // [size] n_k
    std::vector<double> drawn;    // [size, width] c_k
};

void add(double* to, const float* word, std::int64_t width) {
    for (std::int64_t d = 0; d < width; ++d) to[d] += static_cast<double>(word[d]);
}

// n_k and c_k of a level, rows in order.
void draw(const DiversityRequest& request, std::int64_t at, std::int64_t start, Level& level) {
    const std::int64_t width = request.width;
    const Groups groups(request.groups + start, level.size);
    const std::uint64_t key = random_bits(static_cast<std::uint64_t>(request.seed), static_cast<std::uint64_t>(at));
    level.count.assign(level.size, 0.0);
    level.drawn.assign(level.size * width, 0.0);
    for (std::int64_t row = 0; row < request.rows; ++row) {
        const std::int64_t code = request.codes[row * request.levels + at];
        check_codes(&code, 1, level.size);
        if (code < 0) continue;
        ++level.counted;
        const std::int64_t partner = groups.partner(code, random_bits(key, static_cast<std::uint64_t>(row)) >> 32);
        if (partner < 0) continue;
        level.count[code] += 1.0;
        add(&level.drawn[code * width], level.words + partner * width, width);
        add(&level.drawn[partner * width], level.words + code * width, width);
    }
}

// Loss of a level, and its gradient unless that is null.
double finish(const Level& level, std::int64_t width, const SoftmaxRun& run, float* gradient) {
    std::vector<std::int64_t> used, place(level.size, -1);
    for (std::int64_t k = 0; k < level.size; ++k)
        if (level.count[k] > 0.0) {
            place[k] = static_cast<std::int64_t>(used.size());
            used.push_back(k);
        }
    if (gradient) std::fill_n(gradient, level.size * width, 0.0f);
    if (used.empty()) return 0.0;
    const auto rows = static_cast<std::int64_t>(used.size());
    const auto batch = static_cast<double>(level.counted);

    std::vector<Buffer> memory;
    std::vector<float> words(rows * width), mean(gradient ? rows * width : 0);
    for (std::int64_t row = 0; row < rows; ++row)
        std::copy_n(level.words + used[row] * width, width, &words[row * width]);
    std::vector<double> log_total(rows);
    Softmax softmax{};
    softmax.rows = words.data();
    softmax.count = rows;
    softmax.columns = run.pack(level.words, level.size, width, memory);
    softmax.partner = used.data();
    softmax.log_total = log_total.data();
    softmax.out = gradient ? mean.data() : nullptr;
    run.rows(softmax, false);

    double loss = 0.0;
    for (std::int64_t row = 0; row < rows; ++row) loss += level.count[used[row]] * log_total[row];
    for (std::int64_t at = 0; at < level.size * width; ++at)
        loss -= 0.5 * static_cast<double>(level.words[at]) * level.drawn[at];
    if (!gradient) return loss / batch;

    for (std::int64_t row = 0; row < rows; ++row) log_total[row] -= std::log(level.count[used[row]]);
    Softmax shifted{};
    shifted.rows = level.words;
    shifted.count = level.size;
    shifted.columns = run.pack(words.data(), rows, width, memory);
    shifted.partner = place.data();
    const std::vector<float> shifts = split_shifts(log_total.data(), shifted.columns);
    shifted.shift_high = shifts.data();
    shifted.shift_low = shifts.data() + shifts.size() / 2;
    shifted.out = gradient;
    run.rows(shifted, true);
    for (std::int64_t k = 0; k < level.size; ++k)
        for (std::int64_t d = 0; d < width; ++d) {
            const std::int64_t at = k * width + d;
            double sum = static_cast<double>(gradient[at]) - level.drawn[at];
            if (place[k] >= 0) sum += level.count[k] * static_cast<double>(mean[place[k] * width + d]);
            gradient[at] = static_cast<float>(sum / batch);
        }
    return loss / batch;
}

void diversity(const DiversityRequest& request) {
    std::vector<std::int64_t> starts(request.levels + 1, 0);
    std::partial_sum(request.sizes, request.sizes + request.levels, starts.begin() + 1);
    std::vector<Level> levels(request.levels);
    const SoftmaxRun run(request.instruction_set, request.threads);
    for (std::int64_t at = 0; at < request.levels; ++at) {
        levels[at].words = request.codebooks + starts[at] * request.width;
        levels[at].size = request.sizes[at];
    }
    for_parts(request.levels, threads_for(request.levels, request.threads), 1,
              [&](std::int64_t at, int) { draw(request, at, starts[at], levels[at]); });
    for (std::int64_t at = 0; at < request.levels; ++at)
        request.losses[at] = finish(levels[at], request.width, run,
                                    request.gradient ? request.gradient + starts[at] * request.width : nullptr);
}

}  // namespace
}  // namespace lf

LF_ENTRY(diversity, DiversityRequest)
