// Every store with every serializer, and an application with a runner on one of them.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "stores.hpp"

struct Setting {
  const char* store;
  std::shared_ptr<caller::task::Store> (*make)();
  caller::task::Format format;
};

struct Bench {
  caller::task::App app;
  std::unique_ptr<caller::task::Runner> runner;
  explicit Bench(const Setting& s, std::size_t slots = 2,
                 const std::function<void(caller::task::AppOptions&)>& more = {})
      : app([&] {
          caller::task::AppOptions o;
          o.app_id = "test";
          o.store = s.make();
          o.format = s.format;
          if (more) more(o);
          return caller::task::App(std::move(o));
        }()),
        runner(app.thread_runner({slots, {}, {}})) {}
  void start() { runner->start(); }
};

template <class F>
void on_every_setting(F f) {
  using caller::task::Format;
  for (const StoreKind& store : kStores)
    for (const Format format : {Format::json, Format::cbor}) {
      const Setting s{store.name, store.make, format};
      CAPTURE(s.store);
      CAPTURE(static_cast<int>(s.format));
      f(s);
    }
}

/// The states an invocation has come through.
inline std::vector<caller::task::Status> states(const caller::task::InvocationBase& i) {
  std::vector<caller::task::Status> out;
  for (const auto& h : i.history()) out.push_back(h.status);
  return out;
}
