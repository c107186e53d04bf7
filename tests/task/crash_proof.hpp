// Workers that are killed, on one store, and what must hold all the same.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "worker_process.hpp"

/// How the workers of one test are started.
struct Crew {
  std::string app, store, log;
  std::chrono::milliseconds lease{400};
};

/// One that executes tasks, with a clock of its own.
class CrashWorker : public WorkerProcess {
public:
  CrashWorker(const Crew& crew, const std::string& runner, int clock_offset,
              const std::vector<std::string>& before = {})
      : WorkerProcess(words(crew, runner, clock_offset, before)) {}

private:
  static std::vector<std::string> words(const Crew& crew, const std::string& runner, int clock_offset,
                                        std::vector<std::string> before) {
    ::setenv("CALLER_TEST_CLOCK_OFFSET", std::to_string(clock_offset).c_str(), 1);
    for (const std::string& w : {std::string(CALLER_TASK_CRASH_WORKER), crew.app, crew.store, crew.log,
                                 std::to_string(crew.lease.count()), runner})
      before.push_back(w);
    return before;
  }
};

/// An execution that began.
struct Begun {
  int number = 0;
  pid_t pid = 0, parent = 0;
  long long steady = 0, wall = 0;
};
inline std::vector<Begun> begun_in(const std::string& log) {
  std::vector<Begun> out;
  std::ifstream in(log);
  for (Begun b; in >> b.number >> b.pid >> b.parent >> b.steady >> b.wall;) out.push_back(b);
  return out;
}

/// Every one of the group has ended once and well, and began at least once; how many began more often.
inline std::size_t check_ends(const caller::task::App& app, const Crew& crew,
                              const caller::task::InvocationGroup<int>& group, const std::vector<int>& results) {
  using namespace caller::task;
  const std::size_t tasks = group.invocations().size();
  CHECK(std::set<int>(results.begin(), results.end()).size() == tasks);
  std::map<int, int> times;
  for (const Begun& b : begun_in(crew.log)) ++times[b.number];
  std::size_t twice = 0, never = 0;
  for (std::size_t i = 0; i < tasks; ++i) {
    never += times[static_cast<int>(i)] == 0;
    twice += times[static_cast<int>(i)] > 1;
  }
  CHECK(never == 0);
  Store& store = app.store();
  CHECK(store.counts().wait() == std::vector<std::pair<Status, std::size_t>>{{Status::success, tasks}});
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < tasks; ++i) {
    const auto& inv = group.invocations()[i];
    const auto h = inv.history();
    wrong += std::count_if(h.begin(), h.end(), [](const auto& e) { return is_final(e.status); }) != 1;
    wrong += inv.result() != static_cast<int>(i) * 2;
  }
  CHECK(wrong == 0);
  return twice;
}

/// No process of the application's workers is left.
inline void check_no_orphans(const std::string& app) {
  std::size_t left = 1;
  for (const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
       left > 0 && std::chrono::steady_clock::now() < until;) {
    left = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      std::ifstream in(entry.path() / "cmdline");
      std::string line;
      std::getline(in, line);
      left += line.find("--caller-task-worker=" + app) != std::string::npos;
    }
  }
  CHECK(left == 0);
}
