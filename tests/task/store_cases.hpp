// What the suites of every store share.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <caller/task/all.hpp>

#include "new_call.hpp"
#include "stores.hpp"

/// `f` on a fresh one of each kind, given as a reference, or as its handle.
template <class F>
void on_every_store(F f) {
  for (const StoreKind& kind : kStores) {
    const std::string store_name = kind.name;
    CAPTURE(store_name);
    const auto store = kind.make();
    if constexpr (std::is_invocable_v<F&, caller::task::Store&>)
      f(*store);
    else
      f(store);
  }
}

/// Keys, ids and values that are no plain words to one store or another.
inline const std::vector<std::string> kOdd = [] {
  using namespace std::string_literals;
  return std::vector{"*"s,    "a:b"s,      "a:b:"s, "12:x"s, "'; DROP TABLE value; --"s, "{x}"s, "\0"s,
                     "a\0b"s, "\xff\xff"s, "%s"s,   "\r\n"s};
}();

inline std::vector<std::string> ids(const std::vector<caller::task::InvocationRecord>& records) {
  std::vector<std::string> out;
  for (const auto& r : records) out.push_back(r.id);
  return out;
}
inline std::vector<std::string> selected(caller::task::Store& store, caller::task::Selection s, std::size_t offset = 0,
                                         std::size_t most = 100) {
  return ids(store.list(std::move(s), offset, most).wait());
}

/// Takes everything and ends the one called `id` as `to`; the others run on.
inline void end(caller::task::Store& store, const std::string& id, caller::task::Status to,
                std::vector<caller::task::NewInvocation> then = {}, std::vector<std::string> data = {}) {
  while (!store.take("runner", 10, {}).wait().empty()) {
  }
  store.change({id, caller::task::Status::running, "runner", {}, {}, {}}).wait();
  store.change({id, to, "runner", "r", "e", {}, std::move(data), std::move(then)}).wait();
}
