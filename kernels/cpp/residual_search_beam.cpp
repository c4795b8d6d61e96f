// Residual search that keeps `beam` partial paths: at each level those of least ‖r_p − e_k‖² over all kept
// paths p and codewords k, compared as real numbers, equal ones by lowest codes.
//
// The paths of one row are the rows of the same screen as the greedy search's. Distances of different paths
// compare as ‖r_p‖² + 2 s_pk; with τ an upper bound of the beam-th least of them, a candidate is whoever
// could lie at or below τ. Candidates are scored in float32, which lowers τ, and what is left is settled.
#include "abi.h"
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

struct Candidate {
    std::int32_t path, word;
    double lower;     // bound of its distance, from float32
    double distance;  // ‖r − e‖² in float64
};

struct Paths {
    float* residual;      // [beam, stride]
    std::int64_t* codes;  // [beam, levels]
};

struct Beam {
    Paths now, next;
    std::uint8_t* bytes;      // [beam, stride]
    Rounded rounded;          // [beam] each
    double* square;           // [beam] ‖r_p‖²
    double* least;            // [beam] ascending: the least upper bounds of candidates
    int bounded;              // how many of them there are
    double seed;              // an upper bound of τ from the screen alone
    Candidate* candidates;    // [most]
    Candidate* chosen;        // [beam + 1] ascending
    float* tile_scores;       // [kRows, kTileScores]
    float* tile_lower;        // [kRows, kTilePanels, kLanes]
    float* tile_lowest;       // [kRows, kLanes]
    float* tile_bounds;       // [kRows, kTileBounds]
};

// Candidates a level may collect; with more, all pairs of path and codeword are settled.
std::int64_t most_candidates(const Search& search) { return 4 * search.beam + 256; }

Beam carve(const Search& search, Carver& carver) {
    const std::int64_t paths = (search.beam + Vector::kRows - 1) / Vector::kRows * Vector::kRows;
    Beam beam{};
    Paths* const sides[] = {&beam.now, &beam.next};
    for (Paths* side : sides) {
        side->residual = carver.take<float>(paths * search.stride);
        side->codes = carver.take<std::int64_t>(paths * search.levels);
    }
    beam.bytes = carver.take<std::uint8_t>(paths * search.stride);
    Rounded& of = beam.rounded;
    float** const numbers[] = {&of.largest, &of.square, &of.half,   &of.scale,   &of.error,
                               &of.inverse, &of.along,  &of.across, &of.float32, &of.product};
    for (float** number : numbers) *number = carver.take<float>(paths);
    beam.square = carver.take<double>(paths);
    beam.least = carver.take<double>(search.beam);
    beam.candidates = carver.take<Candidate>(most_candidates(search));
    beam.chosen = carver.take<Candidate>(search.beam + 1);
    beam.tile_scores = carver.take<float>(Vector::kRows * kTileScores);
    beam.tile_lower = carver.take<float>(Vector::kRows * kTilePanels * kLanes);
    beam.tile_lowest = carver.take<float>(Vector::kRows * kLanes);
    beam.tile_bounds = carver.take<float>(Vector::kRows * kTileBounds);
    return beam;
}

// What one level works on.
struct Level {
    const Search& search;
    const Codebook& book;
    std::int64_t level;
    int paths;
    std::int64_t keep;
};

// Inserts a value into the ascending `values` of at most `most`.
int insert(double* values, int count, std::int64_t most, double value) {
    if (count == most && !(value < values[count - 1])) return count;
    int at = count < most ? count++ : count - 1;
    for (; at > 0 && value < values[at - 1]; --at) values[at] = values[at - 1];
    values[at] = value;
    return count;
}

double ceiling_of(const Beam& beam, const Level& of) {
    const double known = beam.bounded == of.keep ? beam.least[of.keep - 1] : INFINITY;
    return known < beam.seed ? known : beam.seed;
}

// Whether a comes before b: nearer, or as near and of lower codes.
bool precedes(const Level& of, const Beam& beam, const Candidate& a, const Candidate& b) {
    const std::int64_t stride = of.book.stride;
    const double gap = a.distance - b.distance;
    if (std::fabs(gap) > score_error(a.distance, 0.0, b.distance, 0.0, stride)) return gap < 0;
    const int sign = compare_distances(beam.now.residual + a.path * stride, word_at(of.book, a.word), 0.0,
                                       beam.now.residual + b.path * stride, word_at(of.book, b.word), 0.0, stride);
    if (sign) return sign < 0;
    const std::int64_t* path = beam.now.codes + a.path * of.search.levels;
    const std::int64_t* other = beam.now.codes + b.path * of.search.levels;
    for (std::int64_t l = 0; l < of.level; ++l)
        if (path[l] != other[l]) return path[l] < other[l];
    return of.book.name[a.word] < of.book.name[b.word];
}

// Adds a candidate to the chosen if it belongs there; -> how many are chosen.
int settle_candidate(const Level& of, Beam& beam, int count, Candidate candidate) {
    candidate.distance = distance64(beam.now.residual + candidate.path * of.book.stride,
                                    word_at(of.book, candidate.word), of.book.stride);
    if (count == of.keep && !precedes(of, beam, candidate, beam.chosen[count - 1])) return count;
    int at = count < of.keep ? count++ : count - 1;
    for (; at > 0 && precedes(of, beam, candidate, beam.chosen[at - 1]); --at) beam.chosen[at] = beam.chosen[at - 1];
    beam.chosen[at] = candidate;
    return count;
}

int drop_far(const Level& of, Beam& beam, int count) {
    const double ceiling = ceiling_of(beam, of);
    int kept = 0;
    for (int i = 0; i < count; ++i)
        if (!(beam.candidates[i].lower > ceiling)) beam.candidates[kept++] = beam.candidates[i];
    return kept;
}

// Adds a tile's candidates of one path; -> how many there are, or −1 for too many.
int collect(const Level& of, Beam& beam, int count, int path, const Tile& tile) {
    const std::int64_t most = most_candidates(of.search);
    const float* residual = beam.now.residual + path * of.book.stride;
    const double square = beam.square[path];
    // Of a float32 score, twice; of ‖r‖² and the sums with it, in float64.
    const double error =
        2.0 * score32_error(beam.rounded, path) + static_cast<double>(of.book.stride + 8) * 0x1p-52 * square;
    if (path == 0 && tile.first == 0) {
        // One upper bound a lane, each of another codeword.
        double uppers[kTilePanels * kLanes];
        int lanes = 0;
        const std::int64_t room = of.keep < kTilePanels * kLanes ? of.keep : kTilePanels * kLanes;
        for (std::int64_t i = 0; i < tile.panels * kLanes; ++i)
            lanes = insert(uppers, lanes, room, square + 2.0 * (tile.lower[i] + 2.0 * tile.bounds[i / kLanes]) + error);
        if (lanes == of.keep) beam.seed = uppers[lanes - 1];
    }
    for (std::int64_t begin = 0; begin < tile.panels; begin += kGroup) {
        const auto reach = static_cast<float>((ceiling_of(beam, of) - square + error) * 0.5);
        // Rounded up by more than float32 could have rounded down.
        const float limit = reach + std::fabs(reach) * 0x1p-20f;
        for (std::uint64_t hits = lanes_below(tile, begin, limit); hits; hits &= hits - 1) {
            const int bit = __builtin_ctzll(hits);
            const std::int64_t panel = begin + bit / kLanes;
            for (int v = 0; v < kVectors; ++v) {
                const std::int64_t at = panel * kPanelWords + v * kLanes + bit % kLanes;
                const std::int64_t word = tile.first * kPanelWords + at;
                if (word >= of.book.words || !(tile.scores[at] - tile.bounds[panel] <= limit)) continue;
                const double distance = square + 2.0 * score32(of.book, residual, word);
                if (!(distance - error <= ceiling_of(beam, of))) continue;
                if (count == most && (count = drop_far(of, beam, count)) == most) return -1;
                beam.candidates[count++] = {path, static_cast<std::int32_t>(word), distance - error, 0.0};
                beam.bounded = insert(beam.least, beam.bounded, of.keep, distance + error);
            }
        }
    }
    return count;
}

// Candidates of a level; −1 where the screen can't tell.
int screen(const Level& of, Beam& beam) {
    constexpr int kRows = Vector::kRows;
    const Codebook& book = of.book;
    if (!book.screened) return -1;
    for (int path = 0; path < of.paths; ++path) {
        const float* residual = beam.now.residual + path * book.stride;
        beam.rounded.largest[path] = largest_of(residual, book.stride);
        double square = 0.0;
        for (std::int64_t d = 0; d < of.search.width; ++d) square += static_cast<double>(residual[d]) * residual[d];
        beam.square[path] = square;
    }
    round_rows(beam.now.residual, of.paths, book, beam.rounded, beam.bytes);
    for (int path = 0; path < of.paths; ++path)
        if (!(bound_of(book, beam.rounded, path, book.panels - 1) < 0x1p100f)) return -1;

    beam.bounded = 0;
    beam.seed = INFINITY;
    int count = 0;
    const ScoreTile score = score_tile_for(book);
    const std::int64_t panels = tile_panels(book);
    for (std::int64_t first = 0; first < book.panels; first += panels)
        for (int begin = 0; begin < of.paths; begin += kRows) {
            const std::int64_t some = first + panels < book.panels ? panels : book.panels - first;
            const int some_rows = of.paths - begin < kRows ? of.paths - begin : kRows;
            Tile tiles[kRows];
            for (int r = 0; r < some_rows; ++r) {
                tiles[r] = {first,
                            some,
                            beam.tile_scores + r * kTileScores,
                            beam.tile_lower + r * kTilePanels * kLanes,
                            beam.tile_lowest + r * kLanes,
                            beam.tile_bounds + r * kTileBounds};
                find_bounds(book, beam.rounded, begin + r, tiles[r]);
            }
            score(book, first, some, beam.bytes + begin * book.stride, beam.rounded.inverse + begin, beam.tile_bounds,
                  beam.tile_scores, beam.tile_lower, beam.tile_lowest);
            for (int r = 0; r < some_rows; ++r) {
                count = collect(of, beam, count, begin + r, tiles[r]);
                if (count < 0) return -1;
            }
        }
    return drop_far(of, beam, count);
}

// The paths of the next level; -> how many.
int extend(const Level& of, Beam& beam) {
    const int candidates = screen(of, beam);
    int chosen = 0;
    for (int i = 0; i < candidates; ++i) chosen = settle_candidate(of, beam, chosen, beam.candidates[i]);
    if (candidates < 1)
        for (std::int32_t path = 0; path < of.paths; ++path)
            for (std::int64_t word = 0; word < of.book.words; ++word)
                chosen = settle_candidate(of, beam, chosen, {path, static_cast<std::int32_t>(word), 0.0, 0.0});

    int paths = 0;
    for (int i = 0; i < chosen; ++i) {
        const Candidate& pick = beam.chosen[i];
        const float* from = beam.now.residual + pick.path * of.book.stride;
        const float* word = word_at(of.book, pick.word);
        float* to = beam.next.residual + paths * of.book.stride;
        for (std::int64_t d = 0; d < of.book.stride; ++d) to[d] = from[d] - word[d];
        if (!is_finite(to, of.book.stride)) continue;
        std::int64_t* codes = beam.next.codes + paths * of.search.levels;
        std::memcpy(codes, beam.now.codes + pick.path * of.search.levels, of.level * sizeof *codes);
        codes[of.level] = of.book.name[pick.word];
        ++paths;
    }
    const Paths swapped = beam.now;
    beam.now = beam.next;
    beam.next = swapped;
    return paths;
}

}  // namespace

std::size_t beam_scratch_bytes(const Search& search) {
    Carver carver(nullptr);
    carve(search, carver);
    return carver.bytes();
}

void beam_block(const Search& search, std::int64_t row, void* scratch) {
    Carver carver(scratch);
    Beam beam = carve(search, carver);
    load_row<Vector>(search, row, beam.now.residual);
    int paths = is_finite(beam.now.residual, search.stride);
    for (std::int64_t level = 0; level < search.levels && paths > 0; ++level)
        paths =
            extend({search, search.codebooks[level], level, paths, level + 1 < search.levels ? search.beam : 1}, beam);
    for (std::int64_t level = 0; level < search.levels; ++level)
        search.codes[row * search.levels + level] = paths > 0 ? beam.now.codes[level] : -1;
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
