// The processes of nodes: how they are started, and what they are told first.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/process.hpp"

namespace caller::tube::detail {

using caller::detail::Child;
using caller::detail::Descriptor;
using caller::detail::kChannel;

/// The argument that makes a program a worker.
inline constexpr const char* kWorkerArgument = "--caller-tube-node";

/// Starts `command` with the argument above, and sends it `setup` over the channel. Errors: as Child::start.
Child start_node(std::vector<std::string> command, std::string_view setup);

/// The worker's program: `caller-tube-node` beside this library or in PATH.
std::string find_worker();

/// Reads everything of the setup from the channel. Errors: std::runtime_error.
std::string read_setup(int channel);

}  // namespace caller::tube::detail
