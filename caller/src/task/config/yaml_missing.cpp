#include <caller/task/error.hpp>

#include "file.hpp"

namespace caller::task::detail {

SettingNode parse_yaml(const std::string&, const std::string& path) {
  throw ConfigError(path + " cannot be read: the library was built without libyaml; write the settings as JSON");
}

}  // namespace caller::task::detail
