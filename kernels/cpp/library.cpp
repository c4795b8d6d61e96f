// The C ABI of the search: builds what a search needs, picks the instruction set, shares blocks of rows among threads.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "abi.h"
#include "simd/dispatch.h"
#include "search/pack.h"
#include "runtime/parallel.h"
#include "search/search.h"

namespace lf {

#define LF_DECLARE(set)                                                        \
    namespace set {                                                            \
    extern const Layout kLayout;                                               \
    std::size_t scratch_bytes(const Search&);                                  \
    void search_block(const Search&, std::int64_t first, void* scratch);       \
    std::size_t beam_scratch_bytes(const Search&);                             \
    void beam_block(const Search&, std::int64_t first, void* scratch);         \
    }
LF_FOR_EACH_SET(LF_DECLARE)

namespace {

Set widest_set() {
#ifdef LF_EMULATED
    return kAvx512Vnni;
#elif defined(LF_X86)
    __builtin_cpu_init();
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (avx512 && __builtin_cpu_supports("avx512vnni")) return kAvx512Vnni;
    if (avx512) return kAvx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) return kAvx2;
#endif
    return kPortable;
}

Kernels kernels_of(Set set) {
    return {LF_PICK(set, kLayout), LF_PICK(set, scratch_bytes), LF_PICK(set, search_block),
            LF_PICK(set, beam_scratch_bytes), LF_PICK(set, beam_block)};
}

// Rows of a block: enough to reuse a tile of codewords, few enough to stay in the L2 cache.
constexpr std::int64_t kBlockRows = 64, kWideBlockRows = 16, kWide = 1024;

// Packed codebooks of earlier calls. A hit compares every float, so that it can't be stale, and that costs a
// small part of packing anew. The oldest go first.
class Cache {
  public:
    std::shared_ptr<const PackedCodebook> get(const float* words, std::int64_t count, std::int64_t width, Layout layout) {
        const std::lock_guard<std::mutex> lock(mutex_);
        for (const Entry& entry : entries_)
            if (entry.layout.lanes == layout.lanes && entry.layout.narrow_sums == layout.narrow_sums &&
                entry.packed->holds(words, count, width))
                return entry.packed;
        return nullptr;
    }
    void put(std::shared_ptr<const PackedCodebook> packed, Layout layout) {
        if (packed->bytes() > kBytes || packed->left_out()) return;
        const std::lock_guard<std::mutex> lock(mutex_);
        held_ += packed->bytes();
        entries_.push_back({std::move(packed), layout});
        while (held_ > kBytes || entries_.size() > kEntries) {
            held_ -= entries_.front().packed->bytes();
            entries_.pop_front();
        }
    }

  private:
    struct Entry {
        std::shared_ptr<const PackedCodebook> packed;
        Layout layout;
    };
    static constexpr std::size_t kBytes = std::size_t{32} << 20, kEntries = 16;
    std::mutex mutex_;
    std::deque<Entry> entries_;
    std::size_t held_ = 0;
};

std::shared_ptr<const PackedCodebook> pack(const float* words, const double* offset, std::int64_t count,
                                           std::int64_t width, Layout layout) {
    static Cache cache;
    if (offset) return std::make_shared<PackedCodebook>(words, offset, count, width, layout);
    if (auto found = cache.get(words, count, width, layout)) return found;
    auto made = std::make_shared<const PackedCodebook>(words, offset, count, width, layout);
    cache.put(made, layout);
    return made;
}

void run(const Search& search, const Kernels& kernels, std::int32_t threads) {
    const bool beam = search.beam > 1;
    const auto block = beam ? kernels.beam_block : kernels.search_block;
    const std::size_t bytes = (beam ? kernels.beam_scratch_bytes(search) : kernels.scratch_bytes(search));
    const std::int64_t blocks = (search.rows + search.block - 1) / search.block;
    const int count = threads_for(blocks, threads);
    const Scratch scratch(count, bytes);
    for (int thread = 0; thread < count; ++thread) std::memset(scratch.of(thread), 0, bytes);
    // Rows don't depend on each other: neither the split nor the order changes a result.
    for_parts(blocks, count, 4, [&](std::int64_t i, int thread) { block(search, i * search.block, scratch.of(thread)); });
}

}  // namespace

LF_REQUEST(SearchRequest, {
    Matrix x;
    const float* codebooks;  // [ΣK, width]
    const double* offset;    // [ΣK] or null
    const std::int64_t* sizes;
    std::int64_t levels, beam;
    const std::int64_t* index;  // [indexed] the rows that are meant, or null: all of them
    std::int64_t indexed;
    std::int64_t* codes;  // [rows, levels]
    float* quantized;     // [rows, width] or null
    float* margins;       // [rows, levels] or null, with errors
    float* errors;
    double* scores;       // [rows] or null
    float* lower;         // [rows], zeros, or null
    std::int32_t threads, instruction_set;
});

namespace {

void residual_search(const SearchRequest& request) {
    const Kernels kernels = kernels_of(static_cast<Set>(request.instruction_set));
    std::vector<std::shared_ptr<const PackedCodebook>> packed;
    std::vector<Codebook> views;
    std::int64_t begin = 0;
    for (std::int64_t level = 0; level < request.levels; ++level) {
        const std::int64_t size = request.sizes[level];
        packed.push_back(pack(request.codebooks + begin * request.x.width,
                              request.offset ? request.offset + begin : nullptr, size, request.x.width, kernels.layout));
        views.push_back(packed.back()->view());
        begin += size;
    }
    Search search{};
    static_cast<Matrix&>(search) = request.x;
    if (request.index) search.rows = request.indexed;
    search.levels = request.levels;
    search.codebooks = views.data();
    search.beam = request.beam;
    search.codes = request.codes;
    search.quantized = request.quantized;
    search.margins = request.margins;
    search.errors = request.errors;
    search.scores = request.scores;
    // Nothing bounds the distance to a codeword that was left out.
    search.lower = packed.back()->left_out() ? nullptr : request.lower;
    search.index = request.index;
    search.stride = views.front().stride;
    search.block = search.beam > 1 ? 1 : search.stride > kWide ? kWideBlockRows : kBlockRows;
    run(search, kernels, request.threads);
}

}  // namespace
}  // namespace lf

LF_ENTRY(residual_search, SearchRequest)

// The widest instruction set this processor runs: 0 portable, 1 AVX2 + FMA, 2 AVX-512 (F, BW, DQ, VL),
// 3 AVX-512 with VNNI.
LF_EXPORT std::int32_t lf_instruction_set() { return lf::widest_set(); }

// What went wrong when an entry point last returned kFailed to this thread.
LF_EXPORT const char* lf_last_failure() { return lf::last_failure; }

LF_EXPORT const char* lf_Matrix_fields() { return lf::Matrix_fields; }
LF_EXPORT const char* lf_Problems_fields() { return lf::Problems_fields; }
