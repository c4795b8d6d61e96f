// The C ABI of the uniform mapping: leaves out what isn't finite, lays out the codewords, shares groups among threads.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "abi.h"
#include "simd/dispatch.h"
#include "runtime/parallel.h"
#include "sinkhorn_codes.h"

namespace lf {

#define LF_DECLARE(set)                                                                          \
    namespace set {                                                                              \
    std::size_t sinkhorn_bytes(const Mapping&, std::int64_t rows);                               \
    void sinkhorn_group(const Mapping&, Members, void* scratch, int threads);                    \
    }
LF_FOR_EACH_SET(LF_DECLARE)

namespace {

// A group of more rows takes all threads by itself; of smaller ones each thread takes its own.
constexpr std::int64_t kAlone = 256;

bool finite(const float* row, std::int64_t width) {
    return std::all_of(row, row + width, [](float value) { return std::isfinite(value); });
}

// The finite codewords by panels, and the index of each.
struct Words {
    std::vector<double> panels;
    std::vector<std::int64_t> name;

    Words(const float* codebook, std::int64_t words, std::int64_t width) {
        for (std::int64_t k = 0; k < words; ++k)
            if (finite(codebook + k * width, width)) name.push_back(k);
        panels.resize(static_cast<std::size_t>(stride() * width));
        for (std::int64_t k = 0; k < stride(); ++k) {
            const std::int64_t from = name[k < count() ? k : 0], panel = k / kPanel;
            for (std::int64_t d = 0; d < width; ++d)
                panels[(panel * width + d) * kPanel + k % kPanel] = codebook[from * width + d];
        }
    }
    std::int64_t count() const { return static_cast<std::int64_t>(name.size()); }
    std::int64_t stride() const { return (count() + kPanel - 1) / kPanel * kPanel; }
};

void run(const Mapping& mapping, const std::vector<Members>& groups, Set set, int threads) {
    const auto bytes = LF_PICK(set, sinkhorn_bytes);
    const auto map = LF_PICK(set, sinkhorn_group);
    std::vector<Members> alone, shared;
    std::int64_t largest = 0, largest_shared = 0;
    for (const Members& group : groups) {
        const bool large = group.count > kAlone;
        (large ? alone : shared).push_back(group);
        std::int64_t& most = large ? largest : largest_shared;
        most = std::max(most, group.count);
    }
    if (!alone.empty()) {
        const Buffer scratch(bytes(mapping, largest));
        for (const Members& group : alone) map(mapping, group, scratch.data(), threads);
    }
    const auto count = static_cast<std::int64_t>(shared.size());
    const int team = threads_for(count, threads);
    const Scratch scratch(team, bytes(mapping, largest_shared));
    for_parts(count, team, 1, [&](std::int64_t i, int thread) { map(mapping, shared[i], scratch.of(thread), 1); });
}

}  // namespace

LF_REQUEST(SinkhornRequest, {
    const float* x;  // [rows, width]
    std::int64_t rows, width;
    const float* codebook;  // [words, width]
    std::int64_t words;
    const std::int64_t* starts;  // [groups + 1]
    std::int64_t groups;
    double epsilon;
    std::int64_t sweeps;
    std::int64_t* codes;  // [rows]
    std::int32_t threads, instruction_set;
});

namespace {

void sinkhorn_codes(const SinkhornRequest& request) {
    check_groups(request.starts, request.groups, request.rows);
    std::fill_n(request.codes, request.rows, std::int64_t{-1});
    const Words words(request.codebook, request.words, request.width);
    if (words.count() == 0) return;
    std::vector<std::int64_t> row;  // the finite ones, group after group
    std::vector<Members> groups;
    row.reserve(static_cast<std::size_t>(request.rows));  // so that no pointer into it moves
    for (std::int64_t group = 0; group < request.groups; ++group) {
        const std::size_t begin = row.size();
        for (std::int64_t i = request.starts[group]; i < request.starts[group + 1]; ++i)
            if (finite(request.x + i * request.width, request.width)) row.push_back(i);
        const auto count = static_cast<std::int64_t>(row.size() - begin);
        if (count > 0) groups.push_back({row.data() + begin, count});
    }
    Mapping mapping{};
    mapping.x = request.x;
    mapping.width = request.width;
    mapping.panels = words.panels.data();
    mapping.words = words.count();
    mapping.stride = words.stride();
    mapping.name = words.name.data();
    mapping.epsilon = request.epsilon;
    mapping.sweeps = request.sweeps;
    mapping.codes = request.codes;
    run(mapping, groups, static_cast<Set>(request.instruction_set), std::max(1, request.threads));
}

}  // namespace
}  // namespace lf

LF_ENTRY(sinkhorn_codes, SinkhornRequest)
