// The uniform mapping of one group of n rows onto K codewords:
//
//     A_ik = (min_k d_ik − d_ik) / (h·ε)      d_ik = ‖x_i − e_k‖², h = half the range of all d, plus 1e-5
//     `sweeps` times   f_i = −ln Σ_k exp(A_ik + g_k),   then   g_k = −ln Σ_i exp(A_ik + f_i)      g⁰ = 0
//     code_i = argmax_k Q_ik,   Q = exp(A + f + g)
//
// The public code divides Q = exp(−d/(h·ε)) itself by its sums, rows before columns; what all k of a row share (min d,
// the middle of the range) and what all rows share (1/n, 1/K) change no code and are left out. As there, the last Q
// is a quotient, exp(A + f) by its column's sum: with fewer rows than codewords many columns belong to one row up to a
// part of 10⁻¹⁶ or less. Then Q is 1 for all of them, and the lowest is the code.
//
// Scaling form. With G = exp(A), u = exp f and v = exp g a sweep is products and sums only, one pass over G: take
// s_i = Σ_k G_ik v_k, u_i = T/s_i, add u_i G_ik to w_k; then v_k = 1/w_k, scaled to a largest element of T = 2⁴⁸⁰.
// If the rows of A have a range R ≤ 680 and n, K < 2⁴⁰, then all of these are normal numbers: nothing overflows, and
// nothing is divided by 0 (docs/bounds.md has the table of exponents). Because v is T, not 1, at its largest, hardly
// any number is subnormal, so the bits don't depend on what the processor does with those, nor does its speed.
//
// Log form, for groups of larger R (ε < 0.0029 and rows that span the range): the formulas as they stand, each sum
// relative to its largest term. That takes two exponentials an element and sweep, but eight elements that are all
// below e⁻⁶⁴ of the largest, as most then are, are lost in the sum anyway and passed over.
//
// A pass treats blocks of kBlockRows rows, each with sums of its own, which are added in the order of the blocks: it
// doesn't matter which threads do them. Scratch: n·K float64, and 2·K for each block.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "abi.h"
#include "runtime/parallel.h"
#include "simd/dispatch.h"
#include "simd/doubles.h"
#include "simd/scratch.h"

namespace lf {

// Codewords lie in panels of this many, one column after the other: [panels][width][kPanel].
constexpr std::int64_t kPanel = 8;

// The arguments that all groups share.
struct Mapping {
    const float* x;           // [N, width]
    std::int64_t width;
    const double* panels;     // the finite codewords; the last panel is filled up with copies of the first
    std::int64_t words;       // K
    std::int64_t stride;      // K in whole panels
    const std::int64_t* name; // [words] the caller's index of each
    double epsilon;
    std::int64_t sweeps;
    std::int64_t* codes;      // [N]
};

// The rows of one group.
struct Members {
    const std::int64_t* row;  // [count] where each stands in x
    std::int64_t count;
};

LF_KERNEL(std::size_t sinkhorn_bytes(const Mapping&, std::int64_t rows))
LF_KERNEL(void sinkhorn_group(const Mapping&, Members, void* scratch, int threads))

}  // namespace lf

namespace lf::LF_INSTRUCTION_SET {
namespace {

constexpr std::int64_t kBlockRows = 32;
constexpr int kTileRows = 4;  // rows that share the loads of v and w

constexpr double kReach = 680.0, kTop = 0x1p480, kLost = -64.0;

struct Group {
    Members members;
    std::int64_t blocks;
    double* plan;    // [n, stride] d, then G or A
    double* least;   // [n] of the row's d
    double* most;    // [n] of the row's d, then u or f
    double* column;  // [stride] v or g; in the end w
    double* peak;    // [stride] log form: each column's largest term
    double* sums;    // [blocks, stride] a block's part of w
    double* peaks;   // [blocks, stride] log form: what that part is relative to
    double inverse;  // 1/(h·ε)
};

Group carve(const Mapping& mapping, Members members, Carver& carver) {
    Group group{};
    group.members = members;
    group.blocks = (members.count + kBlockRows - 1) / kBlockRows;
    group.plan = carver.take<double>(members.count * mapping.stride);
    group.least = carver.take<double>(members.count);
    group.most = carver.take<double>(members.count);
    group.column = carver.take<double>(mapping.stride);
    group.peak = carver.take<double>(mapping.stride);
    group.sums = carver.take<double>(group.blocks * mapping.stride);
    group.peaks = carver.take<double>(group.blocks * mapping.stride);
    return group;
}

// Calls `take` with the first row of each tile of a block and, as a type, the number of its rows.
template <class Take> void for_tiles(const Group& group, std::int64_t block, Take take) {
    const std::int64_t begin = block * kBlockRows, left = group.members.count - begin;
    const std::int64_t end = begin + (left < kBlockRows ? left : kBlockRows);
    std::int64_t row = begin;
    for (; row + kTileRows <= end; row += kTileRows) take(row, std::integral_constant<int, kTileRows>());
    for (; row < end; ++row) take(row, std::integral_constant<int, 1>());
}

template <class Take> void for_rows(const Group& group, std::int64_t block, Take take) {
    for_tiles(group, block, [&](std::int64_t row, auto rows) {
        for (int r = 0; r < rows; ++r) take(row + r);
    });
}

// d of a tile, a part of the width at a time.
template <int kRows> void measure(const Mapping& mapping, const Group& group, std::int64_t first) {
    constexpr std::int64_t kPart = 64;
    const std::int64_t stride = mapping.stride, width = mapping.width;
    double* const plan = group.plan + first * stride;
    for (std::int64_t begin = 0; begin < width; begin += kPart) {
        const std::int64_t part = width - begin < kPart ? width - begin : kPart;
        double x[kRows][kPart];
        for (int r = 0; r < kRows; ++r) {
            const float* from = mapping.x + group.members.row[first + r] * width + begin;
            for (std::int64_t d = 0; d < part; ++d) x[r][d] = from[d];
        }
        for (std::int64_t k = 0; k < stride; k += kPanel) {
            const double* words = mapping.panels + k * width + begin * kPanel;
            Doubles sum[kRows];
            for (int r = 0; r < kRows; ++r) sum[r] = begin ? load(plan + r * stride + k) : fill(0.0);
            for (std::int64_t d = 0; d < part; ++d) {
                const Doubles word = load(words + d * kPanel);
                for (int r = 0; r < kRows; ++r) {
                    const Doubles gap = fill(x[r][d]) - word;
                    sum[r] = sum[r] + gap * gap;
                }
            }
            for (int r = 0; r < kRows; ++r) store(plan + r * stride + k, sum[r]);
        }
    }
    for (int r = 0; r < kRows; ++r) {
        Doubles least = load(plan + r * stride), most = least;
        for (std::int64_t k = kPanel; k < stride; k += kPanel) {
            const Doubles d = load(plan + r * stride + k);
            least = smaller(least, d);
            most = larger(most, d);
        }
        group.least[first + r] = smallest(least);
        group.most[first + r] = largest(most);
    }
}

// The range of the group's distances, and R.
double find_range(const Mapping& mapping, Group& group) {
    double lowest = group.least[0], highest = group.most[0], widest = 0.0;
    for (std::int64_t i = 0; i < group.members.count; ++i) {
        lowest = group.least[i] < lowest ? group.least[i] : lowest;
        highest = group.most[i] > highest ? group.most[i] : highest;
        const double range = group.most[i] - group.least[i];
        widest = range > widest ? range : widest;
    }
    const double half = highest - (highest + lowest) / 2 + 1e-5;
    group.inverse = 1.0 / (half * mapping.epsilon);
    return widest * group.inverse;
}

// d becomes A, and that what `finish` makes of it.
template <class Finish> void open(const Mapping& mapping, const Group& group, std::int64_t row, Finish finish) {
    double* const plan = group.plan + row * mapping.stride;
    const Doubles least = fill(group.least[row]), inverse = fill(group.inverse);
    for (std::int64_t k = 0; k < mapping.stride; k += kPanel)
        store(plan + k, finish((least - load(plan + k)) * inverse));
}

// w += Σ u_i G_i over a tile, which is in the first-level cache. The next one is asked for meanwhile.
template <int kRows> void add_rows(const double* plan, std::int64_t stride, const Doubles (&u)[kRows], double* w) {
    for (std::int64_t k = 0; k < stride; k += kPanel) {
        for (int r = 0; r < kRows; ++r) __builtin_prefetch(plan + (kRows + r) * stride + k);
        Doubles sum = u[0] * load(plan + k);
        for (int r = 1; r < kRows; ++r) sum = sum + u[r] * load(plan + r * stride + k);
        store(w + k, load(w + k) + sum);
    }
}

// s_i = Σ_k G_ik v_k and u_i = T/s_i of a tile.
template <int kRows> void balance_rows(const double* plan, std::int64_t stride, const double* v, Doubles (&u)[kRows]) {
    Doubles sum[kRows];
    for (int r = 0; r < kRows; ++r) sum[r] = fill(0.0);
    for (std::int64_t k = 0; k < stride; k += kPanel) {
        const Doubles scale = load(v + k);
        for (int r = 0; r < kRows; ++r) sum[r] = sum[r] + load(plan + r * stride + k) * scale;
    }
    for (int r = 0; r < kRows; ++r) u[r] = fill(kTop / total(sum[r]));
}

double* zero_sums(const Mapping& mapping, const Group& group, std::int64_t block) {
    double* const sums = group.sums + block * mapping.stride;
    std::memset(sums, 0, mapping.stride * sizeof(double));
    return sums;
}

// w: the blocks' parts, in the order of the blocks.
void add_blocks(const Mapping& mapping, const Group& group) {
    const std::int64_t stride = mapping.stride;
    for (std::int64_t k = 0; k < stride; k += kPanel) {
        Doubles w = load(group.sums + k);
        for (std::int64_t at = stride + k; at < group.blocks * stride; at += stride) w = w + load(group.sums + at);
        store(group.column + k, w);
    }
}

// Columns beyond K repeat the first one; this keeps them out of the rows' sums.
void silence(const Mapping& mapping, const Group& group, double weight) {
    for (std::int64_t k = mapping.words; k < mapping.stride; ++k) group.column[k] = weight;
}

// v = T·min w / w.
void balance_columns(const Mapping& mapping, const Group& group) {
    Doubles least = fill(INFINITY);
    for (std::int64_t k = 0; k < mapping.stride; k += kPanel) least = smaller(least, load(group.column + k));
    const Doubles top = fill(kTop * smallest(least));
    for (std::int64_t k = 0; k < mapping.stride; k += kPanel) store(group.column + k, top / load(group.column + k));
    silence(mapping, group, 0.0);
}

// code = argmax_k of `term`/w, where `term` is what the row adds to w; the lowest k among equals.
template <class Term> void choose(const Mapping& mapping, const Group& group, std::int64_t row, Term term) {
    double* const plan = group.plan + row * mapping.stride;
    Doubles most = fill(0.0);
    for (std::int64_t k = 0; k < mapping.stride; k += kPanel) {
        const Doubles q = term(k) / load(group.column + k);
        store(plan + k, q);
        most = larger(most, q);
    }
    const double best = largest(most);
    std::int64_t k = 0;
    while (plan[k] < best) ++k;
    mapping.codes[group.members.row[row]] = mapping.name[k];
}

template <class Each> void map_by_scaling(const Mapping& mapping, const Group& group, Each each) {
    const std::int64_t stride = mapping.stride;
    for (std::int64_t k = 0; k < stride; ++k) group.column[k] = kTop;
    silence(mapping, group, 0.0);
    for (std::int64_t sweep = 0; sweep < mapping.sweeps; ++sweep) {
        if (sweep > 0) balance_columns(mapping, group);
        each([&](std::int64_t block) {
            double* const w = zero_sums(mapping, group, block);
            for_tiles(group, block, [&](std::int64_t row, auto rows) {
                if (sweep == 0)
                    for (int r = 0; r < rows; ++r) open(mapping, group, row + r, [](Doubles a) { return exp_of(a); });
                const double* const plan = group.plan + row * stride;
                Doubles u[rows];
                balance_rows<rows>(plan, stride, group.column, u);
                add_rows<rows>(plan, stride, u, w);
                for (int r = 0; r < rows; ++r) group.most[row + r] = first(u[r]);
            });
        });
        add_blocks(mapping, group);
    }
    each([&](std::int64_t block) {
        for_rows(group, block, [&](std::int64_t row) {
            const Doubles u = fill(group.most[row]);
            choose(mapping, group, row, [&](std::int64_t k) { return u * load(group.plan + row * stride + k); });
        });
    });
}

// f_i = −ln Σ_k exp(A_ik + g_k).
void balance_row_log(const Mapping& mapping, const Group& group, std::int64_t row) {
    const double* const plan = group.plan + row * mapping.stride;
    Doubles most = fill(-HUGE_VAL), sum = fill(0.0);
    for (std::int64_t k = 0; k < mapping.stride; k += kPanel)
        most = larger(most, load(plan + k) + load(group.column + k));
    const Doubles peak = fill(largest(most));
    for (std::int64_t k = 0; k < mapping.stride; k += kPanel) {
        const Doubles a = load(plan + k) + load(group.column + k) - peak;
        if (largest(a) > kLost) sum = sum + exp_of(a);
    }
    group.most[row] = -first(peak + log_of(fill(total(sum))));
}

// Each column's largest A_ik + f_i, and in `sums` the exponentials relative to that, over a block.
void add_rows_log(const Mapping& mapping, const Group& group, std::int64_t block) {
    double* const sums = zero_sums(mapping, group, block);
    double* const peaks = group.peaks + block * mapping.stride;
    for (std::int64_t k = 0; k < mapping.stride; k += kPanel) {
        Doubles most = fill(-HUGE_VAL), sum = fill(0.0);
        for_rows(group, block, [&](std::int64_t row) {
            most = larger(most, load(group.plan + row * mapping.stride + k) + fill(group.most[row]));
        });
        for_rows(group, block, [&](std::int64_t row) {
            const Doubles a = load(group.plan + row * mapping.stride + k) + fill(group.most[row]) - most;
            if (largest(a) > kLost) sum = sum + exp_of(a);
        });
        store(peaks + k, most);
        store(sums + k, sum);
    }
}

// Their sum over the blocks, w, relative to the largest of all.
void add_blocks_log(const Mapping& mapping, const Group& group) {
    const std::int64_t stride = mapping.stride, end = group.blocks * stride;
    for (std::int64_t k = 0; k < stride; k += kPanel) {
        Doubles peak = load(group.peaks + k), w = fill(0.0);
        for (std::int64_t at = k; at < end; at += stride) peak = larger(peak, load(group.peaks + at));
        for (std::int64_t at = k; at < end; at += stride)
            w = w + load(group.sums + at) * exp_of(load(group.peaks + at) - peak);
        store(group.peak + k, peak);
        store(group.column + k, w);
    }
}

// g = −ln w.
void balance_columns_log(const Mapping& mapping, const Group& group) {
    for (std::int64_t k = 0; k < mapping.stride; k += kPanel)
        store(group.column + k, fill(0.0) - (load(group.peak + k) + log_of(load(group.column + k))));
    silence(mapping, group, -HUGE_VAL);
}

template <class Each> void map_by_logarithms(const Mapping& mapping, const Group& group, Each each) {
    const std::int64_t stride = mapping.stride;
    std::memset(group.column, 0, stride * sizeof(double));
    silence(mapping, group, -HUGE_VAL);
    for (std::int64_t sweep = 0; sweep < mapping.sweeps; ++sweep) {
        if (sweep > 0) balance_columns_log(mapping, group);
        each([&](std::int64_t block) {
            for_rows(group, block, [&](std::int64_t row) {
                if (sweep == 0) open(mapping, group, row, [](Doubles a) { return a; });
                balance_row_log(mapping, group, row);
            });
            add_rows_log(mapping, group, block);
        });
        add_blocks_log(mapping, group);
    }
    each([&](std::int64_t block) {
        for_rows(group, block, [&](std::int64_t row) {
            const Doubles f = fill(group.most[row]);
            choose(mapping, group, row, [&](std::int64_t k) {
                return exp_of(load(group.plan + row * stride + k) + f - load(group.peak + k));
            });
        });
    });
}

}  // namespace

std::size_t sinkhorn_bytes(const Mapping& mapping, std::int64_t rows) {
    Carver carver(nullptr);
    carve(mapping, {nullptr, rows}, carver);
    return carver.bytes();
}

void sinkhorn_group(const Mapping& mapping, Members members, void* scratch, int threads) {
    Carver carver(scratch);
    Group group = carve(mapping, members, carver);
    const auto each = [&](auto pass) {
        for_parts(group.blocks, threads_for(group.blocks, threads), 1, [&](std::int64_t block, int) { pass(block); });
    };
    each([&](std::int64_t block) {
        for_tiles(group, block, [&](std::int64_t row, auto rows) { measure<rows>(mapping, group, row); });
    });
    if (find_range(mapping, group) <= kReach)
        map_by_scaling(mapping, group, each);
    else
        map_by_logarithms(mapping, group, each);
}

}  // namespace lf::LF_INSTRUCTION_SET

#ifdef LF_ENTRIES

namespace lf {

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

#endif  // LF_ENTRIES
