// Processes that execute tasks from a database, and the test that kills them.
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "support/temporary_folder.hpp"
#include "worker_process.hpp"

inline constexpr caller::task::SqliteOptions kQuick{.sync = caller::task::SqliteSync::none};

/// One that executes the tasks of a database.
class Worker : public WorkerProcess {
public:
  Worker(const std::string& database, const std::string& log, const std::string& lease = "400")
      : WorkerProcess({CALLER_TASK_WORKER, database, log, lease}) {}
};

/// `tasks` of them on three workers, of which one is killed and replaced every `pause`.
inline void survive(int tasks, std::chrono::milliseconds pause) {
  using namespace caller::task;
  using namespace std::chrono_literals;
  const caller::test::TemporaryFolder folder;
  const std::string database = folder.file("tasks.db"), log = folder.file("log");
  const App app = AppBuilder{}.app_id("workers").sqlite(database, kQuick).lease(400ms).build();
  const auto note = app.task("w.note", [](int n) { return n; }, {"n"});  // executed by the workers, not here
  std::vector<std::tuple<int>> calls;
  for (int i = 0; i < tasks; ++i) calls.emplace_back(i);
  const auto group = note.parallelize(calls);
  std::vector<Worker> workers;
  for (int i = 0; i < 3; ++i) workers.emplace_back(database, log);
  std::vector<int> results;
  std::atomic<bool> all{false};
  std::thread waiter([&] {
    results = group.results();
    all = true;
  });
  std::size_t kills = 0;
  for (; !all; ++kills) {
    std::this_thread::sleep_for(pause);
    if (all) break;
    Worker& victim = workers[kills % workers.size()];
    victim.kill();
    victim = Worker(database, log);
  }
  waiter.join();
  CHECK(kills >= 3);
  CHECK(std::set<int>(results.begin(), results.end()).size() == static_cast<std::size_t>(tasks));
  for (auto& w : workers) CHECK(w.end() == 0);
  std::map<int, int> begun;
  std::ifstream in(log);
  for (int n; in >> n;) ++begun[n];
  std::size_t twice = 0;
  for (int i = 0; i < tasks; ++i) {
    CHECK_MESSAGE(begun[i] >= 1, "task " << i << " never began");
    twice += begun[i] > 1;
  }
  MESSAGE(kills << " workers were killed; " << twice << " of " << tasks << " tasks began more than once");
  Store& store = app.store();
  CHECK(store.counts().wait() ==
        std::vector<std::pair<Status, std::size_t>>{{Status::success, static_cast<std::size_t>(tasks)}});
  std::size_t recovered = 0;
  for (const auto& r : store.list("w.note", std::nullopt, 0, static_cast<std::size_t>(tasks)).wait()) {
    int ends = 0;
    for (const auto& h : store.history(r.id).wait()) {
      ends += is_final(h.status);
      recovered += h.status == Status::running_recovery;
    }
    CHECK_MESSAGE(ends == 1, r.id << " ended " << ends << " times");
  }
  CHECK(recovered >= 1);
}
