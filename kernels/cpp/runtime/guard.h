// An entry point ends with a status. An exception that left it would end the process.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <new>
#include <stdexcept>

#include "simd/dispatch.h"

namespace lf {

// Mirrored by library.py.
enum Status : std::int32_t {
    kDone = 0,
    kNoMemory = 1,
    kFailed = 2,
    kCodeOutside = 3,
    kNoGroups = 4,
    kNoRoom = 5,
    kNotFinite = 6
};

// The fault of the numbers asked about: one of the last statuses.
struct Refused : std::exception {
    explicit Refused(Status what) : status(what) {}
    Status status;
};

// The message of the last failure on this thread.
inline thread_local char last_failure[256] = "";

// The status of `work`, which may throw.
template <class Work> std::int32_t guarded(const Work& work) noexcept {
    try {
        work();
        return kDone;
    } catch (const Refused& refused) {
        return refused.status;
    } catch (const std::bad_alloc&) {
        return kNoMemory;
    } catch (const std::length_error&) {  // more than a vector could ever hold
        return kNoMemory;
    } catch (const std::exception& failure) {
        std::snprintf(last_failure, sizeof last_failure, "%s", failure.what());
        return kFailed;
    } catch (...) {
        std::snprintf(last_failure, sizeof last_failure, "unknown exception");
        return kFailed;
    }
}

// Codes are −1, or name one of `size` codewords.
inline void check_codes(const std::int64_t* codes, std::int64_t count, std::int64_t size) {
    std::uint64_t largest = 0;
    for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, static_cast<std::uint64_t>(codes[i]) + 1);
    if (largest > static_cast<std::uint64_t>(size)) throw Refused{kCodeOutside};
}

// Codes [rows, levels]: those of a row are all −1, or name one of their level's codewords each.
inline void check_codes(const std::int64_t* codes, std::int64_t rows, std::int64_t levels, const std::int64_t* sizes) {
    for (std::int64_t row = 0; row < rows; ++row, codes += levels) {
        bool inside = true, marked = true;
        for (std::int64_t level = 0; level < levels; ++level) {
            inside &= static_cast<std::uint64_t>(codes[level]) < static_cast<std::uint64_t>(sizes[level]);
            marked &= codes[level] == -1;
        }
        if (!inside && !marked) throw Refused{kCodeOutside};
    }
}

// starts [groups + 1] divide `rows` rows.
inline void check_groups(const std::int64_t* starts, std::int64_t groups, std::int64_t rows) {
    if (starts[0] != 0 || starts[groups] != rows || !std::is_sorted(starts, starts + groups + 1))
        throw Refused{kNoGroups};
}

inline void check_finite(const float* values, std::int64_t count) {
    if (!std::all_of(values, values + count, [](float value) { return std::isfinite(value); }))
        throw Refused{kNotFinite};
}

}  // namespace lf
