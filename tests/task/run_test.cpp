// Runner::run(), which ends by signals: each case sends them to its own process.
#include <doctest/doctest.h>
#include <signal.h>

#include <atomic>
#include <semaphore>
#include <thread>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

using namespace caller::task;

namespace {

/// Runs the application's runner in a thread until the end of the object.
struct Running {
  explicit Running(const App& app) : thread([this, &app] { end = app.runner().run(); }) {}
  ~Running() { join(); }
  void join() {
    if (thread.joinable()) thread.join();
  }
  std::atomic<RunEnd> end{};
  std::thread thread;
};

/// A thread runner that tells when it was asked to stop.
struct Telling final : Runner {
  Telling(std::unique_ptr<Runner> runner, std::binary_semaphore& asked) : inner(std::move(runner)), told(asked) {}
  const std::string& id() const noexcept override { return inner->id(); }
  void start() override { inner->start(); }
  caller::Pending<void> stop(bool at_once) override {
    auto stopped = inner->stop(at_once);
    told.release();
    return stopped;
  }
  std::size_t working() const noexcept override { return inner->working(); }
  std::unique_ptr<Runner> inner;
  std::binary_semaphore& told;
};

TEST_CASE("a signal lets what is at work end, and takes no more") {
  std::binary_semaphore begun{0}, go{0}, asked{0};
  const App app("run", {{"runner.slots", "1"}});
  app.set_runner(std::make_unique<Telling>(app.thread_runner(), asked));
  const auto slow = app.task("slow", [&] {
    begun.release();
    go.acquire();
    return 1;
  });
  const auto first = slow(), second = slow();
  Running run(app);
  begun.acquire();
  ::raise(SIGTERM);
  CHECK_THROWS_AS(app.thread_runner()->run(), RunnerError);  // one at a time
  asked.acquire();
  go.release();
  run.join();
  CHECK(run.end == RunEnd::drained);
  CHECK(first.status() == Status::success);
  CHECK(second.status() == Status::registered);
}

TEST_CASE("a second signal hands back what is at work") {
  std::binary_semaphore begun{0};
  const App app("run");
  const auto endless = app.task("endless", [&](std::stop_token stop) {
    begun.release();
    while (!stop.stop_requested()) std::this_thread::yield();
  });
  const auto call = endless();
  Running run(app);
  begun.acquire();
  ::raise(SIGINT);
  ::raise(SIGINT);
  run.join();
  CHECK(run.end == RunEnd::handed_back);
  CHECK(call.status() == Status::rerouted);
}

TEST_CASE("what does not end is told of") {
  std::binary_semaphore begun{0}, go{0};
  const App app("run", {{"runner.grace", "0ms"}});
  const auto stubborn = app.task("stubborn", [&] {
    begun.release();
    go.acquire();
  });
  const auto call = stubborn();
  Running run(app);
  begun.acquire();
  ::raise(SIGINT);
  ::raise(SIGTERM);
  run.join();
  CHECK(run.end == RunEnd::abandoned);
  go.release();
}

}  // namespace
