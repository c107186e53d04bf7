// A plugin: a shared object that registers node types.
#include <caller/tube/all.hpp>

namespace {
caller::Generator<long> squares() {
  for (long i = 0;; ++i) co_yield i* i;
}
}  // namespace

extern "C" CALLER_API void caller_tube_plugin(caller::tube::Registry& registry) {
  registry.add("plugin.squares", &squares);
}
