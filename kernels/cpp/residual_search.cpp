// c_l = argmin_k ‖r_{l−1} − e_k‖² + offset_k, r_l = fl32(r_{l−1} − e_{c_l}), all levels of a block of rows.
//
// Compiled once per instruction set. A block of rows stays in the thread's scratch through all levels:
// residuals in float32, and at each level their bytes and the scores of one tile of codewords (screen.h).
// Whoever could be nearest is scored in float32; where that leaves more than one, settle.h decides. Nothing of
// the size rows × codewords exists.
#include "abi.h"
#include "search/run.h"
#include "search/screen.h"
#include "search/settle.h"
#include "simd/instruction_set.h"
#include "simd/scratch.h"

namespace lf {

LF_KERNEL(std::size_t scratch_bytes(const Search&))
LF_KERNEL(void search_block(const Search&, std::int64_t first, void* scratch))

}  // namespace lf

namespace lf::LF_INSTRUCTION_SET {
namespace {

// Codewords a row remembers having scored, should their scores be too close to tell.
constexpr int kRemembered = 32;

// Rows that go through a tile's stages together, so that one's latency hides behind the others' work.
constexpr int kTogether = 8;

struct Block {
    float* residual;       // [rows, stride]
    float* quantized;      // [rows, stride], if asked for
    bool* dead;            // [rows]: NaN or Inf
    std::uint8_t* bytes;   // [rows, stride]
    Rounded rounded;       // [rows] each
    bool* blind;           // [rows]: the screen's bound says nothing
    float* ceiling;        // [rows] U: no score of a nearest codeword is above (two: of the two nearest)
    float* first;          // [rows] two: the least upper bound, where `ceiling` is the second least
    float* best;           // [rows] the least float32 score so far
    float* second;         // [rows] the next
    std::int64_t* word;    // [rows] whose score `best` is
    float* rest;           // [rows] lower: the least lower bound of all that were not scored
    int* count;            // [rows] how many were scored
    std::int32_t* scored;  // [rows, kRemembered] the first of them
    Choice* choice;        // [rows] two: the same in float64
    float* tile_scores;    // [kTogether, kTileScores]
    float* tile_lower;     // [kTogether, kTilePanels, kLanes]
    float* tile_lowest;    // [kTogether, kLanes]
    float* tile_bounds;    // [kTogether, kTileBounds] E of each panel
};

Block carve(const Search& search, Carver& carver) {
    const std::int64_t rows = search.block, all = rows * search.stride;
    Block block;
    block.residual = carver.take<float>(all);
    block.quantized = carver.take<float>(all);
    block.dead = carver.take<bool>(rows);
    block.bytes = carver.take<std::uint8_t>(all);
    Rounded& of = block.rounded;
    float** const numbers[] = {&of.largest,    &of.square,   &of.half,    &of.scale,     &of.error,
                               &of.inverse,    &of.along,    &of.across,  &of.float32,   &of.product,
                               &block.ceiling, &block.first, &block.best, &block.second, &block.rest};
    for (float** number : numbers) *number = carver.take<float>(rows);
    block.blind = carver.take<bool>(rows);
    block.word = carver.take<std::int64_t>(rows);
    block.count = carver.take<int>(rows);
    block.scored = carver.take<std::int32_t>(rows * kRemembered);
    block.choice = carver.take<Choice>(rows);
    block.tile_scores = carver.take<float>(kTogether * kTileScores);
    block.tile_lower = carver.take<float>(kTogether * kTilePanels * kLanes);
    block.tile_lowest = carver.take<float>(kTogether * kLanes);
    block.tile_bounds = carver.take<float>(kTogether * kTileBounds);
    return block;
}

float* residual_of(const Search& search, const Block& block, int row) { return block.residual + row * search.stride; }

// Scores a codeword in float32, and lowers U to that score and its error.
void consider(const Search& search, const Codebook& book, Block& block, int row, std::int64_t word) {
    const float score = score32(book, residual_of(search, block, row), word), best = block.best[row];
    if (block.count[row] < kRemembered)
        block.scored[row * kRemembered + block.count[row]] = static_cast<std::int32_t>(word);
    ++block.count[row];
    const bool better = score < best;
    const float larger = better ? best : score;
    block.best[row] = better ? score : best;
    block.word[row] = better ? word : block.word[row];
    block.second[row] = larger < block.second[row] ? larger : block.second[row];
    block.ceiling[row] = block.best[row] + score32_error(block.rounded, row);
}

// Lowers U to the second least upper bound of a score.
void lower_second(Block& block, int row, const Tile& tile) {
    float least = block.first[row], second = block.ceiling[row];
    for (std::int64_t i = 0; i < tile.panels * kLanes; ++i) {
        const float upper = tile.lower[i] + 2 * tile.bounds[i / kLanes];
        const float larger = upper < least ? least : upper;
        least = upper < least ? upper : least;
        second = larger < second ? larger : second;
    }
    block.first[row] = least;
    block.ceiling[row] = second;
}

// Lowers `rest` to the least lower bound in a tile; who was scored in float32 is no longer there.
void lower_rest(Block& block, int row, const Tile& tile) {
    auto least = Vector::fill(block.rest[row]);
    for (std::int64_t panel = 0; panel < tile.panels; ++panel) {
        const float* scores = tile.scores + panel * kPanelWords;
        auto smallest = Vector::load(scores);
        for (int v = 1; v < kVectors; ++v) smallest = Vector::smaller(smallest, Vector::load(scores + v * kLanes));
        least = Vector::smaller(least, Vector::subtract(smallest, Vector::fill(tile.bounds[panel])));
    }
    block.rest[row] = Vector::smallest(least);
}

// Calls `take` with every codeword of a tile, but for `known`, whose lower bound is at most U.
template <class Take>
void for_candidates(const Codebook& book, const Block& block, int row, const Tile& tile, std::int64_t known,
                    Take take) {
    for (std::int64_t begin = 0; begin < tile.panels; begin += kGroup)
        for (std::uint64_t hits = lanes_below(tile, begin, block.ceiling[row]); hits; hits &= hits - 1) {
            const int bit = __builtin_ctzll(hits);
            const std::int64_t panel = begin + bit / kLanes, at = panel * kPanelWords + bit % kLanes;
            const std::int64_t word = tile.first * kPanelWords + at;
            const float limit = block.ceiling[row] + tile.bounds[panel];
            unsigned below = 0;
            for (int v = 0; v < kVectors; ++v)
                below |= unsigned((tile.scores[at + v * kLanes] <= limit) & (word + v * kLanes != known)) << v;
            for (; below; below &= below - 1) {
                const std::int64_t candidate = word + __builtin_ctz(below) * kLanes;
                if (candidate < book.words) take(candidate);  // not the padding
            }
        }
}

// The candidates of a tile, for rows from `begin` on: float32 scores.
void compare(const Search& search, const Codebook& book, Block& block, int begin, int together, const Tile* tiles) {
    const auto take = [&](int i, std::int64_t word) {
        consider(search, book, block, begin + i, word);
        if (search.lower) tiles[i].scores[word - tiles[i].first * kPanelWords] = FLT_MAX;
    };
    std::int64_t known[kTogether];
    for (int i = 0; i < together; ++i) known[i] = most_promising(tiles[i], block.ceiling[begin + i]);
    for (int i = 0; i < together; ++i)
        if (known[i] >= 0 && known[i] < book.words) take(i, known[i]);
    for (int i = 0; i < together; ++i)
        if (known[i] >= 0 && !block.blind[begin + i])
            for_candidates(book, block, begin + i, tiles[i], known[i], [&](std::int64_t word) { take(i, word); });
    if (search.lower)
        for (int i = 0; i < together; ++i) lower_rest(block, begin + i, tiles[i]);
}

// The same where the runner-up is asked for too: in float64.
void compare_two(const Search& search, const Codebook& book, Block& block, int begin, int together, const Tile* tiles) {
    for (int i = 0; i < together; ++i) {
        const int row = begin + i;
        lower_second(block, row, tiles[i]);
        if (block.blind[row]) continue;
        for_candidates(book, block, row, tiles[i], -1, [&](std::int64_t word) {
            contend(residual_of(search, block, row), book, word, block.choice[row]);
        });
    }
}

void screen(const Search& search, const Codebook& book, Block& block, int rows, bool two) {
    constexpr int kRows = Vector::kRows;
    round_rows(block.residual, rows, book, block.rounded, block.bytes);
    for (int row = 0; row < rows; ++row) {
        block.ceiling[row] = block.first[row] = FLT_MAX;
        block.best[row] = block.second[row] = block.rest[row] = INFINITY;
        block.word[row] = -1;
        block.count[row] = 0;
        block.choice[row] = Choice();
        // A bound that is huge or no number rules nobody out. It is so for all panels or for none: only the row
        // can make it so.
        block.blind[row] = !(bound_of(book, block.rounded, row, book.panels - 1) < 0x1p100f);
    }
    const ScoreTile score = score_tile_for(book);
    const std::int64_t panels = tile_panels(book);
    Tile tiles[kTogether];
    for (std::int64_t first = 0; first < book.panels; first += panels) {
        for (int i = 0; i < kTogether; ++i)
            tiles[i] = {first,
                        first + panels < book.panels ? panels : book.panels - first,
                        block.tile_scores + i * kTileScores,
                        block.tile_lower + i * kTilePanels * kLanes,
                        block.tile_lowest + i * kLanes,
                        block.tile_bounds + i * kTileBounds};
        for (int begin = 0; begin < rows; begin += kTogether) {
            const int together = rows - begin < kTogether ? rows - begin : kTogether;
            for (int i = 0; i < together; ++i) find_bounds(book, block.rounded, begin + i, tiles[i]);
            for (int i = 0; i < together; i += kRows)
                score(book, first, tiles[i].panels, block.bytes + (begin + i) * search.stride,
                      block.rounded.inverse + begin + i, tiles[i].bounds, tiles[i].scores, tiles[i].lower,
                      tiles[i].lowest);
            two ? compare_two(search, book, block, begin, together, tiles)
                : compare(search, book, block, begin, together, tiles);
        }
    }
}

// The nearest codeword of a row, as the screen found it or as it is settled.
Choice choose(const Search& search, const Codebook& book, const Block& block, int row, bool two) {
    const float* residual = residual_of(search, block, row);
    if (!book.screened || block.blind[row]) return settle_all(residual, book);
    if (two) return block.choice[row];
    Choice choice;
    const float ceiling = block.best[row] + 2 * score32_error(block.rounded, row) * (1 + 0x1p-10f);
    if (block.second[row] > ceiling) {
        choice.word = block.word[row];
        return choice;
    }
    const bool remembered = block.count[row] <= kRemembered;
    const std::int64_t count = remembered ? block.count[row] : book.words;
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t word = remembered ? block.scored[row * kRemembered + i] : i;
        if (!(score32(book, residual, word) > ceiling)) contend(residual, book, word, choice);
    }
    return choice.word < 0 ? settle_all(residual, book) : choice;
}

// What the distance of a row to any codeword but the chosen one is at least, in real numbers: distances are
// compared like scores, ‖r − e_k‖² − ‖r − e_c‖² = 2(s_k − s_c), and the chosen one's is known.
float bound_others(const Codebook& book, const Block& block, int row, const Choice& choice, double chosen) {
    double square = choice.runner_up;
    if (book.screened && !block.blind[row]) {
        if (choice.word != block.word[row]) return 0.0f;  // it took float64: too close to be told apart later
        const double error = score32_error(block.rounded, row), second = block.second[row] - error,
                     rest = block.rest[row];
        square = chosen + 2 * ((rest < second ? rest : second) - block.best[row] - error);
    }
    return square > 0 ? below(std::sqrt(square), 0x1p-20) : 0.0f;
}

// r ← r − e and, where it is asked for, q ← q + e, each rounded once: what every backend does.
void subtract(const Search& search, const Codebook& book, Block& block, int row, std::int64_t word) {
    const float* from = word_at(book, word);
    float* residual = residual_of(search, block, row);
    auto most = Vector::zero();
    for (std::int64_t d = 0; d < search.stride; d += kLanes) {
        const auto left = Vector::subtract(Vector::load(residual + d), Vector::load(from + d));
        Vector::store(residual + d, left);
        most = Vector::larger(most, Vector::magnitude(left));
    }
    block.rounded.largest[row] = largest_of(most);
    if (!search.quantized) return;
    float* quantized = block.quantized + row * search.stride;
    for (std::int64_t d = 0; d < search.stride; d += kLanes)
        Vector::store(quantized + d, Vector::add(Vector::load(quantized + d), Vector::load(from + d)));
}

// A row that holds NaN or Inf leaves the search; zeros go on in its place.
void bury_unless_finite(const Search& search, Block& block, int row) {
    if (block.rounded.largest[row] <= FLT_MAX) return;
    block.dead[row] = true;
    block.rounded.largest[row] = 0.0f;
    std::memset(block.residual + row * search.stride, 0, search.stride * sizeof(float));
}

void search_level(const Search& search, std::int64_t level, std::int64_t first, Block& block, int rows) {
    const Codebook& book = search.codebooks[level];
    const bool two = search.margins != nullptr;
    if (book.screened) screen(search, book, block, rows, two);
    for (int row = 0; row < rows; ++row) {
        if (block.dead[row]) continue;
        if (book.words == 0) {
            block.dead[row] = true;
            continue;
        }
        const Choice choice = choose(search, book, block, row, two);
        float* residual = residual_of(search, block, row);
        const std::int64_t target = search.at(first + row), at = target * search.levels + level;
        search.codes[at] = book.name[choice.word];
        if (search.scores) {  // `nearest`: no residual is asked for
            const double distance = distance64(residual, word_at(book, choice.word), search.stride);
            search.scores[target] = distance + offset_at(book, choice.word);
            if (search.lower) search.lower[target] = bound_others(book, block, row, choice, distance);
            continue;
        }
        // Float64 and the exact order may disagree by a rounding.
        if (two)
            search.margins[at] =
                choice.runner_up > choice.score ? static_cast<float>(choice.runner_up - choice.score) : 0.0f;
        subtract(search, book, block, row, choice.word);
        bury_unless_finite(search, block, row);
        if (two) {
            double error = 0.0;
            for (std::int64_t d = 0; d < search.width; ++d) error += double(residual[d]) * residual[d];
            search.errors[at] = static_cast<float>(error);
        }
    }
}

void write(const Search& search, std::int64_t first, const Block& block, int rows) {
    for (int row = 0; row < rows; ++row) {
        const std::int64_t at = search.at(first + row);
        if (search.quantized)
            std::memcpy(search.quantized + at * search.width, block.quantized + row * search.stride,
                        search.width * sizeof(float));
        if (!block.dead[row]) continue;
        for (std::int64_t level = 0; level < search.levels; ++level) {
            search.codes[at * search.levels + level] = -1;
            if (search.margins) search.margins[at * search.levels + level] = NAN;
            if (search.errors) search.errors[at * search.levels + level] = NAN;
        }
        if (search.quantized) std::memset(search.quantized + at * search.width, 0, search.width * sizeof(float));
        if (search.scores) search.scores[at] = NAN;
    }
}

}  // namespace

const Layout kLayout = Vector::kLayout;

std::size_t scratch_bytes(const Search& search) {
    Carver carver(nullptr);
    carve(search, carver);
    return carver.bytes();
}

void search_block(const Search& search, std::int64_t first, void* scratch) {
    Carver carver(scratch);
    Block block = carve(search, carver);
    const std::int64_t left = search.rows - first;
    const int rows = static_cast<int>(left < search.block ? left : search.block);
    if (search.quantized) std::memset(block.quantized, 0, rows * search.stride * sizeof(float));
    for (int row = 0; row < rows; ++row) {
        float* residual = residual_of(search, block, row);
        load_row<Vector>(search, search.at(first + row), residual);
        block.dead[row] = false;
        block.rounded.largest[row] = largest_of(residual, search.stride);
        bury_unless_finite(search, block, row);
    }
    for (std::int64_t level = 0; level < search.levels; ++level) search_level(search, level, first, block, rows);
    write(search, first, block, rows);
}

}  // namespace lf::LF_INSTRUCTION_SET

#ifdef LF_ENTRIES

namespace lf {
namespace {

void residual_search(const SearchRequest& request) {
    const auto set = static_cast<Set>(request.instruction_set);
    run_search(request, {LF_PICK(set, kLayout), LF_PICK(set, scratch_bytes), LF_PICK(set, search_block)});
}

}  // namespace
}  // namespace lf

LF_ENTRY(residual_search, SearchRequest)

#endif  // LF_ENTRIES
