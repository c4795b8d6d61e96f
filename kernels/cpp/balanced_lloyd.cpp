// Lloyd's iterations with the cheapest assignment within size bounds (transport.h) in place of the nearest.
//
// No row × cluster table exists. Prices are found coarse to fine: on a sample of a few rows a cluster, then on
// eight times as many, at last on all. Each step collects arcs within a slack (collect.cpp), lets the prices
// climb on them, and collects anew where they would leave what the slack covers. Later iterations start from
// the prices of the one before.
//
//     for t = 1 … iterations:
//         climb: collect arcs of a sample, let prices climb; then of a finer sample; at last of all rows
//         repair along the arcs of all rows (repair.h), which ends at the optimum, or where the slack ends
//         t < last:  means of the assignment, which may have few rows misplaced; raise the prices of far-out clusters
//         t = last:  widen the slack and repair, until the repair ends at the optimum; a search of all clusters at its
//                    prices proves the dual bound
//
// Where few clusters have more slack, or few rows may reach further, the arcs are extended (collect.cpp), which takes
// about a tenth of a collection; else they are collected anew, at the prices as they are now.
//
// The last loop ends: after kPatience rounds all slack grows by kAsked each time, and a slack above all differences of
// cost lists every arc, with which the repair ends at the optimum.
//
// Constants: those with a figure were measured on the problem that is named (docs/performance/clustering.md); the
// others are of the right order, and change how long an assignment takes, never which it is.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "abi.h"
#include "assignment/arcs.h"
#include "assignment/ascent.h"
#include "assignment/repair.h"
#include "assignment/transport.h"
#include "runtime/parallel.h"
#include "search/pack.h"
#include "search/run.h"
#include "simd/dispatch.h"

namespace lf {
namespace {

struct Balanced {
    Search rows;  // x, its strides and element; no codebooks
    Layout layout;
    std::size_t (*scratch_bytes)(const Search&);
    CollectArcs collect;
    ExtendArcs extend;
    SearchKernels nearest;
    const Bounds* bounds;
    std::int64_t iterations;  // 1: only the assignment
    double tolerance;  // stop when an iteration lowers the cost by less than this part of it
    int exponent;  // cluster sums count in units of 2^−exponent
    int threads;
};

constexpr double kEverything = std::numeric_limits<double>::infinity();
// Up to this many pairs all are arcs.
constexpr std::int64_t kFewPairs = 1 << 16;
// Rows a cluster of the coarsest sample, and how much finer each next one is. Not measured by themselves.
constexpr std::int64_t kCoarse = 16, kFiner = 8;
// Times the arcs are collected for one ascent, at most: the repair reaches the optimum from anywhere. And times that
// the repair asks for more slack for a few clusters before all get some.
constexpr int kCollections = 12, kPatience = 24;
// Share of the rows that are to have more than one arc in later iterations: ten iterations from warm prices took 17
// collections with 0.5, 45 with 0.3.
constexpr double kContested = 0.5;
// The least slack, in parts of the typical one: where most rows have several equally good clusters.
constexpr double kLeast = 1.0 / 256;
// The number of standard deviations of a sample's sizes that the slack covers.
constexpr double kNoise = 2.0;
// An ascent ends with kFewPaths misplaced rows a cluster and kFewMisplaced of all rows (kRoughly of a sample), or when
// a collection leaves more than kProgress of the misplaced rows there were. Iteration t, but for the last, is content
// with kEarly / t of the rows: half the time of full assignments, inertia +0.3 % where all sizes must be equal, −0.2
// and −0.4 % for looser bounds (eight seeds). One collection an iteration, whatever is misplaced, cost 12 %.
constexpr double kFewPaths = 0.2, kFewMisplaced = 1e-4, kRoughly = 2e-3, kEarly = 0.1, kProgress = 0.9;
// One cluster in kFew may have slack of its own, and one in kFew leave: with one slack for all, rows had 30 to
// 150 arcs each where a few centroids lie far out, with these 1.1 to 3; 250,000 × 1,024 took 4.4 GB and 31.6 s, then
// 59 MB and 5.0 s.
constexpr std::int64_t kFew = 8;
// One in so many may have it in the end. Not measured by itself.
constexpr std::int64_t kSome = 4;
// Rows that tell how far clusters lie apart.
constexpr std::int64_t kScaleRows = 256;

// Some of the clusters, as arcs are searched for among them.
struct Book {
    std::vector<float> words;
    std::vector<double> offset;
    std::vector<std::int64_t> cluster, name;
    std::unique_ptr<PackedCodebook> packed;

    Codebook pack(std::int64_t width, Layout layout, bool everything) {
        packed = std::make_unique<PackedCodebook>(words.data(), offset.data(),
                                                  static_cast<std::int64_t>(cluster.size()), width, layout, Keep::all);
        Codebook view = packed->view();
        for (std::int64_t word = 0; word < view.words; ++word) name.push_back(cluster[view.name[word]]);
        view.name = name.data();
        view.screened &= !everything;
        return view;
    }
};

// The clusters at the prices λ⁰: those of the least slack, the others, and once more those with more of it than before.
class Collection {
  public:
    Collection(const Balanced& problem, const float* centroids, const Prices& prices, std::int64_t step,
               const Prices* before)
        : problem_(problem),
          prices_(prices),
          search_(problem.rows),
          reach_{problem.bounds->clusters(), prices.collected.data(), prices.slack.data(), prices.leave.data()} {
        const std::int64_t width = problem.rows.width;
        const double slack = *std::min_element(prices.slack.begin(), prices.slack.end());
        for (std::int64_t k = 0; k < problem.bounds->clusters(); ++k) {
            const bool more = prices.slack[k] > slack, grown = before && prices.slack[k] > before->slack[k];
            for (Book* book : {&books_[more], grown ? &books_[2] : nullptr}) {
                if (!book) continue;
                book->words.insert(book->words.end(), centroids + k * width, centroids + (k + 1) * width);
                // Without slack for all there is a difference, even where it is infinite.
                book->offset.push_back(more ? prices.collected[k] - (prices.slack[k] - slack) : prices.collected[k]);
                book->cluster.push_back(k);
            }
        }
        for (int book = 0; book < kBooks; ++book)
            codebooks_[book] = books_[book].pack(width, problem.layout, slack == kEverything);
        search_.codebooks = codebooks_;
        search_.levels = 1;
        search_.stride = codebooks_[0].stride;
        search_.block = 64;
        search_.rows = (problem.rows.rows + step - 1) / step;
        search_.row_stride *= step;
    }
    Collection(const Collection&) = delete;
    Collection& operator=(const Collection&) = delete;

    std::int64_t rows() const { return search_.rows; }
    void collect(Arcs& arcs) const {
        for_lists(arcs, [&](std::int64_t first, std::int64_t count, void* scratch, ArcList& list) {
            problem_.collect(search_, reach_, first, count, scratch, list);
        });
    }
    void extend(Arcs& arcs, const std::vector<double>& leave_before) const {
        for_lists(arcs, [&](std::int64_t first, std::int64_t count, void* scratch, ArcList& list) {
            problem_.extend(search_, reach_, leave_before.data(), first, count, scratch, list);
        });
    }

  private:
    template <class Work> void for_lists(Arcs& arcs, const Work& work) const {
        const int threads = threads_for(arcs.chunks(), problem_.threads);
        const Scratch scratch(threads, problem_.scratch_bytes(search_));
        for_parts(arcs.chunks(), threads, 1, [&](std::int64_t chunk, int thread) {
            const std::int64_t first = chunk * Arcs::kChunk, count = std::min(Arcs::kChunk, rows() - first);
            work(first, count, scratch.of(thread), arcs.list(chunk));
        });
    }

    const Balanced& problem_;
    const Prices& prices_;
    Book books_[kBooks];
    Codebook codebooks_[kBooks];
    Search search_;
    const Reach reach_;
};

// Arcs of every step-th row at prices `now`.
Arcs collect(const Balanced& problem, const float* centroids, Prices& prices, std::int64_t step) {
    prices.collected = prices.now;
    const Collection collection(problem, centroids, prices, step, nullptr);
    Arcs arcs(collection.rows());
    collection.collect(arcs);
    return arcs;
}

// Arcs that were collected when slack and leave were those of `before`, with those of `prices`, which are more.
void extend(const Balanced& problem, const float* centroids, const Prices& before, const Prices& prices,
            std::int64_t step, Arcs& arcs) {
    Collection(problem, centroids, prices, step, &before).extend(arcs, before.leave);
}

// The median over rows of the gap between the best cluster and the third best; where that is 0, the widest gap
// between a row's clusters. 0 if none of these rows has a choice.
double typical_slack(const Balanced& problem, const float* centroids) {
    const std::int64_t step = std::max<std::int64_t>(1, problem.rows.rows / kScaleRows), k = problem.bounds->clusters();
    Prices prices{std::vector<double>(k), {}, std::vector<double>(k, kEverything), std::vector<double>(k)};
    const Arcs arcs = collect(problem, centroids, prices, step);
    std::vector<double> gaps, costs;
    double widest = 0.0;
    for (std::int64_t i = 0; i < arcs.rows(); ++i) {
        const Arcs::Row row = arcs.row(i);
        costs.assign(row.cost, row.cost + row.count);
        const auto third = costs.begin() + std::min<std::ptrdiff_t>(2, row.count - 1);
        std::nth_element(costs.begin(), third, costs.end());
        widest = std::max(
            widest, *std::max_element(costs.begin(), costs.end()) - *std::min_element(costs.begin(), costs.end()));
        gaps.push_back(*third - *std::min_element(costs.begin(), third + 1));
    }
    std::nth_element(gaps.begin(), gaps.begin() + static_cast<std::ptrdiff_t>(gaps.size() / 2), gaps.end());
    const double typical = gaps[gaps.size() / 2];
    return typical > 0 ? typical : widest;
}

class Solver {
  public:
    explicit Solver(const Balanced& problem)
        : problem_(problem),
          few_(rows() * clusters() <= kFewPairs),
          prices_{std::vector<double>(clusters()),
                  {},
                  std::vector<double>(clusters(), kEverything),
                  std::vector<double>(clusters())} {}

    struct Solution {
        std::vector<std::int32_t> labels;
        double cost, bound;
        bool optimal;
    };

    // The cheapest assignment to these centroids, and the bound that the prices prove. Where no proof is asked for,
    // there is no bound; it stops when few rows are misplaced, and may leave some so: later iterations make up for it.
    Solution solve(const float* centroids, bool proven, std::int64_t iteration) {
        if (!few_ && !(typical_ > 0)) {
            typical_ = typical_slack(problem_, centroids);
            std::fill(prices_.slack.begin(), prices_.slack.end(), typical_ > 0 ? typical_ : 1.0);
            for (std::int64_t step = coarsest_step(); step > 1; step /= kFiner) climb(centroids, step, kRoughly, true);
        }
        Arcs arcs = climb(centroids, 1, proven ? kFewMisplaced : kEarly / static_cast<double>(iteration), proven);
        Repair repair(arcs, *problem_.bounds, prices_);
        bool optimal = repair.run();
        for (int left = kPatience; proven && !optimal; --left) {
            if (left <= 0 || !extend_for(repair.cheaper(), repair.dearer(), false, centroids, 1, arcs)) {
                prices_.now = repair.prices();
                for (double& slack : prices_.slack) slack *= left <= 0 ? kAsked : 1.0;
                arcs = Arcs(0);  // its memory first
                arcs = collect_anew(centroids, 1);
            }
            repair.renew(arcs, prices_);
            optimal = repair.run();
        }
        const double cost = lf::cost(arcs, repair.labels());
        // An unfinished repair has raised the price of what the bounds leave free: the ascent's are the better start.
        if (optimal) prices_.now = repair.prices();
        const double bound = proven || few_ ? std::min(prove(arcs, centroids), cost) : -kEverything;
        choose_slack(arcs, kContested);
        return {repair.labels(), cost, bound, optimal};
    }

    const std::vector<double>& prices() const { return prices_.now; }

    // A far-out centroid has a very negative price. Once it has moved to its rows' mean, they are nearer to it by
    // ‖e − mean‖² on average; the price rises by as much, or it would attract every row: 16,000 misplacements of 9,922
    // rows and 17 s of repair on a second level of LETTER, 2,075 and 0.1 s with this.
    void follow(const float* before, const float* after) {
        const std::int64_t width = problem_.rows.width;
        for (std::int64_t k = 0; k < clusters(); ++k) {
            double square = 0.0;
            for (std::int64_t d = k * width; d < (k + 1) * width; ++d)
                square += std::pow(static_cast<double>(after[d]) - before[d], 2);
            if (prices_.now[k] < 0) prices_.now[k] = std::min(prices_.now[k] + square, 0.0);
        }
    }

  private:
    std::int64_t rows() const { return problem_.rows.rows; }
    std::int64_t clusters() const { return problem_.bounds->clusters(); }

    std::int64_t coarsest_step() const {
        std::int64_t step = 1;
        while (rows() / (step * kFiner) >= kCoarse * clusters()) step *= kFiner;
        return step;
    }

    // Prices climb on every step-th row, until few are misplaced or it is of no use.
    Arcs climb(const float* centroids, std::int64_t step, double few, bool patient) {
        Arcs arcs = collect(problem_, centroids, prices_, step);
        if (few_) return arcs;  // the repair is quick
        double misplaced = kEverything;
        for (int left = kCollections;; --left) {
            const double first_step = kFirstStep * *std::min_element(prices_.slack.begin(), prices_.slack.end());
            const Ascent end = ascend(arcs, *problem_.bounds, rows(), first_step, prices_, problem_.threads);
            const bool enough =
                end.misplaced <= few * static_cast<double>(arcs.rows()) + kFewPaths * static_cast<double>(clusters());
            if (left == 0 || enough || (end.misplaced > kProgress * misplaced && !(patient && asks(end)))) {
                // A sample's sizes are off by one part in √(its rows a cluster).
                if (step > 1)
                    choose_slack(arcs, std::min(0.5, kNoise / std::sqrt(static_cast<double>(arcs.rows()) /
                                                                        static_cast<double>(clusters()))));
                return arcs;
            }
            misplaced = end.misplaced;
            if (!extend_for(end.cheaper, end.dearer, true, centroids, step, arcs)) arcs = collect_anew(centroids, step);
        }
    }

    // Whether some price stopped where its slack ends.
    static bool asks(const Ascent& end) {
        return std::count(end.cheaper.begin(), end.cheaper.end(), 1) +
               std::count(end.dearer.begin(), end.dearer.end(), 1);
    }

    // More slack for clusters that would grow cheaper, if they are few, and more leave for those that would grow
    // dearer, likewise; the arcs are extended to it. False, and nothing done, where it would be of no use: nobody gets
    // more, or not `all` do, or too many have more than the others (a collection's first codebook must hold most
    // clusters, for U is the least of its scores).
    bool extend_for(const std::vector<char>& cheaper, const std::vector<char>& dearer, bool all, const float* centroids,
                    std::int64_t step, Arcs& arcs) {
        const double least = *std::min_element(prices_.slack.begin(), prices_.slack.end());
        const auto number = [](const std::vector<char>& which) { return std::count(which.begin(), which.end(), 1); };
        const bool few_cheaper = number(cheaper) <= clusters() / kFew, few_dearer = number(dearer) <= clusters() / kFew;
        if (all && !(few_cheaper && few_dearer)) return false;
        Prices more = prices_;
        bool any = false;
        std::int64_t wide = 0;
        for (std::int64_t k = 0; k < clusters(); ++k) {
            if (cheaper[k] && few_cheaper) more.slack[k] *= kAsked;
            if (dearer[k] && few_dearer) more.leave[k] = std::max(kAsked * more.leave[k], (kAsked - 1) * least);
            any |= (cheaper[k] && few_cheaper) || (dearer[k] && few_dearer);
            wide += more.slack[k] > least;
        }
        if (!any || wide > clusters() / kSome) return false;
        std::swap(prices_, more);
        extend(problem_, centroids, more, prices_, step, arcs);
        return true;
    }

    // At prices that have come this far nobody needs more slack than the others.
    Arcs collect_anew(const float* centroids, std::int64_t step) {
        prices_.slack.assign(clusters(), *std::min_element(prices_.slack.begin(), prices_.slack.end()));
        prices_.leave.assign(clusters(), 0.0);
        return collect(problem_, centroids, prices_, step);
    }

    // g at the prices as they are. It doesn't rest on the arcs, unless these are all there are: a list that lacks one
    // would hide that a row's best cluster is another.
    double prove(const Arcs& arcs, const float* centroids) const {
        if (few_) return dual(arcs, *problem_.bounds, prices_.now);
        constexpr std::int64_t kAtOnce = 256 * Arcs::kChunk;
        std::vector<double> least(std::min(kAtOnce, rows()));
        std::vector<std::int64_t> codes(least.size());
        const std::int64_t words = clusters();
        SearchRequest request{};
        request.x = problem_.rows;
        request.codebooks = centroids;
        request.offset = prices_.now.data();
        request.sizes = &words;
        request.levels = request.beam = 1;
        request.codes = codes.data();
        request.scores = least.data();
        request.threads = problem_.threads;
        double total = 0.0;
        for (std::int64_t first = 0; first < rows(); first += kAtOnce) {
            request.x.x = static_cast<const float*>(problem_.rows.x) + first * problem_.rows.row_stride;
            request.x.rows = std::min(kAtOnce, rows() - first);
            run_search(request, problem_.nearest);
            for (std::int64_t i = 0; i < request.x.rows; i += Arcs::kChunk) {  // sums of sums: a small rounding
                const auto begin = least.begin() + i, end = begin + std::min(Arcs::kChunk, request.x.rows - i);
                total += std::accumulate(begin, end, 0.0);
            }
        }
        return dual(total, *problem_.bounds, prices_.now);
    }

    // The slack that gives `share` of the rows more than one arc. Never none: without slack no price can rise.
    void choose_slack(const Arcs& arcs, double share) {
        if (few_) return;
        const double least = *std::min_element(prices_.slack.begin(), prices_.slack.end());
        const double slack = std::max(std::min(margin(arcs, prices_.now, share), 1.5 * least), kLeast * typical_);
        std::fill(prices_.slack.begin(), prices_.slack.end(), slack);
        std::fill(prices_.leave.begin(), prices_.leave.end(), 0.0);
    }

    const Balanced& problem_;
    const bool few_;  // all pairs are arcs
    double typical_ = 0.0;  // slack; 0 until some row has a choice
    Prices prices_;  // later iterations start with those of the one before
};

// Cluster sums in fixed point: integers add up to the same in any order (cluster_sums.cpp).
class Means {
  public:
    explicit Means(const Balanced& problem)
        : problem_(problem),
          unit_(std::ldexp(1.0, problem.exponent)),
          sums_(problem.bounds->clusters() * problem.rows.width),
          sizes_(problem.bounds->clusters()) {}

    // Adds the rows whose label has changed to their new cluster, and takes them from the old one.
    void update(const std::vector<std::int32_t>& labels) {
        for (std::size_t i = 0; i < labels.size(); ++i) {
            if (!before_.empty() && before_[i] == labels[i]) continue;
            add(static_cast<std::int64_t>(i), labels[i], 1);
            if (!before_.empty()) add(static_cast<std::int64_t>(i), before_[i], -1);
        }
        before_ = labels;
    }

    // An empty cluster keeps its centroid.
    void write(float* centroids) const {
        const std::int64_t width = problem_.rows.width;
        for (std::size_t k = 0; k < sizes_.size(); ++k)
            for (std::int64_t d = 0; sizes_[k] > 0 && d < width; ++d)
                centroids[k * width + d] = static_cast<float>(static_cast<double>(sums_[k * width + d]) / unit_ /
                                                              static_cast<double>(sizes_[k]));
    }

  private:
    void add(std::int64_t row, std::int32_t cluster, std::int64_t sign) {
        const Search& x = problem_.rows;
        const float* from = static_cast<const float*>(x.x) + row * x.row_stride;
        std::int64_t* to = &sums_[cluster * x.width];
        for (std::int64_t d = 0; d < x.width; ++d) {
            // Adding 1.5·2⁵² rounds to an integer, ties to even.
            const double scaled = static_cast<double>(from[d * x.column_stride]) * unit_;
            to[d] += sign * static_cast<std::int64_t>((scaled + 0x1.8p52) - 0x1.8p52);
        }
        sizes_[cluster] += sign;
    }

    const Balanced& problem_;
    const double unit_;
    std::vector<std::int64_t> sums_, sizes_;
    std::vector<std::int32_t> before_;
};

// centroids [K, width] in and out; of the last assignment labels [rows], prices [K], cost and bound.
void lloyd(const Balanced& problem, float* centroids, std::int64_t* labels, double* prices, double* cost,
           double* bound) {
    Solver solver(problem);
    Means means(problem);
    Solver::Solution before{{}, kEverything, 0.0, false};
    for (std::int64_t iteration = 1;; ++iteration) {
        const bool last = iteration >= problem.iterations;
        Solver::Solution found = solver.solve(centroids, last, iteration);
        const bool settled =
            before.optimal && found.optimal && before.cost - found.cost <= problem.tolerance * found.cost;
        if (last || settled) {
            if (found.bound == -kEverything) found = solver.solve(centroids, true, iteration);
            std::copy(found.labels.begin(), found.labels.end(), labels);
            std::copy(solver.prices().begin(), solver.prices().end(), prices);
            *cost = found.cost;
            *bound = found.bound;
            return;
        }
        const std::vector<float> earlier(centroids, centroids + problem.bounds->clusters() * problem.rows.width);
        means.update(found.labels);
        means.write(centroids);
        solver.follow(earlier.data(), centroids);
        before = std::move(found);
    }
}

}  // namespace

LF_REQUEST(BalancedRequest, {
    Problems x;
    std::int64_t clusters;
    const std::int64_t* low;  // [clusters]
    const std::int64_t* high;  // [clusters]
    std::int64_t iterations;
    double tolerance;
    float* centroids;  // [problems, clusters, width] in and out
    std::int64_t* labels;  // [problems, rows]
    double* prices;  // [problems, clusters]
    double* cost;  // [problems]
    double* bound;  // [problems]
    std::int32_t exponent, threads, instruction_set;
});

namespace {

void balanced_lloyd(const BalancedRequest& request) {
    const auto set = static_cast<Set>(request.instruction_set);
    Bounds bounds;
    bounds.low.assign(request.low, request.low + request.clusters);
    bounds.high.assign(request.high, request.high + request.clusters);
    const bool side_by_side = request.x.problems >= request.threads;
    Balanced problem{};
    problem.rows.element = Element::float32;
    problem.rows.rows = request.x.rows;
    problem.rows.width = request.x.width;
    problem.rows.row_stride = request.x.row_stride;
    problem.rows.column_stride = request.x.column_stride;
    problem.layout = LF_PICK(set, kLayout);
    problem.scratch_bytes = LF_PICK(set, arcs_scratch_bytes);
    problem.collect = LF_PICK(set, collect_arcs);
    problem.extend = LF_PICK(set, extend_arcs);
    problem.nearest = {problem.layout, LF_PICK(set, scratch_bytes), LF_PICK(set, search_block)};
    problem.bounds = &bounds;
    problem.iterations = request.iterations;
    problem.tolerance = request.tolerance;
    problem.exponent = request.exponent;
    problem.threads = side_by_side ? 1 : request.threads;
    for_parts(request.x.problems, side_by_side ? request.threads : 1, 1, [&](std::int64_t i, int) {
        Balanced mine = problem;
        mine.rows.x = request.x.x + i * request.x.problem_stride;
        lloyd(mine, request.centroids + i * request.clusters * request.x.width, request.labels + i * request.x.rows,
              request.prices + i * request.clusters, request.cost + i, request.bound + i);
    });
}

}  // namespace
}  // namespace lf

LF_ENTRY(balanced_lloyd, BalancedRequest)
