// How the address space reserved for cells is divided. Internal to this folder.
#pragma once

#include <cstddef>
#include <cstdint>

namespace caller::kernel {

/// Less than 2 GiB together: an address of one part is 32 bits away from every other, however far.
inline constexpr std::size_t kCellCode = std::size_t{512} << 20, kCellConstants = kCellCode,
                             kCellVariables = std::size_t{768} << 20;
inline constexpr std::size_t kCellSpace = kCellCode + kCellConstants + kCellVariables;
/// What is asked for, so that there is a choice where to begin.
inline constexpr std::size_t kCellReservation = kCellSpace + kCellCode;

/// Is there a multiple of 4 GiB among these addresses? A function there has no unwind table: libgcc (12) takes an
/// address whose lower 32 bits are zero for that of a function which the linker has removed.
constexpr bool holds_lost_address(std::uintptr_t begin, std::size_t size) noexcept {
  constexpr std::uintptr_t k4GiB = std::uintptr_t{1} << 32;
  const std::uintptr_t next = (begin + k4GiB - 1) / k4GiB * k4GiB;
  return next - begin < size;
}

struct CellLayout {
  std::uintptr_t begin;                       // of the kCellSpace that is used
  std::uintptr_t variables, code, constants;  // where each part begins
};

/// A division of a reservation that leaves no lost address in the code. The code is in the middle: the libraries, which
/// lie on both sides, are within 2 GiB of it, and called without a stub in between. (A debugger takes the caller of a
/// stub for the caller's caller, as nothing tells how to unwind there.)
constexpr CellLayout cell_layout(std::uintptr_t reservation) noexcept {
  const bool lost = holds_lost_address(reservation + kCellVariables, kCellCode);
  const std::uintptr_t begin = reservation + (lost ? kCellReservation - kCellSpace : 0);
  return {begin, begin, begin + kCellVariables, begin + kCellVariables + kCellCode};
}

}  // namespace caller::kernel
