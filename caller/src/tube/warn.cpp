#include <cstdio>
#include <functional>
#include <mutex>
#include <string>

#include <caller/tube/tube.hpp>

#include "graph.hpp"

namespace caller::tube {

namespace {
struct Warnings {
  std::mutex mutex;
  std::function<void(const std::string&)> handler;
};
Warnings& warnings() {
  static Warnings w;
  return w;
}
}  // namespace

void set_warning_handler(std::function<void(const std::string&)> handler) {
  const std::lock_guard lock(warnings().mutex);
  warnings().handler = std::move(handler);
}
void warn(const std::string& message) {
  std::function<void(const std::string&)> handler;
  {
    const std::lock_guard lock(warnings().mutex);
    handler = warnings().handler;
  }
  if (handler)
    handler(message);
  else
    std::fprintf(stderr, "warning: %s\n", message.c_str());
}

}  // namespace caller::tube
