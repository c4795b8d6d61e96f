// All codewords of a row with ‖x − e_k‖² + λ_k ≤ least + slack_k + leave_j, in float64.
//
// The int8 screen (screen.h) bounds the scores s_k = ½(‖x − e_k‖² + λ_k − ‖x‖²) from below, and a few float32
// scores bound the least of them by U from above: a cluster of the list has a lower bound of at most
// U + ½slack_k. A few clusters may have more slack than the others; theirs stands in the offsets of a codebook
// of their own, which says nothing of U. Float64 then decides, so that the list doesn't depend on the
// instruction set. Rows of clusters j that may be left at a greater distance are looked at once more, with it.
//
// Where arcs are there already the least is known in float64, and with it U = ½(least − ‖x‖²): such a row looks for
// the arcs that are new to it among the clusters that may have any.
#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "assignment/arcs.h"
#include "simd/instruction_set.h"
#include "search/screen.h"
#include "simd/doubles.h"
#include "simd/scratch.h"
#include "search/settle.h"

namespace lf::LF_INSTRUCTION_SET {
namespace {

// A thread's scratch. Of the candidates of a row, those of the first codebook stand before those of the second.
struct Rows {
    float* residual;      // [rows, stride]
    std::uint8_t* bytes;  // [rows, stride]
    Rounded rounded;      // [rows] each
    float* ceiling;       // [rows] U
    double* slack;        // [rows] that of the first codebook
    float* reach[2];      // [rows] by how much a score of each codebook may exceed U
    bool* seen;           // [rows] whether the screen says something of the row
    std::int64_t* found[2];  // [rows] candidates so far of each codebook
    std::int32_t* words;  // [rows, list] the candidates
    float* lower;         // [rows, list] bounds of their scores, less what their slack is more
    double* wide;         // [stride] one row in float64
    std::int32_t* name;   // [list] the candidates of one row by cluster …
    double* cost;         // [list] … and what they cost
    Tiles tiles;          // of kLanes rows
};

std::int64_t all_words(const Search& search) { return search.codebooks[0].words + search.codebooks[1].words; }

// Room for one row's candidates, and for a vector beyond. Never a multiple of 4 KB, which would share cache sets.
std::int64_t list_size(const Search& search) { return (all_words(search) + 63) / 64 * 64 + 16; }

Rows carve(const Search& search, Carver& carver) {
    const std::int64_t rows = search.block, all = rows * search.stride, list = list_size(search);
    Rows block;
    block.residual = carver.take<float>(all);
    block.bytes = carver.take<std::uint8_t>(all);
    Rounded& of = block.rounded;
    float** const numbers[] = {&of.largest,     &of.square,      &of.half,      &of.scale,   &of.error,
                               &of.inverse,     &of.along,       &of.across,    &of.float32, &of.product,
                               &block.reach[0], &block.reach[1], &block.ceiling};
    for (float** number : numbers) *number = carver.take<float>(rows);
    block.slack = carver.take<double>(rows);
    block.seen = carver.take<bool>(rows);
    for (std::int64_t*& found : block.found) found = carver.take<std::int64_t>(rows);
    block.words = carver.take<std::int32_t>(rows * list);
    block.lower = carver.take<float>(rows * list);
    block.wide = carver.take<double>(search.stride);
    block.name = carver.take<std::int32_t>(list);
    block.cost = carver.take<double>(list);
    block.tiles.carve(carver, kLanes, search.codebooks, kBooks);
    return block;
}

// Lowers U by the float32 score of the tile's most promising codeword.
inline void lower_ceiling(const Codebook& book, const Rows& block, int row, const float* residual, const Tile& tile) {
    const std::int64_t word = most_promising(tile, block.ceiling[row]);
    if (word < 0 || word >= book.words) return;
    const float upper = score32(book, residual, word) + score32_error(block.rounded, row);
    block.ceiling[row] = std::min(block.ceiling[row], upper);
}

// Candidates of a tile: those whose bound is at most `limit`.
inline std::int64_t take_candidates(const Codebook& book, const Tile& tile, float limit, std::int32_t* words,
                                    float* lower) {
    const auto most = Vector::fill(limit);
    std::int64_t found = 0;
    for (std::int64_t begin = 0; begin < tile.panels; begin += kGroup) {
        if (!lanes_below(tile, begin, limit)) continue;
        for (std::int64_t panel = begin; panel < std::min(begin + kGroup, tile.panels); ++panel) {
            const auto bound = Vector::fill(tile.bound(panel));
            for (int v = 0; v < kVectors; ++v) {
                const std::int64_t at = panel * kPanelWords + v * kLanes;
                const auto of = Vector::subtract(Vector::load(tile.scores + at), bound);
                const std::uint32_t lanes = Vector::at_most(of, most);
                Vector::pack(lower + found, lanes, of);
                found += Vector::pack(words + found, lanes, static_cast<std::int32_t>(tile.first * kPanelWords + at));
            }
        }
    }
    // Padding stands behind all words.
    while (found > 0 && words[found - 1] >= book.words) --found;
    return found;
}

// The screen of one codebook: lowers U if it is the first, unless U is known, and takes candidates. A row that it says
// nothing of takes all words.
void screen(const Search& search, std::int32_t which, bool known, const Rows& block, int rows) {
    constexpr int kRows = Vector::kRows;
    const Codebook& book = search.codebooks[which];
    const std::int64_t list = list_size(search);
    if (book.screened) round_rows(block.residual, rows, book, block.rounded, block.bytes);
    const auto last = [&](int row) { return row * list + block.found[0][row] + block.found[1][row]; };
    // The scale of scores is half of that of costs; float64's own rounding of a cost is added, and all rounded up.
    const double shift = search.codebooks[0].shift - book.shift;
    for (int row = 0; row < rows; ++row) {
        const double added = 0.5 * block.slack[row] + shift;
        const double rounding =
            static_cast<double>(search.stride) * 0x1p-48 * block.rounded.square[row] + 0x1p-20 * std::fabs(added);
        const auto most = static_cast<float>(added + rounding);
        block.reach[which][row] = known ? tested(Bound::extension, most) : tested(Bound::slack, most);
        block.seen[row] = book.screened && bound_of(book, block.rounded, row, book.panels - 1) < 0x1p100f;
        if (block.seen[row]) continue;
        std::iota(block.words + last(row), block.words + last(row) + book.words, 0);
        std::fill_n(block.lower + last(row), book.words, -FLT_MAX);
        block.found[which][row] = book.words;
    }
    if (!book.screened) return;
    const ScoreTile score = score_tile_for(book);
    const std::int64_t panels = tile_panels(book);
    for (std::int64_t first = 0; first < book.panels; first += panels)
        for (int begin = 0; begin < rows; begin += kLanes) {
            const int count = std::min(kLanes, rows - begin);
            Tile tiles[kLanes];
            for (int i = 0; i < kLanes; ++i) tiles[i] = block.tiles.of(i, first, std::min(panels, book.panels - first));
            find_bounds(book, block.rounded, begin, tiles[0]);
            for (int i = 0; i < count; i += kRows) score(book, block.bytes + (begin + i) * search.stride, tiles[i]);
            // Stage by stage: what one row waits for, the others fill.
            for (int i = 0; which == 0 && !known && i < count; ++i)
                if (const int row = begin + i; block.seen[row])
                    lower_ceiling(book, block, row, block.residual + row * search.stride, tiles[i]);
            for (int i = 0; i < count; ++i)
                if (const int row = begin + i; block.seen[row]) {
                    const float limit = block.ceiling[row] + block.reach[which][row];
                    block.found[which][row] +=
                        take_candidates(book, tiles[i], limit, block.words + last(row), block.lower + last(row));
                }
        }
}

// Writes the row's arcs, from its candidates, and how many they are. least: its score, as far as it is known.
std::int64_t settle(const Search& search, const Reach& reach, double leave, double least, const Rows& block, int row,
                    std::int32_t* clusters, double* costs) {
    widen(block.residual + row * search.stride, search.stride, block.wide);
    const std::int32_t* words = block.words + row * list_size(search);
    const float* lower = block.lower + row * list_size(search);
    std::int64_t count = 0;
    for (int which = 0; which < 2; ++which) {
        const Codebook& book = search.codebooks[which];
        const float limit = block.ceiling[row] + block.reach[which][row];
        for (std::int64_t left = block.found[which][row]; left > 0; --left, ++words, ++lower) {
            if (*lower > limit) continue;  // U was higher when it was taken
            block.name[count] = static_cast<std::int32_t>(book.name[*words]);
            block.cost[count] = distance64(block.wide, word_at(book, *words), search.stride);
            least = std::min(least, block.cost[count] + reach.price[block.name[count]]);
            ++count;
        }
    }
    // Whether one of them stays can't be guessed: it is written, and perhaps written over.
    std::int64_t kept = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int32_t cluster = block.name[i];
        const double cost = block.cost[i];
        block.name[kept] = cluster;
        block.cost[kept] = cost;
        kept += cost + reach.price[cluster] <= least + (reach.slack[cluster] + leave);
    }
    // In the order of their clusters: each to the place that as many are before.
    constexpr std::int64_t kFew = 16;
    for (std::int64_t i = kept; i < kFew; ++i) block.name[i] = std::numeric_limits<std::int32_t>::max();
    for (std::int64_t i = 0; i < kept; ++i) {
        const std::int32_t cluster = block.name[i];
        std::int32_t before = 0;
        for (std::int64_t j = 0; j < kFew; ++j) before += block.name[j] < cluster;
        for (std::int64_t j = kFew; j < kept; ++j) before += block.name[j] < cluster;
        clusters[before] = cluster;
        costs[before] = block.cost[i];
    }
    return kept;
}

// A row that has arcs.
struct Known {
    std::int64_t row;     // after the first of its list
    std::int32_t best;    // j
    double least, leave;  // its score, and how much further the row reaches
};

// Rows whose arcs are looked for: those from `first` on, or some of them, of which more is known.
struct Wanted {
    std::int64_t first, count;
    const Known* known;  // [count] or null
};

// U of a row whose least score is known, rounded up. The numbers it comes from, and the costs that are compared with
// it, err by (D + 8)·2⁻⁵² of magnitudes that add up to at most ‖x‖² + |least| + the largest offset.
float known_ceiling(const Codebook& book, const double* wide, std::int64_t stride, double least, double offset) {
    Doubles squares = fill(0.0);
    for (std::int64_t d = 0; d < stride; d += kDoubles) squares = squares + load(wide + d) * load(wide + d);
    const double square = total(squares), ceiling = 0.5 * (least - square) - book.shift;
    const double rounding = static_cast<double>(stride) * 0x1p-48 * (square + std::fabs(least) + offset);
    return static_cast<float>(ceiling + rounding + 0x1p-20 * std::fabs(ceiling));
}

void append(const Search& search, const Reach& reach, const Wanted& wanted, void* scratch, ArcList& arcs) {
    Carver carver(scratch);
    const Rows block = carve(search, carver);
    const double slack = *std::min_element(reach.slack, reach.slack + reach.clusters);
    double offset = 0.0;
    for (const Codebook* book = search.codebooks; wanted.known && book < search.codebooks + 2; ++book)
        for (std::int64_t word = 0; word < book->words; ++word)
            offset = std::max(offset, std::fabs(book->offset[word]));
    arcs.begin.reserve(wanted.count + 1);
    arcs.cluster.reserve(2 * wanted.count);
    arcs.cost.reserve(2 * wanted.count);
    const auto leave = [&](std::int64_t i) { return wanted.known ? wanted.known[i].leave : 0.0; };
    for (std::int64_t begin = 0; begin < wanted.count; begin += search.block) {
        const int rows = static_cast<int>(std::min(search.block, wanted.count - begin));
        for (int row = 0; row < rows; ++row) {
            float* residual = block.residual + row * search.stride;
            const std::int64_t i = begin + row;
            load_row<Vector>(search, wanted.first + (wanted.known ? wanted.known[i].row : i), residual);
            block.rounded.largest[row] = largest_of(residual, search.stride);
            block.rounded.square[row] = 0.0f;
            block.ceiling[row] = FLT_MAX;
            if (wanted.known) {
                widen(residual, search.stride, block.wide);
                block.ceiling[row] =
                    known_ceiling(search.codebooks[0], block.wide, search.stride, wanted.known[i].least, offset);
            }
            block.slack[row] = slack + leave(i);
            block.found[0][row] = block.found[1][row] = 0;
        }
        for (std::int32_t which = 0; which < 2; ++which) screen(search, which, wanted.known != nullptr, block, rows);
        // Room for all candidates of the block, and what they leave of it taken back.
        std::size_t at = arcs.cluster.size(), room = at;
        for (int row = 0; row < rows; ++row) room += block.found[0][row] + block.found[1][row];
        arcs.cluster.resize(room);
        arcs.cost.resize(room);
        for (int row = 0; row < rows; ++row) {
            const double least =
                wanted.known ? wanted.known[begin + row].least : std::numeric_limits<double>::infinity();
            at += settle(search, reach, leave(begin + row), least, block, row, &arcs.cluster[at], &arcs.cost[at]);
            arcs.begin.push_back(at);
        }
        arcs.cluster.resize(at);
        arcs.cost.resize(at);
    }
}

// Arcs of all rows to all clusters, where these are all in the first codebook.
void list_all(const Search& search, std::int64_t first, std::int64_t count, void* scratch, ArcList& arcs) {
    Carver carver(scratch);
    const Rows block = carve(search, carver);
    const Codebook& book = search.codebooks[0];
    arcs.cluster.resize(count * book.words);
    arcs.cost.resize(count * book.words);
    for (std::int64_t row = 0; row < count; ++row) {
        load_row<Vector>(search, first + row, block.residual);
        widen(block.residual, search.stride, block.wide);
        std::int32_t* clusters = &arcs.cluster[row * book.words];
        double* costs = &arcs.cost[row * book.words];
        for (std::int64_t word = 0; word < book.words; ++word)
            costs[book.name[word]] = distance64(block.wide, word_at(book, word), search.stride);
        std::iota(clusters, clusters + book.words, 0);
        arcs.begin.push_back((row + 1) * book.words);
    }
}

// Row i's arcs of `from`, behind those of `to`.
void copy_row(const ArcList& from, std::int64_t i, ArcList& to) {
    to.cluster.insert(to.cluster.end(), from.cluster.begin() + from.begin[i], from.cluster.begin() + from.begin[i + 1]);
    to.cost.insert(to.cost.end(), from.cost.begin() + from.begin[i], from.cost.begin() + from.begin[i + 1]);
    to.begin.push_back(to.cluster.size());
}

// Row i's arcs of `from` and row j's of `more`, each cluster once and in order, behind those of `to`.
void merge_row(const ArcList& from, std::int64_t i, const ArcList& more, std::int64_t j, ArcList& to) {
    std::size_t a = from.begin[i], b = more.begin[j];
    while (a < from.begin[i + 1] || b < more.begin[j + 1]) {
        const bool none = b == more.begin[j + 1];
        const bool first = none || (a < from.begin[i + 1] && from.cluster[a] <= more.cluster[b]);
        b += first && !none && from.cluster[a] == more.cluster[b];
        to.cluster.push_back(first ? from.cluster[a] : more.cluster[b]);
        to.cost.push_back(first ? from.cost[a++] : more.cost[b++]);
    }
    to.begin.push_back(to.cluster.size());
}

// A row's least score, and its cluster, the lowest among equals.
Known look_up(const ArcList& arcs, std::int64_t row, const Reach& reach) {
    std::size_t best = arcs.begin[row];
    const auto score = [&](std::size_t arc) { return arcs.cost[arc] + reach.price[arcs.cluster[arc]]; };
    for (std::size_t arc = best + 1; arc < arcs.begin[row + 1]; ++arc) best = score(arc) < score(best) ? arc : best;
    return {row, arcs.cluster[best], score(best), reach.leave[arcs.cluster[best]]};
}

// Lists anew the arcs of the rows `far`, and adds to those of the rows `near` what `grown` finds.
void look_again(const Search& search, const Search* grown, const Reach& reach, std::int64_t first,
                const std::vector<Known>& far, const std::vector<Known>& near, void* scratch, ArcList& arcs) {
    const auto found = [&](const Search& within, const std::vector<Known>& rows) {
        ArcList list;
        if (!rows.empty())
            append(within, reach, {first, static_cast<std::int64_t>(rows.size()), rows.data()}, scratch, list);
        return list;
    };
    const ArcList anew = found(search, far), more = grown ? found(*grown, near) : ArcList{};
    if (anew.cluster.empty() && more.cluster.empty()) return;
    ArcList before;
    std::swap(before, arcs);
    arcs.begin.reserve(before.begin.size());
    arcs.cluster.reserve(before.cluster.size() + anew.cluster.size() + more.cluster.size());
    arcs.cost.reserve(before.cluster.size() + anew.cluster.size() + more.cluster.size());
    std::size_t next_far = 0, next_near = 0;
    for (std::int64_t row = 0; row + 1 < static_cast<std::int64_t>(before.begin.size()); ++row) {
        if (next_far < far.size() && far[next_far].row == row)
            copy_row(anew, static_cast<std::int64_t>(next_far++), arcs);
        else if (grown && near[next_near].row == row)
            merge_row(before, row, more, static_cast<std::int64_t>(next_near++), arcs);
        else
            copy_row(before, row, arcs);
    }
}

}  // namespace

std::size_t arcs_scratch_bytes(const Search& search) {
    Carver carver(nullptr);
    carve(search, carver);
    return carver.bytes();
}

void collect_arcs(const Search& search, const Reach& reach, std::int64_t first, std::int64_t count, void* scratch,
                  ArcList& arcs) {
    if (*std::min_element(reach.slack, reach.slack + reach.clusters) == std::numeric_limits<double>::infinity()) {
        list_all(search, first, count, scratch, arcs);
        return;
    }
    append(search, reach, {first, count, nullptr}, scratch, arcs);
    if (std::none_of(reach.leave, reach.leave + reach.clusters, [](double leave) { return leave > 0; })) return;
    std::vector<Known> far;
    for (std::int64_t row = 0; row < count; ++row)
        if (const Known known = look_up(arcs, row, reach); known.leave > 0) far.push_back(known);
    look_again(search, nullptr, reach, first, far, {}, scratch, arcs);
}

void extend_arcs(const Search& search, const Reach& reach, const double* leave_before, std::int64_t first,
                 std::int64_t count, void* scratch, ArcList& arcs) {
    const Codebook books[kBooks] = {search.codebooks[2], {}, {}};
    const auto has_grown = [&](std::int32_t cluster) { return reach.leave[cluster] > leave_before[cluster]; };
    std::vector<Known> far, near;
    for (std::int64_t row = 0; row < count; ++row) {
        const auto begin = arcs.cluster.begin() + arcs.begin[row], end = arcs.cluster.begin() + arcs.begin[row + 1];
        if (books[0].words == 0 && std::none_of(begin, end, has_grown)) continue;
        const Known known = look_up(arcs, row, reach);
        (has_grown(known.best) ? far : near).push_back(known);
    }
    Search grown = search;
    grown.codebooks = books;
    look_again(search, books[0].words > 0 ? &grown : nullptr, reach, first, far, near, scratch, arcs);
}

}  // namespace lf::LF_INSTRUCTION_SET
