// Residual search that keeps `beam` partial paths: at each level those of least ‖r_p − e_k‖² over all kept
// paths p and codewords k, compared as real numbers, equal ones by lowest codes.
//
// The paths of a block of rows are the rows of the same screen as the greedy search's. Distances of different paths
// compare as ‖r_p‖² + 2 s_pk; with τ an upper bound of the beam-th least of them, candidates are what could lie at
// or below τ. Candidates are scored in float32, which lowers τ. That leaves as many as are kept, in nearly every row,
// and their order means nothing; where it leaves more, these are settled.
#include "abi.h"
#include "search/candidates.h"
#include "search/run.h"
#include "search/screen.h"
#include "search/settle.h"
#include "simd/instruction_set.h"
#include "simd/scratch.h"

namespace lf {

LF_KERNEL(std::size_t beam_scratch_bytes(const Search&))
LF_KERNEL(void beam_block(const Search&, std::int64_t first, void* scratch))

}  // namespace lf

namespace lf::LF_INSTRUCTION_SET {
namespace {

struct Pair {
    std::int32_t path, word;
    double distance;  // ‖r − e‖² in float64, where it was needed
};

struct Paths {
    float* residual;      // [paths, stride]
    std::int64_t* codes;  // [paths, levels]
    float* largest;       // [paths] of the residual's magnitudes
};

// A row's paths and candidates: which of the block's.
struct Row {
    int first, paths;
    std::int64_t begin, found;
    std::int64_t bounds;  // where the bounds of its candidates' distances begin: at a whole vector
    bool blind;           // the screen says nothing of it
};

struct Beams {
    Paths now, next;
    std::uint8_t* bytes;    // [paths, stride]
    Rounded rounded;        // [paths] each; largest is that of `now`
    float* error;           // [paths] of a path's distances, as float32 has them
    float* ceiling;         // [paths] U of its scores
    std::int32_t* owner;    // [paths] the row
    Row* rows;              // [rows]
    float* tau;             // [rows] no distance that is kept is above
    float* width;           // [levels] how far τ was above the least, last time: where to look for it
    float* narrow;          // [levels] the same of the float32 distances
    Tiles tiles;            // of all paths
    Candidate* candidates;  // [most]
    Candidate* sorted;      // [most] the same, row by row
    float* lowers;          // [most, whole vectors a row] bounds of the sorted ones' distances
    float* uppers;          // [likewise, and beam·kTilePanels·kLanes at least]
    Pair* chosen;           // [beam + 1]
};

std::int64_t round_up(std::int64_t value) { return (value + kLanes - 1) / kLanes * kLanes; }

std::int64_t most_paths(const Search& search) { return round_up(search.block * search.beam); }

// Candidates that a block may collect; with more, all pairs of path and codeword are settled.
std::int64_t most_candidates(const Search& search) { return 64 * most_paths(search) + kMostFound; }

Beams carve(const Search& search, Carver& carver) {
    const std::int64_t paths = most_paths(search), most = most_candidates(search);
    Beams beams{};
    Paths* const sides[] = {&beams.now, &beams.next};
    for (Paths* side : sides) {
        side->residual = carver.take<float>(paths * search.stride);
        side->codes = carver.take<std::int64_t>(paths * search.levels);
        side->largest = carver.take<float>(paths);
    }
    beams.bytes = carver.take<std::uint8_t>(paths * search.stride);
    Rounded& of = beams.rounded;
    float** const numbers[] = {&of.square, &of.half,    &of.scale,   &of.error,    &of.inverse,   &of.along,
                               &of.across, &of.float32, &of.product, &beams.error, &beams.ceiling};
    for (float** number : numbers) *number = carver.take<float>(paths);
    beams.owner = carver.take<std::int32_t>(paths);
    beams.rows = carver.take<Row>(search.block);
    beams.tau = carver.take<float>(search.block);
    beams.width = carver.take<float>(search.levels);
    beams.narrow = carver.take<float>(search.levels);
    beams.tiles.carve(carver, paths, search.codebooks, search.levels);
    beams.candidates = carver.take<Candidate>(most);
    beams.sorted = carver.take<Candidate>(most);
    const std::int64_t bounds = most + search.block * kLanes;
    beams.lowers = carver.take<float>(bounds);
    const std::int64_t tile = search.beam * beams.tiles.most * kLanes;
    beams.uppers = carver.take<float>(bounds > tile ? bounds : tile);
    beams.chosen = carver.take<Pair>(search.beam + 1);
    return beams;
}

// The data that one level works on.
struct Level {
    const Search& search;
    const Codebook& book;
    std::int64_t level;
    int rows, paths;
    std::int64_t keep;
};

// Whether a comes before b: nearer, or as near and of lower codes.
bool precedes(const Level& of, const Beams& beams, const Pair& a, const Pair& b) {
    const std::int64_t stride = of.book.stride;
    const double gap = a.distance - b.distance;
    if (std::fabs(gap) > score_error(a.distance, 0.0, b.distance, 0.0, stride)) return gap < 0;
    const int sign = compare_distances(beams.now.residual + a.path * stride, word_at(of.book, a.word), 0.0,
                                       beams.now.residual + b.path * stride, word_at(of.book, b.word), 0.0, stride);
    if (sign) return sign < 0;
    const std::int64_t* path = beams.now.codes + a.path * of.search.levels;
    const std::int64_t* other = beams.now.codes + b.path * of.search.levels;
    for (std::int64_t l = 0; l < of.level; ++l)
        if (path[l] != other[l]) return path[l] < other[l];
    return of.book.name[a.word] < of.book.name[b.word];
}

// Adds a pair to the chosen, who stand in their order, if it belongs there; -> how many are chosen.
int settle_pair(const Level& of, const Beams& beams, int count, std::int32_t path, std::int32_t word) {
    const double distance =
        distance64(beams.now.residual + path * of.book.stride, word_at(of.book, word), of.book.stride);
    const Pair pair{path, word, distance};
    if (count == of.keep && !precedes(of, beams, pair, beams.chosen[count - 1])) return count;
    int at = count < of.keep ? count++ : count - 1;
    for (; at > 0 && precedes(of, beams, pair, beams.chosen[at - 1]); --at) beams.chosen[at] = beams.chosen[at - 1];
    beams.chosen[at] = pair;
    return count;
}

int count_below(const float* values, std::int64_t vectors, float limit) {
    int count = 0;
    for (std::int64_t i = 0; i < vectors; ++i)
        count += __builtin_popcount(Vector::at_most(Vector::load(values + i * kLanes), Vector::fill(limit)));
    return count;
}

// An upper bound of the keep-th least of some values (whole vectors of them), after enough steps below the next one;
// FLT_MAX where there are fewer. `width` is where it was last time, above the least.
LF_LOOP float bound_of_least(const float* values, std::int64_t vectors, std::int64_t keep, int steps, float& width) {
    auto lanes = Vector::fill(FLT_MAX);
    for (std::int64_t i = 0; i < vectors; ++i) lanes = Vector::smaller(lanes, Vector::load(values + i * kLanes));
    const float least = Vector::smallest(lanes);
    if (!(least < 0x1p100f)) return FLT_MAX;
    float low = least, high = least + width;
    int count = count_below(values, vectors, high);
    while (count < keep) {
        if (!(high < 0x1p100f)) return FLT_MAX;
        low = high;
        width *= 2;
        high = least + width;
        count = count_below(values, vectors, high);
    }
    for (int step = 0; step < steps && count > keep; ++step) {
        const float middle = low + 0.5f * (high - low);
        if (!(middle > low && middle < high)) break;
        const int below = count_below(values, vectors, middle);
        (below < keep ? low : high) = middle;
        count = below < keep ? count : below;
    }
    width = high - least > 0x1p-100f ? high - least : 0x1p-100f;
    return high;
}

// Lowers a row's τ by upper bounds from the screen of a tile: one of each lane, or where these are few of each panel's.
void lower_tau(const Level& of, const Beams& beams, int row, const Tile& tile) {
    const Row& at = beams.rows[row];
    const bool few = at.paths * kLanes < 4 * of.keep;
    float* to = beams.uppers;
    for (int path = at.first; path < at.first + at.paths; ++path) {
        const Tile its = beams.tiles.of(path, tile.first, tile.panels);
        const auto base = Vector::fill(beams.rounded.square[path] + beams.error[path]), two = Vector::fill(2.0f);
        if (!few) {
            Vector::store(to, Vector::fused(two, Vector::load(its.upper), base));
            to += kLanes;
            continue;
        }
        for (std::int64_t panel = 0; panel < its.panels; ++panel, to += kLanes) {
            const auto upper =
                Vector::fused(two, Vector::fill(its.bound(panel)), Vector::load(its.lower + panel * kLanes));
            Vector::store(to, Vector::fused(two, upper, base));
        }
    }
    const float tau = bound_of_least(beams.uppers, (to - beams.uppers) / kLanes, of.keep, 6, beams.width[of.level]);
    beams.tau[row] = tau < beams.tau[row] ? tau : beams.tau[row];
}

// U of each path's scores, rounded up by more than float32 could have rounded down; below what padding is scored.
void find_ceilings(const Level& of, const Beams& beams) {
    for (int path = 0; path < of.paths; ++path) {
        const float tau = beams.tau[beams.owner[path]], square = beams.rounded.square[path];
        const float reach = 0.5f * (tau - square + beams.error[path]);
        const float limit = reach + std::fabs(reach) * 0x1p-20f;
        beams.ceiling[path] = tau < 0 ? kNoCandidates : limit < kHighest ? limit : kHighest;
    }
}

std::int64_t drop_far(const Beams& beams, std::int64_t found) {
    Candidate* to = beams.candidates;
    for (std::int64_t i = 0; i < found; ++i) {
        const Candidate candidate = beams.candidates[i];
        *to = candidate;
        to += candidate.lower <= beams.ceiling[candidate.row];
    }
    return to - beams.candidates;
}

void measure(const Level& of, Beams& beams) {
    beams.rounded.largest = beams.now.largest;
    round_rows(beams.now.residual, of.paths, of.book, beams.rounded, beams.bytes);
    const std::int64_t additions = of.book.stride / kLanes + 24;
    for (int path = 0; path < of.paths; ++path) {
        // Of a float32 score, twice; of ‖r‖², and of the sums with it.
        const float square = beams.rounded.square[path];
        beams.error[path] =
            2 * score32_error(beams.rounded, path) + static_cast<float>(additions) * 0x1p-23f * square + 0x1p-100f;
    }
    for (int row = 0; row < of.rows; ++row) {
        Row& at = beams.rows[row];
        at.blind = false;
        for (int path = at.first; path < at.first + at.paths; ++path) {
            beams.owner[path] = row;
            at.blind |= !(bound_of(of.book, beams.rounded, path, of.book.panels - 1) < kLargestBound &&
                          beams.rounded.square[path] < kLargestBound);
        }
        beams.tau[row] = at.blind ? -1.0f : FLT_MAX;
    }
}

// All candidates of a block; −1 for too many.
std::int64_t screen(const Level& of, Beams& beams) {
    const Codebook& book = of.book;
    measure(of, beams);
    const ScoreTile score = score_tile_for(book);
    const std::int64_t panels = tile_panels(book), most = most_candidates(of.search);
    std::int64_t found = 0;
    for (std::int64_t first = 0; first < book.panels; first += panels) {
        const std::int64_t some = first + panels < book.panels ? panels : book.panels - first;
        for (int begin = 0; begin < of.paths; begin += kLanes) {
            find_bounds(book, beams.rounded, begin, beams.tiles.of(begin, first, some));
            for (int i = begin; i < begin + kLanes && i < of.paths; i += Vector::kRows)
                score(book, beams.bytes + i * book.stride, beams.tiles.of(i, first, some));
        }
        for (int row = 0; row < of.rows; ++row)
            if (beams.rows[row].paths && !beams.rows[row].blind)
                lower_tau(of, beams, row, beams.tiles.of(0, first, some));
        find_ceilings(of, beams);
        for (int begin = 0; begin < of.paths; begin += kLanes) {
            const int together = of.paths - begin < kLanes ? of.paths - begin : kLanes;
            Tile tiles[kLanes];
            for (int i = 0; i < together; ++i) tiles[i] = beams.tiles.of(begin + i, first, some);
            for (std::int64_t panel = 0; panel < some; panel += kGroup) {
                if (found + kMostFound > most) found = drop_far(beams, found);
                if (found + kMostFound > most) return -1;
                found +=
                    find_candidates(beams.ceiling + begin, begin, together, tiles, panel, beams.candidates + found);
            }
        }
    }
    return book.panels > panels ? drop_far(beams, found) : found;
}

// The candidates row by row, and bounds of their distances.
void score_candidates(const Level& of, const Beams& beams, std::int64_t found) {
    for (int row = 0; row < of.rows; ++row) beams.rows[row].found = 0;
    for (std::int64_t i = 0; i < found; ++i) ++beams.rows[beams.owner[beams.candidates[i].row]].found;
    std::int64_t begin = 0, bounds = 0;
    for (int row = 0; row < of.rows; ++row) {
        Row& at = beams.rows[row];
        at.begin = begin;
        at.bounds = bounds;
        begin += at.found;
        bounds += round_up(at.found);
        if (at.found) Vector::store(beams.uppers + bounds - kLanes, Vector::fill(FLT_MAX));  // behind the last
        at.found = 0;
    }
    for (std::int64_t i = 0; i < found; ++i) {
        Row& at = beams.rows[beams.owner[beams.candidates[i].row]];
        beams.sorted[at.begin + at.found++] = beams.candidates[i];
    }
    for (std::int64_t i = 0; i < found; i += kLanes) {
        const int some = found - i < kLanes ? static_cast<int>(found - i) : kLanes;
        const Candidate* candidates = beams.sorted + i;
        float scores[kLanes];
        score_some(of.book, beams.now.residual, candidates, some, scores);
        for (int j = 0; j < some; ++j) {
            const int path = candidates[j].row;
            const Row& at = beams.rows[beams.owner[path]];
            const std::int64_t place = at.bounds + (i + j - at.begin);
            const float distance = beams.rounded.square[path] + 2 * scores[j];
            beams.lowers[place] = distance - beams.error[path];
            beams.uppers[place] = distance + beams.error[path];
        }
    }
}

// The paths that a row goes on with; -> how many.
int choose(const Level& of, const Beams& beams, int row, bool screened) {
    const Row& at = beams.rows[row];
    int chosen = 0;
    if (!screened || at.blind || at.found < of.keep) {
        for (std::int32_t path = at.first; path < at.first + at.paths; ++path)
            for (std::int32_t word = 0; word < of.book.words; ++word)
                chosen = settle_pair(of, beams, chosen, path, word);
        return chosen;
    }
    const Candidate* const candidates = beams.sorted + at.begin;
    const float* const lowers = beams.lowers + at.bounds;
    const float tau =
        bound_of_least(beams.uppers + at.bounds, round_up(at.found) / kLanes, of.keep, 40, beams.narrow[of.level]);
    std::int64_t left = 0;
    for (std::int64_t i = 0; i < at.found; ++i) left += lowers[i] <= tau;
    if (left == of.keep) {  // nearly always; no branch depends on which of them these are
        for (std::int64_t i = 0; i < at.found; ++i) {
            beams.chosen[chosen] = {candidates[i].row, candidates[i].word, 0.0};
            chosen += lowers[i] <= tau ? 1 : 0;
        }
        return chosen;
    }
    for (std::int64_t i = 0; i < at.found; ++i)
        if (lowers[i] <= tau) chosen = settle_pair(of, beams, chosen, candidates[i].row, candidates[i].word);
    return chosen;
}

// The paths of the next level; -> how many.
int extend(const Level& of, Beams& beams) {
    const std::int64_t stride = of.book.stride, levels = of.search.levels;
    const std::int64_t found = of.book.screened && of.paths ? screen(of, beams) : -1;
    if (found >= 0) score_candidates(of, beams, found);
    int paths = 0;
    for (int row = 0; row < of.rows; ++row) {
        const int chosen = choose(of, beams, row, found >= 0), first = paths;
        for (int i = 0; i < chosen; ++i) {
            const Pair& pick = beams.chosen[i];
            const float *from = beams.now.residual + pick.path * stride, *word = word_at(of.book, pick.word);
            float* to = beams.next.residual + paths * stride;
            auto most = Vector::zero();
            for (std::int64_t d = 0; d < stride; d += kLanes) {
                const auto left = Vector::subtract(Vector::load(from + d), Vector::load(word + d));
                Vector::store(to + d, left);
                most = Vector::larger(most, Vector::magnitude(left));
            }
            beams.next.largest[paths] = largest_of(most);
            if (!(beams.next.largest[paths] <= FLT_MAX)) continue;
            std::int64_t* codes = beams.next.codes + paths * levels;
            std::memcpy(codes, beams.now.codes + pick.path * levels, of.level * sizeof *codes);
            codes[of.level] = of.book.name[pick.word];
            ++paths;
        }
        beams.rows[row].first = first;
        beams.rows[row].paths = paths - first;
    }
    const Paths swapped = beams.now;
    beams.now = beams.next;
    beams.next = swapped;
    return paths;
}

}  // namespace

std::size_t beam_scratch_bytes(const Search& search) {
    Carver carver(nullptr);
    carve(search, carver);
    return carver.bytes();
}

void beam_block(const Search& search, std::int64_t first, void* scratch) {
    Carver carver(scratch);
    Beams beams = carve(search, carver);
    const std::int64_t left = search.rows - first;
    const int rows = static_cast<int>(left < search.block ? left : search.block);
    for (std::int64_t level = 0; level < search.levels; ++level) beams.width[level] = beams.narrow[level] = 1.0f;
    int paths = 0;
    for (int row = 0; row < rows; ++row) {
        float* residual = beams.now.residual + paths * search.stride;
        load_row<Vector>(search, first + row, residual);
        beams.now.largest[paths] = largest_of(residual, search.stride);
        const int finite = beams.now.largest[paths] <= FLT_MAX;
        beams.rows[row] = {paths, finite, 0, 0, 0, false};
        paths += finite;
    }
    for (std::int64_t level = 0; level < search.levels; ++level)
        paths = extend(
            {search, search.codebooks[level], level, rows, paths, level + 1 < search.levels ? search.beam : 1}, beams);
    for (int row = 0; row < rows; ++row) {
        const Row& at = beams.rows[row];
        std::int64_t* codes = search.codes + (first + row) * search.levels;
        for (std::int64_t level = 0; level < search.levels; ++level)
            codes[level] = at.paths ? beams.now.codes[at.first * search.levels + level] : -1;
    }
}

}  // namespace lf::LF_INSTRUCTION_SET

#ifdef LF_ENTRIES

namespace lf {
namespace {

void residual_search_beam(const SearchRequest& request) {
    const auto set = static_cast<Set>(request.instruction_set);
    run_search(request, {LF_PICK(set, kLayout), LF_PICK(set, beam_scratch_bytes), LF_PICK(set, beam_block)});
}

}  // namespace
}  // namespace lf

LF_ENTRY(residual_search_beam, SearchRequest)

#endif  // LF_ENTRIES
