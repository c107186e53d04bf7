// Where specifications are found: definitions, the search path, files.
#pragma once

#include <filesystem>
#include <string>

#include "tree.hpp"

namespace caller::tube::detail {

/// By id if something has it, else by path. Errors: SpecError, Error(not_found).
Tree load_tree(const std::string& source);
Tree load_id(const std::string& id);
Tree load_file(const std::filesystem::path& path);

}  // namespace caller::tube::detail
