#include <caller/task/error.hpp>

#include "file.hpp"

namespace caller::task::detail {

SettingNode parse_toml(const std::string&, const std::string& path) {
  throw ConfigError(path + " cannot be read: the library was built without toml++; write the settings as JSON");
}

}  // namespace caller::task::detail
