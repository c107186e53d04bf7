// A folder that is there as long as the object.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

struct TemporaryFolder {
  std::string path;
  TemporaryFolder() : path((std::filesystem::temp_directory_path() / "caller-task-XXXXXX").string()) {
    if (!::mkdtemp(path.data())) std::abort();
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
};
