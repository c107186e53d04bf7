// The hash by which Jupyter clients name the file of a cell.
#pragma once

#include <cstdint>
#include <string_view>

namespace caller::kernel::debugger {

/// MurmurHash2 of the bytes, 32 bits, as JupyterLab computes it of a cell's text in UTF-8.
///
/// Thread-safety: any thread. Errors: none. Source: ipykernel `murmur2_x86`.
std::uint32_t murmur2(std::string_view data, std::uint32_t seed);

}  // namespace caller::kernel::debugger
