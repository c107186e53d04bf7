// What the kernel writes into a cell of its own to make functions and classes of cells nodes of tubes. Not for direct
// use; a cell that uses tubes includes <caller/tube/all.hpp>.
#pragma once

#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <caller/tube/registry.hpp>
#include <caller/tube/runner.hpp>

namespace caller::kernel::detail {

/// The value of a default argument; none for one that says that nothing is there.
template <class P>
std::optional<tube::Value> default_value(std::remove_cvref_t<P> value) {
  if constexpr (tube::detail::is_optional<std::remove_cvref_t<P>>) {
    if (!value) return std::nullopt;
    return tube::Value(std::move(*value));
  } else {
    return tube::Value(std::move(value));
  }
}

/// A parameter as the compiler knows it; `fallback` is the value of its default argument.
struct CellParameter {
  const char* name;
  std::optional<tube::Value> fallback{};
};

/// The slots among the parameters: those that the runner does not fill itself.
template <class Tuple>
tube::Slots cell_slots(std::vector<CellParameter> parameters) {
  std::vector<tube::SlotName> slots;
  std::size_t i = 0;
  [&]<class... P>(std::type_identity<std::tuple<P...>>) {
    const auto one = [&](bool injected) {
      if (!injected) {
        tube::SlotName slot(parameters[i].name);
        slot.fallback = std::move(parameters[i].fallback);
        slots.push_back(std::move(slot));
      }
      ++i;
    };
    (one(tube::detail::injected<P>), ...);
  }(std::type_identity<Tuple>{});
  return tube::Slots(std::move(slots));
}

/// The types of a function's parameters, and of one of them.
template <class F>
using ParametersOf = typename tube::detail::Signature<F>::Arguments;
template <class F, std::size_t I>
using ParameterOf = std::tuple_element_t<I, ParametersOf<F>>;

/// Takes a type from `made` into the registry of the process, in the place of an older one of that name.
inline void take_node(const tube::Registry& made, const char* name) {
  tube::registry().insert(tube::NodeType(*made.find(name)), true);
}
inline void take_asset(const tube::Registry& made, const char* name) {
  tube::registry().insert(tube::AssetType(*made.find_asset(name)), true);
}

}  // namespace caller::kernel::detail
