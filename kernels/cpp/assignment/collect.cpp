// All codewords of a row with ‖x − e_k‖² + λ_k ≤ least + slack_k + leave_j, in float64.
//
// The int8 screen (screen.h) bounds the scores s_k = ½(‖x − e_k‖² + λ_k − ‖x‖²) from below, and a few float32
// scores bound the least of them by U from above: whoever belongs to the list has a lower bound of at most
// U + ½slack_k. A few clusters may have more slack than the others; theirs stands in the offsets of a codebook
// of their own, which says nothing of U. Float64 then decides, so that the list doesn't depend on the
// instruction set. Rows of clusters j that may be left at a greater distance are looked at once more, with it.
#include <algorithm>
#include <limits>
#include <utility>

#include "assignment/arcs.h"
#include "simd/instruction_set.h"
#include "search/screen.h"
#include "simd/scratch.h"
#include "search/settle.h"

namespace lf::LF_INSTRUCTION_SET {
namespace {

struct Candidate {
    std::int32_t word;
    std::int32_t book;
    float lower;  // bound of its score, less what its slack is more
};

struct Rows {
    float* residual;       // [rows, stride]
    std::uint8_t* bytes;   // [rows, stride]
    Rounded rounded;       // [rows] each
    float* ceiling;        // [rows] U
    double* slack;         // [rows] that of the first codebook
    std::int64_t* found;   // [rows] candidates so far
    Candidate* candidate;  // [rows, words]
    float* scores;         // [kRows, kTileScores]
    float* lower;          // [kRows, kTilePanels, kLanes]
    float* lowest;         // [kRows, kLanes]
    float* bounds;         // [kRows, kTileBounds]
};

std::int64_t all_words(const Search& search) { return search.codebooks[0].words + search.codebooks[1].words; }

Rows carve(const Search& search, Carver& carver) {
    const std::int64_t rows = search.block, all = rows * search.stride;
    Rows block;
    block.residual = carver.take<float>(all);
    block.bytes = carver.take<std::uint8_t>(all);
    Rounded& of = block.rounded;
    float** const numbers[] = {&of.largest, &of.square, &of.half,    &of.scale,   &of.error,     &of.inverse,
                               &of.along,   &of.across, &of.float32, &of.product, &block.ceiling};
    for (float** number : numbers) *number = carver.take<float>(rows);
    block.slack = carver.take<double>(rows);
    block.found = carver.take<std::int64_t>(rows);
    block.candidate = carver.take<Candidate>(rows * all_words(search));
    block.scores = carver.take<float>(Vector::kRows * kTileScores);
    block.lower = carver.take<float>(Vector::kRows * kTilePanels * kLanes);
    block.lowest = carver.take<float>(Vector::kRows * kLanes);
    block.bounds = carver.take<float>(Vector::kRows * kTileBounds);
    return block;
}

// Lowers U by the float32 score of the tile's most promising codeword.
void lower_ceiling(const Codebook& book, Rows& block, int row, const float* residual, const Tile& tile) {
    const std::int64_t word = most_promising(tile, block.ceiling[row]);
    if (word < 0 || word >= book.words) return;
    const float upper = score32(book, residual, word) + score32_error(block.rounded, row);
    if (upper < block.ceiling[row]) block.ceiling[row] = upper;
}

void take_candidates(const Search& search, std::int32_t which, Rows& block, int row, const Tile& tile, float limit) {
    const Codebook& book = search.codebooks[which];
    Candidate* to = block.candidate + row * all_words(search);
    std::int64_t found = block.found[row];
    for (std::int64_t begin = 0; begin < tile.panels; begin += kGroup)
        for (std::uint64_t hits = lanes_below(tile, begin, limit); hits; hits &= hits - 1) {
            const int bit = __builtin_ctzll(hits);
            const std::int64_t panel = begin + bit / kLanes, at = panel * kPanelWords + bit % kLanes;
            for (int v = 0; v < kVectors; ++v) {
                const std::int64_t word = tile.first * kPanelWords + at + v * kLanes;
                const float lower = tile.scores[at + v * kLanes] - tile.bounds[panel];
                if (lower <= limit && word < book.words) to[found++] = {static_cast<std::int32_t>(word), which, lower};
            }
        }
    block.found[row] = found;
}

// Whether the screen says something of this row.
bool sees(const Codebook& book, const Rows& block, int row) {
    return book.screened && bound_of(book, block.rounded, row, book.panels - 1) < 0x1p100f;
}

// U + ½slack on the scale of a codebook's scores, rounded up; float64's own rounding of a cost is added.
float limit_of(const Search& search, std::int32_t which, const Rows& block, int row) {
    const double added = 0.5 * block.slack[row] + (search.codebooks[0].shift - search.codebooks[which].shift);
    const double rounding =
        static_cast<double>(search.stride) * 0x1p-48 * block.rounded.square[row] + 0x1p-20 * std::fabs(added);
    return block.ceiling[row] + static_cast<float>(added + rounding);
}

// The screen of one codebook: lowers U if it is the first, and takes candidates. A row that it says nothing of
// takes all words.
void screen(const Search& search, std::int32_t which, Rows& block, int rows) {
    constexpr int kRows = Vector::kRows;
    const Codebook& book = search.codebooks[which];
    if (book.screened) round_rows(block.residual, rows, book, block.rounded, block.bytes);
    for (int row = 0; row < rows; ++row) {
        if (sees(book, block, row)) continue;
        Candidate* to = block.candidate + row * all_words(search) + block.found[row];
        for (std::int64_t word = 0; word < book.words; ++word)
            to[word] = {static_cast<std::int32_t>(word), which, -FLT_MAX};
        block.found[row] += book.words;
    }
    if (!book.screened) return;
    const ScoreTile score = score_tile_for(book);
    const std::int64_t panels = tile_panels(book);
    for (std::int64_t first = 0; first < book.panels; first += panels)
        for (int begin = 0; begin < rows; begin += kRows) {
            Tile tiles[kRows];
            for (int i = 0; i < kRows; ++i) {
                tiles[i] = {first,
                            first + panels < book.panels ? panels : book.panels - first,
                            block.scores + i * kTileScores,
                            block.lower + i * kTilePanels * kLanes,
                            block.lowest + i * kLanes,
                            block.bounds + i * kTileBounds};
                find_bounds(book, block.rounded, begin + i, tiles[i]);
            }
            score(book, first, tiles[0].panels, block.bytes + begin * search.stride, block.rounded.inverse + begin,
                  tiles[0].bounds, tiles[0].scores, tiles[0].lower, tiles[0].lowest);
            for (int i = 0; i < kRows && begin + i < rows; ++i) {
                const int row = begin + i;
                if (!sees(book, block, row)) continue;
                if (which == 0) lower_ceiling(book, block, row, block.residual + row * search.stride, tiles[i]);
                take_candidates(search, which, block, row, tiles[i], limit_of(search, which, block, row));
            }
        }
}

struct Kept {
    std::int64_t name;
    double cost;
};

// The row's list, from its candidates.
void settle(const Search& search, const Reach& reach, double leave, const Rows& block, int row, ArcList& arcs,
            std::vector<Kept>& kept) {
    const float* residual = block.residual + row * search.stride;
    const float limits[2] = {limit_of(search, 0, block, row), limit_of(search, 1, block, row)};
    double least = std::numeric_limits<double>::infinity();
    kept.clear();
    for (std::int64_t i = 0; i < block.found[row]; ++i) {
        const Candidate candidate = block.candidate[row * all_words(search) + i];
        if (candidate.lower > limits[candidate.book]) continue;
        const Codebook& book = search.codebooks[candidate.book];
        const double cost = distance64(residual, word_at(book, candidate.word), search.stride);
        kept.push_back({book.name[candidate.word], cost});
        least = std::min(least, cost + reach.price[kept.back().name]);
    }
    std::sort(kept.begin(), kept.end(), [](const Kept& a, const Kept& b) { return a.name < b.name; });
    for (const Kept& arc : kept) {
        if (!(arc.cost + reach.price[arc.name] <= least + (reach.slack[arc.name] + leave))) continue;
        arcs.cluster.push_back(static_cast<std::int32_t>(arc.name));
        arcs.cost.push_back(arc.cost);
    }
    arcs.begin.push_back(arcs.cluster.size());
}

// Rows whose arcs are looked for: those from `first` on, or some of them, which reach further.
struct Wanted {
    std::int64_t first, count;
    const std::pair<std::int64_t, double>* further;  // [count] row after the first, leave; or null
};

void append(const Search& search, const Reach& reach, const Wanted& wanted, void* scratch, ArcList& arcs) {
    Carver carver(scratch);
    Rows block = carve(search, carver);
    const double slack = reach.slack[search.codebooks[0].name[0]];
    std::vector<Kept> kept;
    arcs.begin.reserve(wanted.count + 1);
    arcs.cluster.reserve(2 * wanted.count);
    arcs.cost.reserve(2 * wanted.count);
    const auto leave = [&](std::int64_t i) { return wanted.further ? wanted.further[i].second : 0.0; };
    for (std::int64_t begin = 0; begin < wanted.count; begin += search.block) {
        const int rows = static_cast<int>(std::min(search.block, wanted.count - begin));
        for (int row = 0; row < rows; ++row) {
            float* residual = block.residual + row * search.stride;
            const std::int64_t i = begin + row;
            load_row<Vector>(search, wanted.first + (wanted.further ? wanted.further[i].first : i), residual);
            block.rounded.largest[row] = largest_of(residual, search.stride);
            block.rounded.square[row] = 0.0f;
            block.ceiling[row] = FLT_MAX;
            block.slack[row] = slack + leave(i);
            block.found[row] = 0;
        }
        for (std::int32_t which = 0; which < 2; ++which) screen(search, which, block, rows);
        for (int row = 0; row < rows; ++row) settle(search, reach, leave(begin + row), block, row, arcs, kept);
    }
}

// Row i's arcs of `from`, behind those of `to`.
void copy_row(const ArcList& from, std::int64_t i, ArcList& to) {
    to.cluster.insert(to.cluster.end(), from.cluster.begin() + from.begin[i], from.cluster.begin() + from.begin[i + 1]);
    to.cost.insert(to.cost.end(), from.cost.begin() + from.begin[i], from.cost.begin() + from.begin[i + 1]);
    to.begin.push_back(to.cluster.size());
}

// The cluster of a row's least score, the lowest among equals.
std::int32_t best_of(const ArcList& arcs, std::int64_t row, const double* price) {
    std::size_t best = arcs.begin[row];
    const auto score = [&](std::size_t arc) { return arcs.cost[arc] + price[arcs.cluster[arc]]; };
    for (std::size_t arc = best + 1; arc < arcs.begin[row + 1]; ++arc) best = score(arc) < score(best) ? arc : best;
    return arcs.cluster[best];
}

}  // namespace

std::size_t arcs_scratch_bytes(const Search& search) {
    Carver carver(nullptr);
    carve(search, carver);
    return carver.bytes();
}

void collect_arcs(const Search& search, const Reach& reach, std::int64_t first, std::int64_t count, void* scratch,
                  ArcList& arcs) {
    append(search, reach, {first, count, nullptr}, scratch, arcs);
    std::vector<std::pair<std::int64_t, double>> further;
    for (std::int64_t row = 0; row < count; ++row)
        if (const double leave = reach.leave[best_of(arcs, row, reach.price)]; leave > 0)
            further.emplace_back(row, leave);
    if (further.empty()) return;
    ArcList near, far;
    std::swap(near, arcs);
    append(search, reach, {first, static_cast<std::int64_t>(further.size()), further.data()}, scratch, far);
    arcs.begin.reserve(near.begin.size());
    arcs.cluster.reserve(near.cluster.size() + far.cluster.size());
    arcs.cost.reserve(near.cost.size() + far.cost.size());
    std::size_t next = 0;
    for (std::int64_t row = 0; row < count; ++row) {
        const bool is_far = next < further.size() && further[next].first == row;
        copy_row(is_far ? far : near, is_far ? static_cast<std::int64_t>(next) : row, arcs);
        next += is_far;
    }
}

}  // namespace lf::LF_INSTRUCTION_SET
