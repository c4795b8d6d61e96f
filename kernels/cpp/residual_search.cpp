// c_l = argmin_k ‖r_{l−1} − e_k‖² + offset_k, r_l = fl32(r_{l−1} − e_{c_l}), all levels of a block of rows.
//
// Compiled once per instruction set. A block of rows stays in the thread's scratch through all levels:
// residuals in float32, and at each level their bytes and the scores of one tile of codewords (screen.h).
// Whoever could be nearest goes into one list of candidates; who still could be when all tiles have been seen is
// scored in float32; where that leaves more than one, settle.h decides. Nothing of the size rows × codewords exists.
#include <algorithm>

#include "abi.h"
#include "search/candidates.h"
#include "search/run.h"
#include "search/screen.h"
#include "search/settle.h"
#include "simd/instruction_set.h"
#include "simd/scratch.h"

namespace lf::LF_INSTRUCTION_SET {
namespace {

// Codewords a row remembers having scored, should their scores be too close to tell.
constexpr int kRemembered = 32;

// Rows that go through a tile's stages together: what is joined across their lanes is joined for all at once.
constexpr int kTogether = kLanes;
// Candidates that a block's list holds.
constexpr int kMostCandidates = kMostFound + 1024;

struct Block {
    float* residual;        // [rows, stride]
    float* quantized;       // [rows, stride], if asked for
    bool* dead;             // [rows]: NaN or Inf
    std::uint8_t* bytes;    // [rows, stride]
    Rounded rounded;        // [rows] each
    bool* blind;            // [rows]: the screen's bound says nothing
    float* ceiling;         // [rows] U: no score of a nearest codeword is above (two: of the two nearest)
    std::int64_t* best;     // [rows] the least key so far: a float32 score and whose it is
    std::int64_t* second;   // [rows] the next
    std::int64_t* third;    // [rows] and the next, if two are looked for
    float* rest;            // [rows] lower: the least lower bound of all that were not scored
    int* count;             // [rows] how many were scored
    std::int32_t* scored;   // [rows, kRemembered] the first of them
    Tiles tiles;            // of kLanes rows
    Candidate* candidates;  // [kMostCandidates] not yet scored in float32
    int found;              // how many
};

Block carve(const Search& search, Carver& carver) {
    const std::int64_t rows = search.block, all = rows * search.stride;
    Block block;
    block.residual = carver.take<float>(all);
    block.quantized = carver.take<float>(all);
    block.dead = carver.take<bool>(rows);
    block.bytes = carver.take<std::uint8_t>(all);
    Rounded& of = block.rounded;
    float** const numbers[] = {&of.largest, &of.square, &of.half,    &of.scale,   &of.error,      &of.inverse,
                               &of.along,   &of.across, &of.float32, &of.product, &block.ceiling, &block.rest};
    for (float** number : numbers) *number = carver.take<float>(rows);
    block.blind = carver.take<bool>(rows);
    block.best = carver.take<std::int64_t>(rows);
    block.second = carver.take<std::int64_t>(rows);
    block.third = carver.take<std::int64_t>(rows);
    block.count = carver.take<int>(rows);
    block.scored = carver.take<std::int32_t>(rows * kRemembered);
    block.tiles.carve(carver, kTogether, search.codebooks, search.levels);
    block.candidates = carver.take<Candidate>(kMostCandidates);
    return block;
}

float* residual_of(const Search& search, const Block& block, int row) { return block.residual + row * search.stride; }

// A score and its codeword as one integer: keys are ordered as their scores, and need no branch to be compared.
std::int32_t ordered(std::int32_t bits) { return bits ^ (bits >> 31 & 0x7fffffff); }

std::int64_t key_of(float score, std::int32_t word) {
    std::int32_t bits;
    std::memcpy(&bits, &score, sizeof bits);
    const auto high = static_cast<std::uint64_t>(static_cast<std::uint32_t>(ordered(bits)));
    return static_cast<std::int64_t>(high << 32 | static_cast<std::uint32_t>(word));
}
float score_of(std::int64_t key) {
    const std::int32_t bits = ordered(static_cast<std::int32_t>(key >> 32));
    float score;
    std::memcpy(&score, &bits, sizeof score);
    return score;
}
std::int32_t word_of(std::int64_t key) { return static_cast<std::int32_t>(key); }
constexpr std::int64_t kNoKey = 0x7f800000ffffffff;  // of infinity

// Float32 scores of all candidates, kLanes at a time; kTwo: two codewords are looked for.
template <bool kTwo> LF_LOOP void score_candidates(const Codebook& book, const Block& block, int found) {
    std::int64_t *const best_of = block.best, *const second_of = block.second, *const third_of = block.third;
    std::int32_t *const scored = block.scored, *const count_of = block.count;
    for (const Candidate *of = block.candidates, *const end = of + found; of < end; of += kLanes) {
        const int some = end - of < kLanes ? static_cast<int>(end - of) : kLanes;
        float scores[kLanes];
        score_some(book, block.residual, of, some, scores);
        for (int i = 0; i < some; ++i) {
            const int row = of[i].row, count = count_of[row];
            const std::int64_t key = key_of(scores[i], of[i].word), best = best_of[row], second = second_of[row];
            const std::int64_t larger = best < key ? key : best;
            best_of[row] = best < key ? best : key;
            second_of[row] = second < larger ? second : larger;
            if (kTwo) {
                const std::int64_t largest = second < larger ? larger : second, third = third_of[row];
                third_of[row] = third < largest ? third : largest;
            }
            scored[row * kRemembered + (count < kRemembered ? count : kRemembered - 1)] = of[i].word;
            count_of[row] = count + 1;
        }
    }
}

void score_candidates(const Codebook& book, const Block& block, int found, bool two) {
    if (two)
        score_candidates<true>(book, block, found);
    else
        score_candidates<false>(book, block, found);
}

// Forgets the candidates whose lower bound is above U by now; -> how many are left.
LF_LOOP int drop_far(const Search& search, const Codebook& book, const Block& block) {
    const Candidate *from = block.candidates, *const end = from + block.found;
    Candidate* to = block.candidates;
    const float* const ceiling = block.ceiling;
    for (; from < end; ++from) {
        const Candidate candidate = *from;
        const bool near = candidate.lower <= ceiling[candidate.row];
        *to = candidate;
        to += near;
        // It will be scored soon.
        __builtin_prefetch(book.exact + candidate.word * book.stride);
        __builtin_prefetch(book.exact + candidate.word * book.stride + 16);
        if (!search.lower || near) continue;
        float& rest = block.rest[candidate.row];
        rest = std::min(rest, candidate.lower);
    }
    return static_cast<int>(to - block.candidates);
}

// Lowers U to the least upper bound of a tile's scores; two: to the second least, each lane's is another codeword's.
void lower_ceilings(const Block& block, int begin, int together, const Tile* tiles, bool two) {
    float least[kTogether];
    Vector::Float uppers[kTogether];
    for (int i = 0; i < kTogether; ++i) uppers[i] = Vector::load(tiles[i < together ? i : 0].upper);
    Vector::store(least, Vector::smallest_of_each(uppers));
    if (two) {
        // A second lane that is as low goes with the first: what remains is an upper bound still.
        for (int i = 0; i < kTogether; ++i)
            uppers[i] =
                Vector::add(uppers[i], Vector::zero_below(Vector::fill(FLT_MAX), Vector::fill(least[i]), uppers[i]));
        Vector::store(least, Vector::smallest_of_each(uppers));
    }
    for (int i = 0; i < together; ++i)
        block.ceiling[begin + i] = least[i] < block.ceiling[begin + i] ? least[i] : block.ceiling[begin + i];
}

// Lowers `rest` to the least lower bound in kGroup panels, but for their candidates, those from `known` on.
void lower_rest(const Block& block, int begin, int together, const Tile* tiles, std::int64_t from, int known) {
    for (int i = known; i < block.found; ++i) {
        const Candidate& candidate = block.candidates[i];
        const Tile& tile = tiles[candidate.row - begin];
        tile.scores[candidate.word - tile.first * kPanelWords] = FLT_MAX;
    }
    const std::int64_t end = from + kGroup < tiles[0].panels ? from + kGroup : tiles[0].panels;
    for (int i = 0; i < together; ++i) {
        auto least = Vector::fill(block.rest[begin + i]);
        for (std::int64_t panel = from; panel < end; ++panel) {
            const float* scores = tiles[i].scores + panel * kPanelWords;
            auto smallest = Vector::load(scores);
            for (int v = 1; v < kVectors; ++v) smallest = Vector::smaller(smallest, Vector::load(scores + v * kLanes));
            least = Vector::smaller(least, Vector::subtract(smallest, Vector::fill(tiles[i].bound(panel))));
        }
        block.rest[begin + i] = Vector::smallest(least);
    }
}

// The candidates of a tile, for rows from `begin` on.
void compare(const Search& search, const Codebook& book, Block& block, int begin, int together, const Tile* tiles,
             bool two) {
    lower_ceilings(block, begin, together, tiles, two);
    for (std::int64_t panel = 0; panel < tiles[0].panels; panel += kGroup) {
        if (block.found > kMostCandidates - kMostFound) {
            block.found = drop_far(search, book, block);
            if (block.found > kMostCandidates - kMostFound) {
                score_candidates(book, block, block.found, two);
                block.found = 0;
            }
        }
        const int known = block.found;
        block.found += find_candidates(block.ceiling + begin, begin, together, tiles, panel, block.candidates + known);
        if (search.lower) lower_rest(block, begin, together, tiles, panel, known);
    }
}

void screen(const Search& search, const Codebook& book, Block& block, int rows, bool two) {
    constexpr int kRows = Vector::kRows;
    round_rows(block.residual, rows, book, block.rounded, block.bytes);
    block.found = 0;
    for (int row = 0; row < rows; ++row) {
        block.best[row] = block.second[row] = block.third[row] = kNoKey;
        block.rest[row] = INFINITY;
        block.count[row] = 0;
        // A bound that is huge or no number rules no codeword out. It is so for all panels or for none: only the row
        // can make it so.
        block.blind[row] = !(bound_of(book, block.rounded, row, book.panels - 1) < kLargestBound);
        block.ceiling[row] = block.blind[row] ? kNoCandidates : kHighest;
    }
    const ScoreTile score = score_tile_for(book);
    const std::int64_t panels = tile_panels(book);
    Tile tiles[kTogether];
    for (std::int64_t first = 0; first < book.panels; first += panels) {
        for (int i = 0; i < kTogether; ++i)
            tiles[i] = block.tiles.of(i, first, first + panels < book.panels ? panels : book.panels - first);
        for (int begin = 0; begin < rows; begin += kTogether) {
            const int together = rows - begin < kTogether ? rows - begin : kTogether;
            find_bounds(book, block.rounded, begin, tiles[0]);
            for (int i = 0; i < together; i += kRows) score(book, block.bytes + (begin + i) * search.stride, tiles[i]);
            compare(search, book, block, begin, together, tiles, two);
        }
    }
    // All candidates of a single tile have been seen with its U.
    if (book.panels > panels) block.found = drop_far(search, book, block);
    score_candidates(book, block, block.found, two);
}

// The nearest codeword of a row, as the screen found it or as it is settled; two: and the next one's score.
Choice choose(const Search& search, const Codebook& book, const Block& block, int row, bool two) {
    const float* residual = residual_of(search, block, row);
    if (!book.screened || block.blind[row]) return settle_all(residual, book);
    Choice choice;
    const float known = score_of(two ? block.second[row] : block.best[row]);
    const float ceiling = known + 2 * score32_error(block.rounded, row) * (1 + 0x1p-10f);
    if (score_of(two ? block.third[row] : block.second[row]) > ceiling) {
        choice.word = word_of(block.best[row]);
        if (!two || order_by_score(residual, book, word_of(block.second[row]), choice)) return choice;
        choice = {};
    }
    const bool remembered = block.count[row] <= kRemembered;
    const std::int64_t count = remembered ? block.count[row] : book.words;
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t word = remembered ? block.scored[row * kRemembered + i] : i;
        if (!(score32(book, residual, word) > ceiling)) contend(residual, book, word, choice);
    }
    return choice.word < 0 ? settle_all(residual, book) : choice;
}

// Lower bound of a row's distance to any codeword but the chosen one, in real numbers: distances are
// compared like scores, ‖r − e_k‖² − ‖r − e_c‖² = 2(s_k − s_c), and the chosen one's is known.
float bound_others(const Codebook& book, const Block& block, int row, const Choice& choice, double chosen) {
    double square = choice.runner_up;
    if (book.screened && !block.blind[row]) {
        if (choice.word != word_of(block.best[row])) return 0.0f;  // it took float64: too close to be told apart later
        const double error = tested(Bound::others, score32_error(block.rounded, row)),
                     second = score_of(block.second[row]) - error, rest = block.rest[row];
        square = chosen + 2 * ((rest < second ? rest : second) - score_of(block.best[row]) - error);
    }
    return square > 0 ? below(std::sqrt(square), 0x1p-20) : 0.0f;
}

// r ← r − e and, where it is asked for, q ← q + e, each rounded once: what every backend does.
void subtract(const Search& search, const Codebook& book, const Block& block, int row, std::int64_t word) {
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
void bury_unless_finite(const Search& search, const Block& block, int row) {
    if (block.rounded.largest[row] <= FLT_MAX) return;
    block.dead[row] = true;
    block.rounded.largest[row] = 0.0f;
    std::memset(block.residual + row * search.stride, 0, search.stride * sizeof(float));
}

// ‖r‖² of each row in float32: rounded from what float64 adds in order, of which nearly every other sum tells enough.
void measure_errors(const Search& search, std::int64_t level, std::int64_t first, const Block& block, int rows) {
    const double part = static_cast<double>(search.stride + 8) * 0x1p-52;
    for (int row = 0; row < rows; ++row) {
        const float* residual = residual_of(search, block, row);
        const double square = square64(residual, search.stride);
        auto error = static_cast<float>(square * (1 - part));
        if (error != static_cast<float>(square * (1 + part))) {
            double sum = 0.0;
            for (std::int64_t d = 0; d < search.width; ++d) sum += static_cast<double>(residual[d]) * residual[d];
            error = static_cast<float>(sum);
        }
        search.errors[search.at(first + row) * search.levels + level] = error;
    }
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
        const float* residual = residual_of(search, block, row);
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
    }
    if (two) measure_errors(search, level, first, block, rows);
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
    // The next block's, which this thread most likely searches next.
    for (std::int64_t row = first + search.block; row < first + 2 * search.block && row < search.rows; ++row)
        prefetch_row(search, search.at(row));
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
