// What the processes of trigger_kill_test.cpp have in common.
#pragma once

#include <caller/task/all.hpp>

/// An event calls w.echo, its result w.done, and two of them in turn w.pair.
inline void declare_triggers(const caller::task::App& app) {
  using namespace caller::task;
  const auto echo = app.task("w.echo", [](int n) { return n; }, {"n"});
  const auto done = app.task("w.done", [](int n) { return n; }, {"n"});
  const auto pair = app.task("w.pair", [](int n) { return n; }, {"n"});
  app.on(event("tick"), echo, [](const Match& m) { return m.value<int>("n"); });
  app.on(result(echo), done, [](const Match& m) { return m.result<int>(); });
  app.on(all_of(event("tick"), event("tock")), pair, [](const Match& m) { return m.parts().at(1).value<int>("n"); });
}
