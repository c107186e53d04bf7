// Triggers of processes that are killed.
#include <doctest/doctest.h>

#include <set>

#include "trigger_worker.hpp"
#include "workers.hpp"

using namespace caller::task;
using namespace std::chrono_literals;

TEST_CASE("triggers: workers that are killed while they act lose no match, and double none") {
  const caller::test::TemporaryFolder folder;
  const std::string database = folder.file("tasks.db"), log = folder.file("log");
  const App app = AppBuilder{}.app_id("workers").sqlite(database, kQuick).lease(400ms).build();
  declare_triggers(app);
  std::vector<Worker> workers;
  for (int i = 0; i < 3; ++i) workers.emplace_back(database, log);
  constexpr int kEvents = 60;
  std::size_t kills = 0;
  const auto kill_one = [&] {
    Worker& victim = workers[kills++ % workers.size()];
    victim.kill();
    victim = Worker(database, log);
  };
  const auto count = [&](const char* task) {
    return app.store().list({.task_id = task, .status = Status::success}, 0, 1000).wait().size();
  };
  for (int n = 0; n < kEvents; ++n) {
    app.emit("tick", {{"n", n}});
    app.emit("tock", {{"n", n}});
    if (n % 10 == 9) kill_one();
  }
  while (count("w.done") < kEvents) {
    std::this_thread::sleep_for(100ms);
    if (kills < 12) kill_one();
  }
  for (auto& w : workers) CHECK(w.end() == 0);
  CHECK(kills >= 6);
  (void)app.evaluate_triggers();
  for (const char* task : {"w.echo", "w.done", "w.pair"}) {
    CAPTURE(task);
    std::multiset<int> seen;
    for (const auto& r : app.store().list(task, std::nullopt, 0, 1000).wait())
      seen.insert(decode<int>(Document(Format::json, r.args).root().at("n")));
    const std::set<int> once(seen.begin(), seen.end());
    if (task != std::string("w.pair")) CHECK(once.size() == kEvents);
    CHECK(once.size() == seen.size());
    CHECK_FALSE(seen.empty());
  }
  CHECK(app.store().values(std::string(kChangeKey), "", 10).wait().empty());
}
