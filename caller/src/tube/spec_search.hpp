// Where specifications are found: definitions, the search path, files.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tree.hpp"

namespace caller::tube::detail {

/// By id if something has it, else by path. Errors: SpecError, Error(not_found).
Tree load_tree(const std::string& source);
Tree load_id(const std::string& id);
Tree load_file(const std::filesystem::path& path);

/// What another process needs to find the same tubes: the folders added, first the oldest, and the define()d texts.
struct Findable {
  struct Text {
    std::string yaml, name;
    int first_line;
  };
  std::vector<std::filesystem::path> folders;
  std::vector<Text> texts;
};
Findable findable();

}  // namespace caller::tube::detail
