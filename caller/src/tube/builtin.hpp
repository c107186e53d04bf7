// The types every registry has.
#pragma once

#include <caller/tube/registry.hpp>

namespace caller::tube::detail {

/// map, gather, return, tube.
void add_special_types(Registry& registry);
/// sum, len and others that specifications for noob name without a package.
void add_builtin_types(Registry& registry);
/// noob.testing.*
void add_testing_types(Registry& registry);

}  // namespace caller::tube::detail
