// A process that executes tasks until it is killed: `task_crash_worker APP STORE LOG LEASE RUNNER`, STORE being the
// address of a Redis server or a file. LOG gets a line for each execution that began: number, process, its runner's
// process, what the steady clock says, and what the wall clock says.
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

using namespace caller::task;

int main(int argc, char** argv) {
  if (argc < 6) return 2;
  const std::string id = argv[1], store = argv[2];
  const int log = ::open(argv[3], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (log < 0) return 3;
  AppBuilder builder;
  builder.app_id(id).lease(std::chrono::milliseconds(std::atoi(argv[4])));
  if (store.find("://") != std::string::npos)
    builder.redis(store);
  else
    builder.sqlite(store, {.sync = SqliteSync::none});
  const App app = builder.build();
  const auto note = [log](int n) {
    const auto ms = [](auto now) {
      return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count());
    };
    const std::string line = std::to_string(n) + " " + std::to_string(::getpid()) + " " + std::to_string(::getppid()) +
                             " " + ms(std::chrono::steady_clock::now()) + " " + ms(std::chrono::system_clock::now()) +
                             "\n";
    if (::write(log, line.data(), line.size()) != static_cast<ssize_t>(line.size()))
      throw std::runtime_error("the log cannot be written");
  };
  const auto work = app.task("c.work",
                             [note](int n) {
                               note(n);
                               std::this_thread::sleep_for(std::chrono::milliseconds(10));  // the work
                               return n * 2;
                             },
                             {"n"});
  const auto stay = app.task("c.stay",
                             [note](int n) {
                               note(n);
                               for (;;) ::pause();
                             },
                             {"n"});
  worker_main(app);
  RunnerOptions options;
  options.slots = 2;
  options.worker = {"/proc/self/exe", argv[1], argv[2], argv[3], argv[4], argv[5]};
  const auto kind = runner_kind_of(argv[5]);
  if (!kind) return 4;
  std::unique_ptr<Runner> runner;
  while (!runner) {
    try {
      auto fresh = app.make_runner(*kind, options);
      fresh->start();
      runner = std::move(fresh);
    } catch (const StateBackendError&) {  // a server that is not there when a worker starts
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
  char byte;
  while (::read(0, &byte, 1) > 0) {  // until the test is gone
  }
  runner->stop().wait();
  return 0;
}
