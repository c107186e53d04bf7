// Processes that execute tasks from a database, and the test that kills them.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

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

#include "temporary_folder.hpp"

inline constexpr caller::task::SqliteOptions kQuick{.sync = caller::task::SqliteSync::none};

/// A process that executes tasks; ends with the test, however that ends.
class Worker {
public:
  Worker(const std::string& database, const std::string& log, std::string lease = "400") {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    input_ = ends[1];
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[0], 0);
    std::string program = CALLER_TASK_WORKER, file = database, to = log;
    char* argv[] = {program.data(), file.data(), to.data(), lease.data(), nullptr};
    REQUIRE(::posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[0]);
  }
  Worker(Worker&& other) noexcept : pid_(std::exchange(other.pid_, -1)), input_(std::exchange(other.input_, -1)) {}
  Worker& operator=(Worker&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(input_, other.input_);
    return *this;
  }
  ~Worker() {
    if (pid_ > 0) kill();
  }
  void kill() {
    ::kill(pid_, SIGKILL);
    wait();
  }
  /// Its exit code after its input has ended.
  int end() {
    ::close(std::exchange(input_, -1));
    return wait();
  }

private:
  int wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    if (input_ >= 0) ::close(std::exchange(input_, -1));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  pid_t pid_ = -1;
  int input_ = -1;
};

/// `tasks` of them on three workers, of which one is killed and replaced every `pause`.
inline void survive(int tasks, std::chrono::milliseconds pause) {
  using namespace caller::task;
  using namespace std::chrono_literals;
  const TemporaryFolder folder;
  const std::string database = folder.path + "/tasks.db", log = folder.path + "/log";
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
