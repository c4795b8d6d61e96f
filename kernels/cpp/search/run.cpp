#include "search/run.h"

#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "runtime/parallel.h"
#include "search/pack.h"

namespace lf {
namespace {

// Rows of a block: enough to reuse a tile of codewords, few enough to stay in the L2 cache.
constexpr std::int64_t kBlockRows = 64, kWideBlockRows = 16, kWide = 1024;

// Packed codebooks of earlier calls. A hit compares every float, so that it can't be stale, and that costs a
// small part of packing anew. The oldest go first.
class Cache {
  public:
    std::shared_ptr<const PackedCodebook> get(const float* words, std::int64_t count, std::int64_t width,
                                              Layout layout) {
        const std::scoped_lock lock(mutex_);
        for (const Entry& entry : entries_)
            if (entry.layout == layout && entry.packed->holds(words, count, width)) return entry.packed;
        return nullptr;
    }
    void put(std::shared_ptr<const PackedCodebook> packed, Layout layout) {
        if (packed->bytes() > kBytes) return;
        const std::scoped_lock lock(mutex_);
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

void share_out(const Search& search, const SearchKernels& kernels, std::int32_t threads) {
    const std::size_t bytes = kernels.scratch_bytes(search);
    const std::int64_t blocks = (search.rows + search.block - 1) / search.block;
    const int count = threads_for(blocks, threads);
    const Scratch scratch(count, bytes);
    for (int thread = 0; thread < count; ++thread) std::memset(scratch.of(thread), 0, bytes);
    // Rows don't depend on each other: neither the split nor the order changes a result.
    for_parts(blocks, count, 4,
              [&](std::int64_t i, int thread) { kernels.block(search, i * search.block, scratch.of(thread)); });
}

}  // namespace

void run_search(const SearchRequest& request, const SearchKernels& kernels) {
    std::vector<std::shared_ptr<const PackedCodebook>> packed;
    std::vector<Codebook> views;
    std::int64_t begin = 0;
    for (std::int64_t level = 0; level < request.levels; ++level) {
        const std::int64_t size = request.sizes[level];
        packed.push_back(pack(request.codebooks + begin * request.x.width,
                              request.offset ? request.offset + begin : nullptr, size, request.x.width,
                              kernels.layout));
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
    search.block = search.stride > kWide ? kWideBlockRows : kBlockRows;
    if (search.beam > 1) search.block = search.beam < search.block ? search.block / search.beam : 1;
    share_out(search, kernels, request.threads);
}

}  // namespace lf
