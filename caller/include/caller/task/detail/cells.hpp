// Functions of cells as tasks: what a notebook's compiler writes down of them, and what their workers do. For the
// library.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include <caller/export.hpp>
#include <caller/task/detail/calls.hpp>
#include <caller/task/options.hpp>
#include <caller/task/store.hpp>
#include <caller/task/task.hpp>

namespace caller::task {

namespace detail {

/// What the compiler of a notebook writes down of a function that is given to App::task: under the address of it, the
/// key of its source, its parameters and, if it can be no task, why. A later one replaces an earlier one.
/// Thread-safety: any thread. Errors: none.
CALLER_API bool know_function(const void* address, std::string key, std::vector<Param> params, std::string fault);
/// The source for that key: its name, a hash of the cells' text, and the text itself as JSON. With an `id`, that and no
/// other is the task's.
struct CellSource {
  std::string name, hash, json, id;
};
CALLER_API void keep_source(const std::string& key, CellSource source);

/// What the task of a function is made with.
struct Known {
  std::string id;
  std::vector<Param> params;
  std::string source;
};
/// Errors: TaskRoutingError when nothing is known of it.
CALLER_API Known known_function(const void* address, const TaskOptions& options);

/// Options as JSON; of `retry_for` only the names, which do not come back. Errors: SerializationError.
CALLER_API std::string options_json(const TaskOptions& options);
CALLER_API TaskOptions options_from_json(const std::string& json);

/// From now on who builds an application of that id in this process gets this one: the cells of a notebook that a
/// worker compiles again say how to make theirs, and mean the worker's. Null: nobody any more.
CALLER_API void share_app(const std::string& app_id, AppPtr app);
CALLER_API AppPtr shared_app(const std::string& app_id);
/// The source of a function of cells, of whatever process; none: the store knows none of that id.
/// Errors: StateBackendError.
CALLER_API std::optional<std::string> stored_source(Store& store, const std::string& task_id);
/// An application of the same id and store whose calls run where they are made.
CALLER_API AppPtr inline_app(const AppPtr& app);
/// The newest application of that id in this process; null: there is none.
CALLER_API AppPtr living_app(const std::string& app_id);

/// What runs the plain tasks that are functions of cells: their code may fault, or never end. Set once, by a kernel.
using CellGuard = std::string (*)(const std::function<std::string()>& body, std::stop_token stop);
CALLER_API void set_cell_guard(CellGuard guard) noexcept;

template <class F>
const void* address_of(const F& f) noexcept {
  if constexpr (std::is_function_v<F>)
    return reinterpret_cast<const void*>(&f);
  else if constexpr (std::is_pointer_v<F>)
    return reinterpret_cast<const void*>(f);
  else
    return std::addressof(f);
}

/// A default argument, as a value of its parameter's type.
template <class F, std::size_t I>
using ParameterType = std::decay_t<std::tuple_element_t<I, typename FunctionOf<std::decay_t<F>>::Arguments>>;
template <class F, std::size_t I>
ParameterType<F, I> default_of(ParameterType<F, I> value) {
  return value;
}

}  // namespace detail

}  // namespace caller::task
