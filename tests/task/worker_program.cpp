// A process that executes tasks from a database until it is killed: `task_worker DATABASE LOG LEASE`. Writes a line
// into LOG for each execution that began.
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

using namespace caller::task;

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const int log = ::open(argv[2], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (log < 0) return 3;
  const App app = AppBuilder{}
                      .app_id("workers")
                      .sqlite(argv[1], {.sync = SqliteSync::none})
                      .lease(std::chrono::milliseconds(std::stoi(argv[3])))
                      .build();
  const auto task = app.task("w.note",
                             [log](int n) {
                               const std::string line = std::to_string(n) + "\n";
                               if (::write(log, line.data(), line.size()) != static_cast<ssize_t>(line.size()))
                                 throw std::runtime_error("the log cannot be written");
                               std::this_thread::sleep_for(std::chrono::milliseconds(15));  // the work
                               return n * 2;
                             },
                             {"n"});
  TaskOptions one;
  one.running_concurrency = Concurrency::TASK;
  const auto endless = app.task("w.endless", [](std::stop_token stop) {
    while (!stop.stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  const auto exclusive = app.task(
      "w.exclusive",
      [log](int n) {
        const std::string begin = "+" + std::to_string(n) + "\n";
        const std::string end = "-" + std::to_string(n) + "\n";
        (void)!::write(log, begin.data(), begin.size());
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        (void)!::write(log, end.data(), end.size());
      },
      {"n"}, one);
  const auto runner = app.thread_runner({2, {}, {}});
  runner->start();
  char byte;
  while (::read(0, &byte, 1) > 0) {  // until the test is gone
  }
  runner->stop().wait();
  return 0;
}
