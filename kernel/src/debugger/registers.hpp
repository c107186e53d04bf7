// The registers of a stopped thread, by the numbers that the stub tells the debugger. Internal to this folder.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "traps.hpp"

namespace caller::kernel::debugger {

#if CALLER_DEBUGGER_SUPPORTED

/// What `qRegisterInfo` answers; none behind the last one.
std::optional<std::string> register_info(std::size_t number);

/// Its bytes in the order of memory; none for a number that does not exist.
std::optional<std::string> read_register(const Stop& stop, std::size_t number);
/// False: no such register, one that cannot be written, or another size.
bool write_register(Stop& stop, std::size_t number, std::string_view bytes);

std::string read_all_registers(const Stop& stop);
bool write_all_registers(Stop& stop, std::string_view bytes);

inline constexpr std::size_t kRip = 16, kRsp = 7, kRbp = 6;

#endif

}  // namespace caller::kernel::debugger
