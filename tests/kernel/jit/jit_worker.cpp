// Executes tasks of an application until its input ends, also those that only notebooks have defined.
//   jit_worker APP-ID FILE.db | redis://…
#include <iostream>
#include <string>

#include <caller/task/all.hpp>

#include "jit_tasks/jit_tasks.hpp"

int main(int argc, char** argv) {
  using namespace caller::task;
  if (argc != 3) return 2;
  const std::string place = argv[2];
  caller::kernel::JitTasks::Options options;
  options.log = [](const std::string& line) { std::cerr << line << std::endl; };
  caller::kernel::JitTasks jit(std::move(options));
  AppOptions how;
  how.app_id = argv[1];
  how.store = place.starts_with("redis://") ? make_redis_store(place, how.app_id) : make_sqlite_store(place);
  how.find_task = [&jit](const App& app, const std::string& id) { jit.find(app, id); };
  const App app(std::move(how));
  const auto runner = app.thread_runner({.slots = 1});
  runner->start();
  std::cout << "ready" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
  }
  runner->stop(true).wait();
}
