// c_l = argmin_k ‖r_{l−1} − e_k‖² + offset_k, r_l = fl32(r_{l−1} − e_{c_l}), all levels of a block of rows.
//
// Compiled once per instruction set. A block of rows stays in the thread's scratch through all levels:
// residuals in float32, and at each level their bytes (screen.h), the candidates and what settles them
// (settle.h). Nothing of the size rows × codewords exists.
#include "instruction_set.h"
#include "screen.h"
#include "scratch.h"
#include "settle.h"

namespace lf::LF_INSTRUCTION_SET {
namespace {

// Candidates a row may collect; with more, it is settled over all codewords.
constexpr int kMost = 64;
constexpr int kOverflow = -1;

// Rows that go through a tile's stages together, so that one's latency hides behind the others' work.
constexpr int kTogether = 8;

struct Block {
    float* residual;       // [rows, stride]
    float* quantized;      // [rows, stride]
    bool* dead;            // [rows]: NaN or Inf
    std::uint8_t* bytes;   // [rows, stride]
    Rounded rounded;       // [rows] each
    float* ceiling;        // [rows] U: no score of a nearest codeword is above (two: of the two nearest)
    float* first;          // [rows] two: the least upper bound, where `ceiling` is the second least
    int* count;            // [rows]
    std::int32_t* words;   // [rows, kMost] candidates
    float* lower;          // [rows, kMost] lower bounds of their scores
    float* tile_scores;    // [kTogether, kTilePanels, kPanelWords]
    float* tile_smallest;  // [kTogether, kTilePanels, kLanes]
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
    float** const numbers[] = {&of.largest, &of.square, &of.half,    &of.scale,   &of.error,      &of.inverse,
                               &of.along,   &of.across, &of.float32, &of.product, &block.ceiling, &block.first};
    for (float** number : numbers) *number = carver.take<float>(rows);
    block.count = carver.take<int>(rows);
    block.words = carver.take<std::int32_t>(rows * kMost);
    block.lower = carver.take<float>(rows * kMost);
    block.tile_scores = carver.take<float>(kTogether * kTilePanels * kPanelWords);
    block.tile_smallest = carver.take<float>(kTogether * kTilePanels * kLanes);
    block.tile_bounds = carver.take<float>(kTogether * kTileBounds);
    return block;
}

float* residual_of(const Search& search, const Block& block, int row) { return block.residual + row * search.stride; }

// Lowers U by a tile: its most promising codeword is scored in float32, whose error is far below E.
void lower_ceiling(const Search& search, const Codebook& book, Block& block, int row, const Tile& tile) {
    auto lanes = Vector::fill(FLT_MAX);
    for (std::int64_t p = 0; p < tile.panels; ++p) lanes = Vector::smaller(lanes, Vector::load(tile.smallest + p * kLanes));
    const float least = Vector::smallest(lanes);
    if (!(least <= block.ceiling[row])) return;
    for (std::int64_t begin = 0; begin < tile.panels; begin += kGroup) {
        const std::uint64_t hits = lanes_below(tile, begin, least);
        if (!hits) continue;
        const int bit = __builtin_ctzll(hits);
        const float* scores = tile.scores + (begin + bit / kLanes) * kPanelWords + bit % kLanes;
        int best = 0;
        for (int v = 1; v < kVectors; ++v) best = scores[v * kLanes] < scores[best * kLanes] ? v : best;
        const std::int64_t word = (tile.first + begin + bit / kLanes) * kPanelWords + best * kLanes + bit % kLanes;
        if (word >= book.words) return;
        const float upper = score32(book, residual_of(search, block, row), word) + score32_error(block.rounded, row);
        block.ceiling[row] = upper < block.ceiling[row] ? upper : block.ceiling[row];
        return;
    }
}

// The same for the second least upper bound.
void lower_second(Block& block, int row, const Tile& tile) {
    float least = block.first[row], second = block.ceiling[row];
    for (std::int64_t i = 0; i < tile.panels * kLanes; ++i) {
        const float upper = tile.smallest[i] + 2 * tile.bounds[i / kLanes];
        const float larger = upper < least ? least : upper;
        least = upper < least ? upper : least;
        second = larger < second ? larger : second;
    }
    block.first[row] = least;
    block.ceiling[row] = second;
}

// Drops candidates that a lower U ruled out.
void prune(Block& block, int row) {
    int kept = 0;
    for (int i = 0; i < block.count[row]; ++i) {
        const int from = row * kMost + i, to = row * kMost + kept;
        block.words[to] = block.words[from];
        block.lower[to] = block.lower[from];
        kept += block.lower[from] <= block.ceiling[row];
    }
    block.count[row] = kept;
}

// Adds a tile's candidates.
void collect(const Codebook& book, Block& block, int row, const Tile& tile) {
    const float ceiling = block.ceiling[row];
    std::int32_t* words = block.words + row * kMost;
    float* lower = block.lower + row * kMost;
    int count = block.count[row];
    if (count == kOverflow) return;
    for (std::int64_t begin = 0; begin < tile.panels; begin += kGroup) {
        for (std::uint64_t hits = lanes_below(tile, begin, ceiling); hits; hits &= hits - 1) {
            if (count + kVectors > kMost) {
                block.count[row] = count;
                prune(block, row);
                count = block.count[row];
                if (count + kVectors > kMost) {
                    block.count[row] = kOverflow;
                    return;
                }
            }
            const int bit = __builtin_ctzll(hits);
            const std::int64_t panel = begin + bit / kLanes;
            for (int v = 0; v < kVectors; ++v) {
                const std::int64_t at = panel * kPanelWords + v * kLanes + bit % kLanes;
                const std::int64_t word = tile.first * kPanelWords + at;
                words[count] = static_cast<std::int32_t>(word);
                lower[count] = tile.scores[at] - tile.bounds[panel];
                count += (lower[count] <= ceiling) & (word < book.words);  // not the padding
            }
        }
    }
    block.count[row] = count;
}

void screen(const Search& search, const Codebook& book, Block& block, int rows, bool two) {
    constexpr int kRows = Vector::kRows;
    round_rows(block.residual, rows, book, block.rounded, block.bytes);
    for (int row = 0; row < rows; ++row) {
        block.ceiling[row] = block.first[row] = FLT_MAX;
        // A bound that is huge or no number rules nobody out.
        block.count[row] = bound_of(book, block.rounded, row, book.panels - 1) < 0x1p100f ? 0 : kOverflow;
    }
    const auto score = book.stride > kShortWidth ? score_tile<kBlockSteps> : score_tile<kShortBlockSteps>;
    const std::int64_t panels = tile_panels(book);
    Tile tiles[kTogether];
    for (std::int64_t first = 0; first < book.panels; first += panels) {
        for (int i = 0; i < kTogether; ++i)
            tiles[i] = {first, first + panels < book.panels ? panels : book.panels - first,
                        block.tile_scores + i * kTilePanels * kPanelWords, block.tile_smallest + i * kTilePanels * kLanes,
                        block.tile_bounds + i * kTileBounds};
        for (int begin = 0; begin < rows; begin += kTogether) {
            const int together = rows - begin < kTogether ? rows - begin : kTogether;
            for (int i = 0; i < together; i += kRows)
                score(book, first, tiles[i].panels, block.bytes + (begin + i) * search.stride, block.rounded.inverse + begin + i,
                      block.tile_scores + i * kTilePanels * kPanelWords, block.tile_smallest + i * kTilePanels * kLanes);
            for (int i = 0; i < together; ++i) find_bounds(book, block.rounded, begin + i, tiles[i]);
            for (int i = 0; i < together; ++i)
                two ? lower_second(block, begin + i, tiles[i]) : lower_ceiling(search, book, block, begin + i, tiles[i]);
            for (int i = 0; i < together; ++i) collect(book, block, begin + i, tiles[i]);
        }
    }
    if (panels >= book.panels) return;
    for (int row = 0; row < rows; ++row)
        if (block.count[row] > 1) prune(block, row);
}

// The nearest of a row's candidates: by float32 scores where their gap exceeds their error, else settled.
Choice choose(const Search& search, const Codebook& book, const Block& block, int row, bool two) {
    const float* residual = residual_of(search, block, row);
    const std::int32_t* words = block.words + row * kMost;
    const int count = block.count[row];
    Choice choice;
    // Without a candidate the bound was not a number, and the screen said nothing.
    if (!book.screened || count < 1) return settle_all(residual, book);
    float ceiling = INFINITY, scores[kMost];
    if (!two) {
        choice.word = words[0];
        if (count == 1) return choice;
        float least = INFINITY, second = INFINITY;
        for (int i = 0; i < count; ++i) {
            const float score = scores[i] = score32(book, residual, words[i]);
            const float larger = score < least ? least : score;
            choice.word = score < least ? words[i] : choice.word;
            least = score < least ? score : least;
            second = larger < second ? larger : second;
        }
        ceiling = least + 2 * score32_error(block.rounded, row) * (1 + 0x1p-10f);
        if (second > ceiling) return choice;
    }
    choice.word = -1;
    for (int i = 0; i < count; ++i)
        if (two || !(scores[i] > ceiling)) contend(residual, book, words[i], choice);
    return choice;
}

// r ← r − e and q ← q + e, each rounded once: what every backend does.
void subtract(const Search& search, const Codebook& book, Block& block, int row, std::int64_t word) {
    const float* from = word_at(book, word);
    float* residual = residual_of(search, block, row);
    float* quantized = block.quantized + row * search.stride;
    auto most = Vector::zero();
    for (std::int64_t d = 0; d < search.stride; d += kLanes) {
        const auto codeword = Vector::load(from + d), left = Vector::subtract(Vector::load(residual + d), codeword);
        Vector::store(residual + d, left);
        Vector::store(quantized + d, Vector::add(Vector::load(quantized + d), codeword));
        most = Vector::larger(most, Vector::magnitude(left));
    }
    const std::int32_t bits = Vector::largest(most);
    std::memcpy(block.rounded.largest + row, &bits, sizeof bits);
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
        const std::int64_t at = (first + row) * search.levels + level;
        search.codes[at] = book.name[choice.word];
        if (search.scores)
            search.scores[first + row] = distance64(residual, word_at(book, choice.word), search.stride) + offset_at(book, choice.word);
        if (two) search.margins[at] = static_cast<float>(choice.runner_up - choice.score);
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
        const std::int64_t at = first + row;
        if (search.quantized)
            std::memcpy(search.quantized + at * search.width, block.quantized + row * search.stride, search.width * sizeof(float));
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

extern const Layout kLayout;
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
    std::memset(block.quantized, 0, rows * search.stride * sizeof(float));
    for (int row = 0; row < rows; ++row) {
        float* residual = residual_of(search, block, row);
        load_row<Vector>(search, first + row, residual);
        block.dead[row] = false;
        block.rounded.largest[row] = largest_of(residual, search.stride);
        bury_unless_finite(search, block, row);
    }
    for (std::int64_t level = 0; level < search.levels; ++level) search_level(search, level, first, block, rows);
    write(search, first, block, rows);
}

}  // namespace lf::LF_INSTRUCTION_SET
