// A process that executes tasks and acts on triggers until its input ends: `trigger_worker DATABASE LOG LEASE`.
#include "trigger_worker.hpp"

#include <unistd.h>

#include <chrono>
#include <string>

#include <caller/all.hpp>

using namespace caller::task;

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const App app = AppBuilder{}
                      .app_id("workers")
                      .sqlite(argv[1], {.sync = SqliteSync::none})
                      .lease(std::chrono::milliseconds(std::stoi(argv[3])))
                      .build();
  declare_triggers(app);
  const auto runner = app.thread_runner({2, {}, {}});
  runner->start();
  char byte;
  while (::read(0, &byte, 1) > 0) {
  }
  runner->stop().wait();
  return 0;
}
