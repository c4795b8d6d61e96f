// Calls a library as record_calls.py saw another one called, and compares every array bit by bit; of floating-point
// numbers any NaN is as good as any other, whose bits architectures differ in.
//
//     replay LIBRARY CALLS SETS EVERY    the library must say that this processor has SETS, "portable neon …";
//                                        one call in EVERY is replayed
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr char kMagic[] = "letter-fast calls 1\n";
// Bytes before and after an array, which nobody may write to.
constexpr std::size_t kFence = 64;
constexpr unsigned char kFenceByte = 0xa5;

[[noreturn]] void fail(const std::string& why) {
    std::fprintf(stderr, "replay: %s\n", why.c_str());
    std::exit(2);
}

struct Array {
    std::uint32_t at;    // of its pointer in the request
    std::uint32_t kind;  // 4, 8: floating point of so many bytes; 1: float32 bounds; 0: bits
    std::string before, after;
};

struct Call {
    std::string operation, test;
    std::int32_t status, set_at;
    std::string request;
    std::vector<Array> arrays;
};

class Reader {
  public:
    explicit Reader(const char* path) : file_(std::fopen(path, "rb")) {
        if (!file_ || text(std::strlen(kMagic)) != kMagic) fail(std::string("no file of calls: ") + path);
    }
    bool more() {
        const int next = std::fgetc(file_);
        std::ungetc(next, file_);
        return next != EOF;
    }
    Call call() {
        Call call;
        call.operation = text(number<std::uint32_t>());
        call.test = text(number<std::uint32_t>());
        call.status = number<std::int32_t>();
        call.set_at = number<std::int32_t>();
        call.request = text(number<std::uint32_t>());
        call.arrays.resize(number<std::uint32_t>());
        for (Array& array : call.arrays) {
            array.at = number<std::uint32_t>();
            array.kind = number<std::uint32_t>();
            array.before = text(number<std::uint64_t>());
            array.after = number<std::uint32_t>() ? text(array.before.size()) : array.before;
        }
        return call;
    }

  private:
    template <class T> T number() {
        T value;
        std::memcpy(&value, text(sizeof value).data(), sizeof value);
        return value;
    }
    std::string text(std::size_t bytes) {
        std::string to(bytes, '\0');
        if (std::fread(to.data(), 1, bytes, file_) != bytes) fail("the file of calls ends early");
        return to;
    }

    std::FILE* file_;
};

// An array of a call, between fences.
class Memory {
  public:
    explicit Memory(const Array& array) : array_(array), bytes_(array.before.size()) {
        memory_ = static_cast<unsigned char*>(std::aligned_alloc(64, (bytes_ + 2 * kFence + 63) / 64 * 64));
        if (!memory_) fail("not enough memory");
        std::memset(memory_, kFenceByte, bytes_ + 2 * kFence);
        std::memcpy(at(), array.before.data(), bytes_);
    }
    ~Memory() { std::free(memory_); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    unsigned char* at() { return memory_ + kFence; }

    // What is wrong with it after the call; empty: nothing.
    std::string wrong() {
        for (std::size_t i = 0; i < kFence; ++i)
            if (memory_[i] != kFenceByte || at()[bytes_ + i] != kFenceByte) return "was written beyond its ends";
        if (std::memcmp(at(), array_.after.data(), bytes_) == 0) return "";
        return array_.kind == 1   ? exceeds()
               : array_.kind == 4 ? differs<float, std::uint32_t>()
               : array_.kind == 8 ? differs<double, std::uint64_t>()
                                  : std::string("differs");
    }

  private:
    template <class T, class Bits> std::string differs() {
        std::size_t count = 0;
        std::ostringstream first;
        for (std::size_t i = 0; i < bytes_ / sizeof(T); ++i) {
            T found, expected;
            Bits found_bits, expected_bits;
            std::memcpy(&found, at() + i * sizeof(T), sizeof(T));
            std::memcpy(&expected, array_.after.data() + i * sizeof(T), sizeof(T));
            std::memcpy(&found_bits, &found, sizeof(T));
            std::memcpy(&expected_bits, &expected, sizeof(T));
            if (found_bits == expected_bits || (std::isnan(found) && std::isnan(expected))) continue;
            if (count++ == 0) {
                first.precision(17);
                first << "element " << i << " is " << found << ", not " << expected;
            }
        }
        if (count == 0) return "";
        return "differs in " + std::to_string(count) + ": " + first.str();
    }

    std::string exceeds() {
        for (std::size_t i = 0; i < bytes_ / sizeof(float); ++i) {
            float found, most;
            std::memcpy(&found, at() + i * sizeof found, sizeof found);
            std::memcpy(&most, array_.after.data() + i * sizeof most, sizeof most);
            if (!(found >= 0) || found > most)
                return "has a bound of " + std::to_string(found) + " above " + std::to_string(most);
        }
        return "";
    }

    const Array& array_;
    const std::size_t bytes_;
    unsigned char* memory_;
};

template <class Function> Function symbol(void* library, const std::string& name) {
    void* const found = dlsym(library, name.c_str());
    if (!found) fail("the library has no " + name);
    return reinterpret_cast<Function>(found);
}

// Whether the library answers as recorded; says so where not.
bool same(void* library, const Call& call, std::int32_t set, const std::string& name) {
    const auto entry = symbol<std::int32_t (*)(const void*)>(library, "lf_" + call.operation);
    std::vector<std::uint64_t> request((call.request.size() + 7) / 8);
    char* const fields = reinterpret_cast<char*>(request.data());
    std::memcpy(fields, call.request.data(), call.request.size());
    if (call.set_at >= 0) std::memcpy(fields + call.set_at, &set, sizeof set);
    std::vector<std::unique_ptr<Memory>> memory;
    for (const Array& array : call.arrays) {
        memory.push_back(std::make_unique<Memory>(array));
        const void* const at = memory.back()->at();
        std::memcpy(fields + array.at, &at, sizeof at);
    }
    const std::int32_t status = entry(fields);
    std::string wrong = status == call.status ? "" : "returns status " + std::to_string(status);
    for (std::size_t i = 0; i < memory.size() && wrong.empty(); ++i)
        if (const std::string what = memory[i]->wrong(); !what.empty())
            wrong = "the array at byte " + std::to_string(call.arrays[i].at) + " of the request " + what;
    if (wrong.empty()) return true;
    std::printf("%s, %s of %s: %s\n", name.c_str(), call.operation.c_str(), call.test.c_str(), wrong.c_str());
    return false;
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 5) fail("LIBRARY CALLS SETS EVERY");
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    void* const library = dlopen(arguments[1], RTLD_NOW);
    if (!library) fail(dlerror());
    std::vector<std::string> sets;
    std::istringstream names(symbol<const char* (*)()>(library, "lf_instruction_sets")());
    for (std::string name; names >> name;) sets.push_back(name);
    sets.resize(symbol<std::int32_t (*)()>(library, "lf_instruction_set")() + 1);
    std::string all;
    for (const std::string& name : sets) all += (all.empty() ? "" : " ") + name;
    if (all != arguments[3]) fail("the library sees " + all + ", not " + arguments[3]);

    Reader reader(arguments[2]);
    std::map<std::string, int> calls, wrong;
    for (int number = 0, every = std::max(1, std::atoi(arguments[4])); reader.more(); ++number) {
        const Call call = reader.call();
        if (number % every != 0) continue;
        const auto bytes = symbol<std::int64_t (*)()>(library, "lf_" + call.operation + "_bytes")();
        if (bytes != static_cast<std::int64_t>(call.request.size()))
            fail("a request of " + call.operation + " has other fields: record the calls anew");
        ++calls[call.operation];
        // Those that don't ask for a set run once.
        const std::size_t runs = call.set_at < 0 ? 1 : sets.size();
        for (std::size_t set = 0; set < runs; ++set)
            wrong[call.operation] += !same(library, call, static_cast<std::int32_t>(set), sets[set]);
    }
    std::printf("%s\n", all.c_str());
    int failures = 0, total = 0;
    for (const auto& [operation, number] : calls) {
        std::printf("  %5d calls of %s%s\n", number, operation.c_str(),
                    wrong[operation] ? (", wrong: " + std::to_string(wrong[operation])).c_str() : "");
        total += number;
        failures += wrong[operation];
    }
    if (total == 0) fail("no calls were recorded");
    return failures ? 1 : 0;
}
