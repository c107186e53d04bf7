// What lldb-dap says, as a client of the kernel's may read it: without the names that the kernel itself gives.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace caller::kernel::debugger {

/// The text without the names of what stands around a cell.
std::string clean(std::string text);

/// The same for a text in an object, if it is there.
void clean_field(nlohmann::json& object, const char* name);

/// A text in an object; empty if there is none.
std::string text_of(const nlohmann::json& object, const char* name);

/// The path of the object's "source"; empty if there is none.
std::string path_of(const nlohmann::json& object);

/// Whether a variable belongs to the text that stands around a cell.
bool is_internal(std::string name);

}  // namespace caller::kernel::debugger
