#include "jit_tasks/known_sources.hpp"

#include <caller/task/app.hpp>

#include "jit_tasks/source_json.hpp"

namespace caller::kernel {

void keep_source(const std::string& key, const FunctionSource& source) {
  task::detail::keep_source(
      key, {source.name, source.hash, source.fault.empty() ? source_to_json(source) : std::string(), {}});
}

}  // namespace caller::kernel
