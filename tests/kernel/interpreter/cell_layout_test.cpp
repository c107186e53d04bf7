#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <utility>

#include "interpreter/cell_layout.hpp"

using namespace caller::kernel;

namespace {

constexpr std::uintptr_t k4GiB = std::uintptr_t{1} << 32;
constexpr std::size_t kPage = 4096;

}  // namespace

TEST_CASE("a range holds a lost address when a multiple of 4 GiB is in it") {
  CHECK(holds_lost_address(k4GiB, 1));
  CHECK(holds_lost_address(k4GiB - kPage, kPage + 1));
  CHECK_FALSE(holds_lost_address(k4GiB - kPage, kPage));
  CHECK_FALSE(holds_lost_address(k4GiB + 1, k4GiB - 1));
  CHECK(holds_lost_address(k4GiB + 1, k4GiB));
}

TEST_CASE(
    "wherever the system puts the reservation, no code lies at a multiple of 4 GiB and what lies around is in its "
    "reach") {
  const std::uintptr_t first = 0x7f00 * k4GiB;
  // In steps of 64 MiB, as malloc's regions next to it are aligned, and a page to either side.
  for (std::uintptr_t at = first; at <= first + k4GiB; at += std::uintptr_t{64} << 20) {
    for (const std::uintptr_t begin : {at - kPage, at, at + kPage}) {
      CAPTURE(begin);
      const CellLayout layout = cell_layout(begin);
      CHECK_FALSE(holds_lost_address(layout.code, kCellCode));
      std::array parts{std::pair(layout.code, kCellCode), std::pair(layout.constants, kCellConstants),
                       std::pair(layout.variables, kCellVariables)};
      std::sort(parts.begin(), parts.end());
      std::uintptr_t next = layout.begin;
      for (const auto& [where, size] : parts) {
        CHECK(where == next);
        next = where + size;
      }
      CHECK(next == layout.begin + kCellSpace);
      CHECK(layout.begin >= begin);
      CHECK(next <= begin + kCellReservation);
      // The libraries on either side of the reservation are within 2 GiB of every place in the code.
      constexpr std::uintptr_t kLibraries = std::uintptr_t{256} << 20, k2GiB = k4GiB / 2;
      CHECK(layout.code + kCellCode - (begin - kLibraries) <= k2GiB);
      CHECK(begin + kCellReservation + kLibraries - layout.code <= k2GiB);
    }
  }
}
