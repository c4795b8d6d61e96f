// Memory that vector registers like: whole cache lines, given back at the end of its scope.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace lf {

class Buffer {
  public:
    explicit Buffer(std::size_t bytes) : memory_(std::aligned_alloc(64, bytes / 64 * 64 + 64)) {
        if (!memory_) throw std::bad_alloc();
    }
    void* data() const { return memory_.get(); }
    float* floats() const { return static_cast<float*>(memory_.get()); }

  private:
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };
    std::unique_ptr<void, Free> memory_;
};

}  // namespace lf
