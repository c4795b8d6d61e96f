// The uniform mapping of one group of n rows onto K codewords:
//
//     A_ik = (min_k d_ik − d_ik) / (h·ε)      d_ik = ‖x_i − e_k‖², h = half the range of all d, plus 1e-5
//     `sweeps` times   f_i = −ln Σ_k exp(A_ik + g_k),   then   g_k = −ln Σ_i exp(A_ik + f_i)      g⁰ = 0
//     code_i = argmax_k A_ik + g_k
//
// The public code divides Q = exp(−d/(h·ε)) itself by its sums, rows before columns; what all k of a row share (min d,
// the middle of the range) and what everybody shares (1/n, 1/K) change no code and are left out.
//
// Scaling form. With G = exp(A), u = exp f and v = exp g a sweep is products and sums only, one pass over G: take
// s_i = Σ_k G_ik v_k, u_i = 1/s_i, add u_i G_ik to w_k; then v_k = 1/w_k. Let R be the largest range of a row of A; it
// is at most 2/ε. G lies in [e⁻ᴿ, 1], with a 1 in every row. Whatever u > 0 is, two sums w_j and w_k differ by at most
// a factor eᴿ, because their terms do, one by one. Hence, with v scaled to a largest element of T = 2⁴⁸⁰:
//
//     v in [T e⁻ᴿ, T]    s in [T e⁻ᴿ, T K]    u = T/s in [1/K, eᴿ]    u G in [e⁻ᴿ/K, eᴿ]    w in [n e⁻ᴿ/K, n eᴿ]
//
// For R ≤ 680 and any n, K < 2⁴⁰ all of these are normal numbers: nothing overflows, nothing is divided by 0, and
// every sum of its positive terms is right to about (its length)·2⁻⁵³ of itself. Only a term G_ik v_k of s_i may
// underflow, and is then below 2⁻⁵³⁰ of s_i. For that v is T, not 1, at its largest: the bits don't depend on what the
// processor does with subnormal numbers, and hardly any occur, which some processors are slow with.
//
// Log form, for groups of larger R (ε < 0.0029 and rows that span the range). From the first g on it looks at
// Q = exp(A + f + g), its rows and its columns made to sum to 1 in turn. No sum can vanish then: rows divided by sums of
// at most K leave at least 1/K of a column's 1, and columns divided by sums of at most n at least 1/n of a row's. So a
// sweep takes one exponential an element, without looking for largest terms, and takes the logarithms of the sums off
// f and g. Only the first g, before which nothing is known of Q, comes from sums relative to largest terms.
//
// An error of the potentials doesn't grow from sweep to sweep: if all g change by at most δ, so do all f, and back.
//
// A pass treats blocks of kBlockRows rows, each with sums of its own, which are added in the order of the blocks: it
// doesn't matter which threads do them. Scratch: n·K float64, and 2·K for each block.
#include "sinkhorn_codes.h"

#include <type_traits>

#include "dispatch.h"
#include "doubles.h"
#include "scratch.h"

namespace lf::LF_INSTRUCTION_SET {
namespace {

constexpr std::int64_t kBlockRows = 32;
constexpr int kTileRows = 4;  // rows that share the loads of v and w

constexpr double kReach = 680.0, kTop = 0x1p480;

struct Group {
    Members members;
    std::int64_t blocks;
    double* plan;    // [n, stride] d, then G or A
    double* least;   // [n] of the row's d
    double* most;    // [n] of the row's d; log form: then f
    double* column;  // [stride] v or g
    double* sums;    // [blocks, stride] a block's part of w, or of a column's largest term
    double* row;     // [blocks, stride] log form: the row of Q at hand

    double inverse;  // 1/(h·ε)
    double tie;      // values of ln Q that differ by less are equal
};

Group carve(const Mapping& mapping, Members members, Carver& carver) {
    Group group{};
    group.members = members;
    group.blocks = (members.count + kBlockRows - 1) / kBlockRows;
    group.plan = carver.take<double>(members.count * mapping.stride);
    group.least = carver.take<double>(members.count);
    group.most = carver.take<double>(members.count);
    group.column = carver.take<double>(mapping.stride);
    group.sums = carver.take<double>(group.blocks * mapping.stride);
    group.row = carver.take<double>(group.blocks * mapping.stride);
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
    group.tie = 0x1p-42 * (1.0 + highest * group.inverse);
    return widest * group.inverse;
}

// d becomes A, and that what `finish` makes of it; `nothing` in columns beyond K.
template <class Finish> void open(const Mapping& mapping, const Group& group, std::int64_t row, double nothing, Finish finish) {
    double* const plan = group.plan + row * mapping.stride;
    const Doubles least = fill(group.least[row]), inverse = fill(group.inverse);
    for (std::int64_t k = 0; k < mapping.stride; k += kPanel) store(plan + k, finish((least - load(plan + k)) * inverse));
    for (std::int64_t k = mapping.words; k < mapping.stride; ++k) plan[k] = nothing;
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

constexpr auto kAdd = [](Doubles a, Doubles b) { return a + b; };
constexpr auto kLarger = [](Doubles a, Doubles b) { return larger(a, b); };

// The blocks' parts of a column's sums (or largest terms), in the order of the blocks.
template <class Combine> Doubles gather(const Mapping& mapping, const Group& group, std::int64_t k, Combine combine) {
    Doubles sum = load(group.sums + k);
    for (std::int64_t block = 1; block < group.blocks; ++block)
        sum = combine(sum, load(group.sums + block * mapping.stride + k));
    return sum;
}

// v = T·min w / w. Columns beyond K have w = 0, and get v = 0.
void balance_columns(const Mapping& mapping, const Group& group) {
    Doubles least = fill(INFINITY);
    for (std::int64_t k = 0; k < mapping.stride; k += kPanel) {
        const Doubles w = infinite_for_zero(gather(mapping, group, k, kAdd));
        store(group.column + k, w);
        least = smaller(least, w);
    }
    const Doubles top = fill(kTop * smallest(least));
    for (std::int64_t k = 0; k < mapping.stride; k += kPanel) store(group.column + k, top / load(group.column + k));
}

// The row's Q = exp(A + f + g), divided by its sum, onto w; f accordingly. The first time f and g are 0, and the row
// sums to 1 or more, as A has a 0.
void balance_row_log(const Mapping& mapping, const Group& group, std::int64_t row, double* q, double* w) {
    const double* const plan = group.plan + row * mapping.stride;
    const Doubles f = fill(group.most[row]);
    Doubles sum = fill(0.0);
    for (std::int64_t k = 0; k < mapping.stride; k += kPanel) {
        const Doubles here = exp_of(load(plan + k) + load(group.column + k) + f);
        store(q + k, here);
        sum = sum + here;
    }
    sum = fill(total(sum));
    add_rows<1>(q, mapping.stride, {fill(1.0) / sum}, w);
    group.most[row] = smallest(f - log_of(sum));
}

// argmax_k of `value`, the lowest k among those of at least `enough(largest)`.
template <class Value, class Enough>
void choose(const Mapping& mapping, const Group& group, std::int64_t row, Value value, Enough enough) {
    double* const plan = group.plan + row * mapping.stride;
    Doubles most = fill(-INFINITY);
    for (std::int64_t k = 0; k < mapping.stride; k += kPanel) {
        const Doubles here = value(load(plan + k), load(group.column + k));
        store(plan + k, here);
        most = larger(most, here);
    }
    const double least = enough(largest(most));
    std::int64_t k = 0;
    while (plan[k] < least) ++k;
    mapping.codes[group.members.row[row]] = mapping.name[k];
}

double* filled_sums(const Mapping& mapping, const Group& group, std::int64_t block, double value) {
    double* const sums = group.sums + block * mapping.stride;
    for (std::int64_t k = 0; k < mapping.stride; k += kPanel) store(sums + k, fill(value));
    return sums;
}

template <class Each> void map_by_scaling(const Mapping& mapping, const Group& group, Each each) {
    const std::int64_t stride = mapping.stride;
    for (std::int64_t k = 0; k < stride; ++k) group.column[k] = k < mapping.words ? kTop : 0.0;
    for (std::int64_t sweep = 0; sweep < mapping.sweeps; ++sweep) {
        each([&](std::int64_t block) {
            double* const w = filled_sums(mapping, group, block, 0.0);
            for_tiles(group, block, [&](std::int64_t row, auto rows) {
                if (sweep == 0)
                    for (int r = 0; r < rows; ++r) open(mapping, group, row + r, 0.0, [](Doubles a) { return exp_of(a); });
                const double* const plan = group.plan + row * stride;
                Doubles u[rows];
                balance_rows<rows>(plan, stride, group.column, u);
                add_rows<rows>(plan, stride, u, w);
            });
        });
        balance_columns(mapping, group);
    }
    each([&](std::int64_t block) {
        for_rows(group, block, [&](std::int64_t row) {
            choose(
                mapping, group, row, [](Doubles g, Doubles v) { return g * v; },
                [&](double most) { return most * (1.0 - group.tie); });
        });
    });
}

template <class Each> void map_by_logarithms(const Mapping& mapping, const Group& group, Each each) {
    const std::int64_t stride = mapping.stride;
    double* const g = group.column;
    std::memset(g, 0, stride * sizeof(double));
    std::memset(group.most, 0, group.members.count * sizeof(double));
    const auto sweep_rows = [&](std::int64_t block) {
        double* const w = filled_sums(mapping, group, block, 0.0);
        double* const q = group.row + block * stride;
        for_rows(group, block, [&](std::int64_t row) { balance_row_log(mapping, group, row, q, w); });
    };
    const auto take_off_sums = [&](double sign) {
        for (std::int64_t k = 0; k < stride; k += kPanel)
            store(g + k, fill(sign) * load(g + k) - log_of(gather(mapping, group, k, kAdd)));
        for (std::int64_t k = mapping.words; k < stride; ++k) g[k] = 0.0;  // exp(−∞ + 0) = 0
    };
    // The first f; then each column's largest term, and its sum relative to that.
    each([&](std::int64_t block) {
        for_rows(group, block, [&](std::int64_t row) {
            open(mapping, group, row, -INFINITY, [](Doubles a) { return a; });
        });
        sweep_rows(block);
        double* const most = filled_sums(mapping, group, block, -INFINITY);
        for_rows(group, block, [&](std::int64_t row) {
            const Doubles f = fill(group.most[row]);
            for (std::int64_t k = 0; k < stride; k += kPanel)
                store(most + k, larger(load(most + k), load(group.plan + row * stride + k) + f));
        });
    });
    for (std::int64_t k = 0; k < stride; k += kPanel) store(g + k, gather(mapping, group, k, kLarger));
    for (std::int64_t k = mapping.words; k < stride; ++k) g[k] = 0.0;
    each([&](std::int64_t block) {
        double* const w = filled_sums(mapping, group, block, 0.0);
        for_rows(group, block, [&](std::int64_t row) {
            const Doubles f = fill(group.most[row]);
            for (std::int64_t k = 0; k < stride; k += kPanel) {
                const Doubles a = load(group.plan + row * stride + k) + f;
                store(w + k, load(w + k) + exp_of(a - load(g + k)));
            }
        });
    });
    take_off_sums(-1.0);
    for (std::int64_t sweep = 1; sweep < mapping.sweeps; ++sweep) {
        each(sweep_rows);
        take_off_sums(1.0);
    }
    each([&](std::int64_t block) {
        for_rows(group, block, [&](std::int64_t row) {
            choose(
                mapping, group, row, [](Doubles a, Doubles potential) { return a + potential; },
                [&](double most) { return most - group.tie; });
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
        if (threads == 1 || group.blocks == 1) {
            for (std::int64_t block = 0; block < group.blocks; ++block) pass(block);
            return;
        }
#pragma omp parallel for num_threads(threads) schedule(static)
        for (std::int64_t block = 0; block < group.blocks; ++block) {
            const DefaultArithmetic arithmetic;
            pass(block);
        }
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
