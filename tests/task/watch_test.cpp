// What every store promises to triggers: the changes of tasks that are watched.
#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <caller/task/all.hpp>

#include "store_cases.hpp"

using namespace caller::task;
using namespace std::chrono_literals;
using namespace std::string_literals;

using If = ValueChange::If;

TEST_CASE("stores keep the changes of a task that is watched, of each state that is, in their order") {
  on_every_store([](const std::shared_ptr<Store>& store) {
    const auto bit = [](Status s) { return 1u << static_cast<unsigned>(s); };
    for (const auto& odd : kOdd) {
      const std::string task = "t." + odd, id = "i/" + odd;
      store
          ->set_value({std::string(kWatchKey) + task,
                       If::anything,
                       {},
                       std::to_string(bit(Status::registered) | bit(Status::running) | bit(Status::cancelled)),
                       1h,
                       {}})
          .wait();
      NewInvocation n;
      n.id = id;
      n.task_id = task;
      n.call_id = task + "#1";
      n.queue = "default";
      NewInvocation other = n;
      other.id += "2";
      other.task_id += "2";
      store->add({n, other}).wait();
      CHECK(store->take("r", 5, {}).wait().size() == 2);
      store->change({id, Status::running, "r", {}, {}, {}}).wait();
      store->change({id, Status::cancelled, "r", {}, {}, {}}).wait();
      std::vector<std::string> states;
      for (const auto& [key, value] : store->values(std::string(kChangeKey), "", 100).wait()) {
        CHECK(value == std::to_string(task.size()) + ":" + task);
        const std::string rest = key.substr(kChangeKey.size() + 20);
        CHECK(rest.substr(0, 2) == "/c");
        states.push_back(rest.substr(2, 2));
        CHECK(rest.substr(4) == "/" + id);
        store->set_value({key, If::equal, value, std::nullopt, {}, {}}).wait();
      }
      CHECK(states == std::vector<std::string>{"00", "06", "15"});
    }
    for (const char* mask : {"", "x", "-1", "99999999999999999999", "1e3", "0"}) {
      store->set_value({std::string(kWatchKey) + "t.hostile", If::anything, {}, mask, 1h, {}}).wait();
      NewInvocation n;
      n.id = "h"s + mask;
      n.task_id = "t.hostile";
      n.call_id = "t.hostile#1";
      n.queue = "default";
      store->add({n}).wait();
      store->cancel(n.id).wait();
    }
    CHECK(store->values(std::string(kChangeKey), "", 100).wait().empty());
  });
}
