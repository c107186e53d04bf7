// Each kind of runner on each store, with one of the serializers.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runner_board.hpp"
#include "stores.hpp"
#include "support/comes_true.hpp"

namespace runner_tests {

using namespace caller::task;

inline constexpr std::array kKinds{RunnerKind::thread, RunnerKind::process, RunnerKind::persistent_process,
                                   RunnerKind::multi_thread};

struct Setting {
  const char* store;
  std::shared_ptr<Store> (*make)();
  Format format;
};
inline const std::vector<Setting> kSettings = [] {
  std::vector<Setting> out;
  for (const Format format : {Format::json, Format::cbor})
    for (const StoreKind& s : kStores) out.push_back({s.name, s.make, format});
  return out;
}();

inline AppOptions options_for(Format format) {
  AppOptions o;
  o.app_id = format == Format::json ? "runners-json" : "runners-cbor";
  o.format = format;
  return o;
}

/// So many slots, however the kind arranges them.
inline RunnerOptions with_slots(RunnerKind kind, std::size_t slots) {
  RunnerOptions o;
  o.slots = slots;
  if (kind == RunnerKind::multi_thread) {
    o.max_processes = (slots + 1) / 2;
    o.threads = std::min<std::size_t>(slots, 2);
  }
  return o;
}

/// An application on one of the stores, with one runner.
struct Bench {
  RunnerKind kind;
  App app;
  Tasks tasks{app};
  std::unique_ptr<Runner> runner;

  Bench(RunnerKind k, const Setting& s, std::size_t slots = 2, const std::function<void(AppOptions&)>& more = {},
        const std::function<void(RunnerOptions&)>& more_of_runner = {})
      : kind(k), app([&] {
          board().clear();
          AppOptions o = options_for(s.format);
          o.store = s.make();
          if (more) more(o);
          return App(std::move(o));
        }()) {
    RunnerOptions o = with_slots(kind, slots);
    if (more_of_runner) more_of_runner(o);
    runner = app.make_runner(kind, std::move(o));
  }
  void start() { runner->start(); }
};

template <class F>
void on(const std::vector<RunnerKind>& kinds, F f) {
  for (const RunnerKind kind : kinds)
    for (const Setting& s : kSettings) {
      const std::string runner(name(kind));
      CAPTURE(runner);
      CAPTURE(s.store);
      CAPTURE(static_cast<int>(s.format));
      f(kind, s);
    }
}
template <class F>
void on_every_runner(F f) {
  on({kKinds.begin(), kKinds.end()}, f);
}
template <class F>
void on_processes(F f) {
  on({kKinds.begin() + 1, kKinds.end()}, f);
}

inline std::vector<Status> states(const InvocationBase& i) {
  std::vector<Status> out;
  for (const auto& h : i.history()) out.push_back(h.status);
  return out;
}
using caller::test::comes_true;
inline bool alive(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(in, text);
  const auto at = text.rfind(") ");
  return at != std::string::npos && text[at + 2] != 'Z';
}
inline void await_end(pid_t pid) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (alive(pid) && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK_FALSE(alive(pid));
}

}  // namespace runner_tests
