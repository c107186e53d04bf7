// Types that only other processes have: what they look like is enough to build the tube.
#pragma once

#include <set>
#include <string>

#include <caller/tube/value.hpp>

#include "../graph.hpp"

namespace caller::tube::detail {

/// What the types of nodes and assets of the tube, and of those inside of it, look like.
Map types_of(const Graph& g);

/// Registers those of which this process has nothing, and returns their names. Nodes of such a type cannot be made
/// here. Errors: Error(wrong_type), Error(no_such_key) for a map that types_of() has not made.
std::set<std::string> add_foreign_types(const Map& types);

}  // namespace caller::tube::detail
