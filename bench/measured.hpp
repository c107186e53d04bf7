// Instructions and allocations of an operation once it is warm.
//
//   for ([[maybe_unused]] auto round : Measured("post", 1000)) { …1000 operations… }
//
// runs its body three times and counts the last: callgrind, if the program runs under it, dumps the instructions of
// exactly that round under the row's name; a line with the row's name, operations, allocations and whether any are
// allowed goes to standard output. bench/instructions.py puts the two together.
#pragma once

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_ZERO_STATS
#define CALLGRIND_DUMP_STATS_AT(name) static_cast<void>(name)
#endif

#include <cstdint>
#include <cstdio>

#include "count_new.hpp"

namespace bench {

enum class Allocations : bool { allowed, none };

class Measured {
public:
  Measured(const char* row, int operations, Allocations allocations = Allocations::allowed)
      : row_(row), operations_(operations), allocations_(allocations) {}

  class Round {
  public:
    int operator*() const noexcept {
      if (left_ == 1) {
        before_ = new_count().calls;
        CALLGRIND_ZERO_STATS;
      }
      return left_;
    }
    Round& operator++() {
      if (--left_ == 0) {
        CALLGRIND_DUMP_STATS_AT(of_->row_);
        const auto calls = static_cast<long>(new_count().calls - before_);
        const char* rule = of_->allocations_ == Allocations::none ? "none" : "allowed";
        std::printf("%s %d %ld %s\n", of_->row_, of_->operations_, calls, rule);
      }
      return *this;
    }
    friend bool operator!=(const Round& a, const Round& b) noexcept { return a.left_ != b.left_; }

  private:
    friend class Measured;
    Round(Measured* of, int left) noexcept : of_(of), left_(left) {}
    Measured* of_;
    int left_;
    mutable std::int64_t before_ = 0;
  };
  Round begin() noexcept { return {this, 3}; }
  Round end() noexcept { return {this, 0}; }

private:
  const char* row_;
  int operations_;
  Allocations allocations_;
};

/// Figures of one compiler are not those of another.
inline void print_compiler() {
#if defined(__clang__)
  std::printf("compiler clang++ %d\n", __clang_major__);
#else
  std::printf("compiler g++ %d\n", __GNUC__);
#endif
}

}  // namespace bench
