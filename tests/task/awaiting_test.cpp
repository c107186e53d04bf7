// What every store does with those who await an end that does not come.
#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "store_cases.hpp"

using namespace caller;
using namespace caller::task;
using namespace std::chrono_literals;

namespace {

constexpr std::array<std::string_view, 2> kBoth{"ends", "never"};

/// Everything by which an end is awaited.
struct Waits {
  explicit Waits(Store& store)
      : ended(store.ended("never")), record(store.final_record("never")), all(store.all_ended(kBoth)) {}
  std::vector<PendingBase> each() const { return {ended, record, all}; }

  Pending<void> ended;
  Pending<InvocationRecord> record;
  Pending<std::vector<Ended>> all;
};

bool goes(const std::weak_ptr<int>& kept) {
  for (const auto until = std::chrono::steady_clock::now() + 20s;
       !kept.expired() && std::chrono::steady_clock::now() < until; std::this_thread::sleep_for(1ms)) {
  }
  return kept.expired();
}

}  // namespace

TEST_CASE("who gives up waiting for an end leaves nothing of their own in the store") {
  on_every_store([](Store& store) {
    store.add({call("ends"), call("never")}).wait();
    ContextVar<std::shared_ptr<int>> var;
    auto mine = std::make_shared<int>();
    const std::weak_ptr<int> kept = mine;
    {
      const ContextVar<std::shared_ptr<int>>::Scope scope(var, std::move(mine));
      for (const PendingBase& p : Waits(store).each()) (void)p.cancel();
    }
    CHECK(goes(kept));
    end(store, "ends", Status::success);  // which is told to nobody
    CHECK(store.final_record("ends").wait().status == Status::success);
  });
}

TEST_CASE("a store that is closed tells those who await an end, and keeps nothing of theirs") {
  for (const StoreKind& kind : kStores) {
    const std::string store_name = kind.name;
    CAPTURE(store_name);
    auto store = kind.make();
    store->add({call("ends"), call("never")}).wait();
    ContextVar<std::shared_ptr<int>> var;
    auto mine = std::make_shared<int>();
    const std::weak_ptr<int> kept = mine;
    {
      const ContextVar<std::shared_ptr<int>>::Scope scope(var, std::move(mine));
      const Waits waits(*store);
      end(*store, "ends", Status::success);
      store->final_record("ends").wait();
      for (const PendingBase& p : waits.each()) CHECK_FALSE(p.done());
      store.reset();
      CHECK_THROWS_AS(waits.ended.wait({.timeout = 20s}), StateBackendError);
      CHECK_THROWS_AS(waits.record.wait({.timeout = 20s}), StateBackendError);
      const std::vector<Ended> all = waits.all.wait({.timeout = 20s});
      REQUIRE(all.size() == 2);
      CHECK(all[0].place == 0);
      CHECK(all[0].status == Status::success);
      CHECK(all[1].place == 1);
      CHECK_THROWS_AS(std::rethrow_exception(all[1].error), StateBackendError);
    }
    CHECK(goes(kept));
  }
}
