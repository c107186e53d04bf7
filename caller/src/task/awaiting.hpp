// Who awaits the end of an invocation, as stores keep it whose invocations are elsewhere. Internal to this folder.
#pragma once

#include <exception>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include <caller/pending.hpp>
#include <caller/task/error.hpp>
#include <caller/task/store.hpp>

namespace caller::task::detail {

/// They are told by the store itself. A callback on another Pending would keep the context of whoever waits, and all
/// that it holds, for as long as the invocation does not end.
struct Awaiting {
  std::vector<Pending<void>> ends;
  std::vector<Pending<InvocationRecord>> records;

  /// Those who do not want to know any more are forgotten here.
  template <class T>
  void add(const Pending<T>& p) {
    auto& list = of<T>();
    std::erase_if(list, [](const auto& e) { return e.done(); });
    list.push_back(p);
  }
  template <class T>
  void remove(const Pending<T>& p) {
    std::erase(of<T>(), p);
  }
  bool empty() const noexcept { return ends.empty() && records.empty(); }
  /// `reported`: also to nobody, if nobody looks.
  void fail(const std::exception_ptr& error, bool reported = true) const {
    const auto each = [&](const auto& list) {
      for (const auto& p : list)
        if (p.set_exception(error) && !reported) (void)p.exception();
    };
    each(ends);
    each(records);
  }

private:
  template <class T>
  auto& of() {
    if constexpr (std::is_void_v<T>)
      return ends;
    else
      return records;
  }
};
using AwaitingById = std::unordered_map<std::string, Awaiting>;

/// For those of a store that goes, which is no error of theirs.
inline void fail_closed(const AwaitingById& left) {
  for (const auto& [id, awaiting] : left)
    awaiting.fail(
        std::make_exception_ptr(StateBackendError("the store of tasks was closed before invocation " + id + " ended")),
        false);
}

}  // namespace caller::task::detail
