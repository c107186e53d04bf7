#include "find_adapter.hpp"

#include <unistd.h>

#include <cstdlib>

namespace caller::kernel::debugger {

std::optional<std::string> find_adapter() {
  const char* path = std::getenv("PATH");
  const std::string all = path ? path : "/usr/local/bin:/usr/bin:/bin";
  for (const char* name : {"lldb-dap-19", "lldb-dap", "lldb-vscode"})
    for (std::size_t begin = 0; begin <= all.size();) {
      std::size_t end = all.find(':', begin);
      if (end == std::string::npos) end = all.size();
      const std::string program = all.substr(begin, end - begin) + "/" + name;
      if (end > begin && ::access(program.c_str(), X_OK) == 0) return program;
      begin = end + 1;
    }
  return std::nullopt;
}

}  // namespace caller::kernel::debugger
