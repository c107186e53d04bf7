// Which queues a runner serves; the store in Redis says the same in Lua.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace caller::task::detail {

/// Of a queue with a dot before its name only who names it.
inline bool serves(const std::vector<std::string>& queues, std::string_view queue) {
  if (queues.empty()) return !queue.starts_with('.');
  return std::find(queues.begin(), queues.end(), queue) != queues.end();
}

}  // namespace caller::task::detail
