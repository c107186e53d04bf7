// A cluster for longer: processes that are killed again and again, a source far faster than its sink.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

#include "support.hpp"

using namespace caller::tube;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

/// How long each test takes. CALLER_STRESS_SECONDS says otherwise.
std::chrono::seconds duration() {
  const char* given = std::getenv("CALLER_STRESS_SECONDS");
  return std::chrono::seconds(given ? std::max(1, std::atoi(given)) : 60);
}

void register_nodes() {
  Registry& r = registry();
  r.add("stress.slowly",
        [](std::int64_t n, std::int64_t microseconds) {
          std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
          return n;
        },
        {"n", "us"});
  r.add("stress.text", [](std::int64_t n) { return std::string(10'000, static_cast<char>('a' + n % 26)); }, {"n"});
  r.add("stress.length",
        [](const std::string& text, std::int64_t microseconds) {
          std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
          return text.size();
        },
        {"text", "us"});
  r.add("stress.items", [](std::int64_t n) { return std::vector<std::int64_t>{n, n + 1, n + 2}; }, {"n"});
}

/// Bytes of a process that are in memory.
std::size_t resident(int pid) {
  std::ifstream statm("/proc/" + std::to_string(pid) + "/statm");
  std::size_t total = 0, here = 0;
  statm >> total >> here;
  return here * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

extern "C" void caller_test_begin(int argc, char** argv) {
  register_nodes();
  cluster_main(argc, argv);
}

TEST_CASE("a process is killed again and again: every epoch is whole, or lost and said to be") {
  ClusterRunner runner(Tube::from_any("noob_id: killed\nnodes:\n"
                                      "  a: {type: noob.testing.count_source, params: {limit: 0}}\n"
                                      "  list: {type: stress.items, depends: [{n: a.index}]}\n"
                                      "  each: {type: map, depends: [{value: list.value}]}\n"
                                      "  b: {type: noob.testing.multiply, depends: [{left: each.value}]}\n"
                                      "  all: {type: gather, depends: [{value: b.value}, {n: each.n}]}\n"
                                      "  sum: {type: sum, depends: [{items: all.value}]}\n"
                                      "  out: {type: return, depends: [a.index, sum.value]}\n"),
                       {.max_pending = 64, .restart = true});
  std::map<std::uint64_t, int> ended;
  std::map<std::uint64_t, std::multiset<std::string>> events;
  std::set<std::uint64_t> lost;
  std::uint64_t doubled = 0, broken = 0;
  runner.add_callback([&](const Notice& notice) {
    if (const Event* e = std::get_if<Event>(&notice)) {
      events[e->epoch.root()].insert(e->node_id + "." + e->signal + "@" + e->epoch.str());
      return;
    }
    const MetaEvent& m = std::get<MetaEvent>(notice);
    if (m.type == MetaEvent::Type::error) lost.insert(m.epoch.root());
    if (m.type == MetaEvent::Type::epoch_ended) {
      const std::multiset<std::string>& seen = events[m.epoch.root()];
      doubled += seen.size() != std::set<std::string>(seen.begin(), seen.end()).size();
      // a, list, sum, all; of each of three items the item, its number, and b.
      if (seen.size() == 13)
        ++ended[m.epoch.root()];
      else
        ++broken;  // must be one of those that are lost
      events.erase(m.epoch.root());
    }
  });
  Warnings warnings;
  const Clock::time_point until = Clock::now() + duration();
  int kills = 0;
  std::size_t results = 0;
  std::int64_t last = -1;
  std::uint32_t turn = 0;
  while (Clock::now() < until || kills < 20) {
    // Processes differ in every round; the one to go is chosen in turn, the moment by chance.
    runner.init();
    std::vector<int> running;
    for (const ClusterProcess& p : runner.processes())
      if (p.nodes != std::vector<std::string>{"a"}) running.push_back(p.pid);
    const int victim = running[turn++ % running.size()];
    std::thread killer([&, victim] {
      std::this_thread::sleep_for(std::chrono::microseconds(500 + (turn * 7919) % 20000));
      ::kill(victim, SIGKILL);
    });
    std::vector<Result> found = runner.run(3000);
    killer.join();
    ++kills;
    for (const Result& r : found) {
      const auto n = r[0].to<std::int64_t>();
      CHECK(n > last);  // in order, none twice
      last = n;
      CHECK(r[1].to<std::int64_t>() == 2 * (3 * n + 3));
      ++results;
    }
  }
  CHECK(doubled == 0);
  CHECK(broken == lost.size());
  for (const auto& [epoch, n] : ended) CHECK(n == 1);
  for (const std::uint64_t epoch : lost) CHECK_FALSE(ended.contains(epoch));
  CHECK(ended.size() + lost.size() == runner.next_epoch());
  CHECK(results == ended.size());
  MESSAGE(kills << " kills, " << results << " results, " << lost.size() << " epochs lost");
}

TEST_CASE("a source a hundred times faster than its sink: memory stays flat, nothing is lost") {
  ClusterRunner runner(
      Tube::from_any("noob_id: slow-sink\nnodes:\n"
                     "  a: {type: noob.testing.count_source, params: {limit: 0}}\n"
                     "  text: {type: stress.text, depends: [{n: a.index}]}\n"
                     "  sink: {type: stress.length, params: {us: 500}, depends: [{text: text.value}]}\n"
                     "  out: {type: return, depends: [a.index, sink.value]}\n"));
  const auto memory = [&] {
    std::size_t sum = resident(::getpid());
    for (const ClusterProcess& p : runner.processes()) sum += resident(p.pid);
    return sum;
  };
  std::size_t taken = 0;
  std::size_t early = 0, most = 0;
  const Clock::time_point begin = Clock::now();
  for (const Result& r : runner.iter()) {
    REQUIRE(r[0].to<std::size_t>() == taken);
    REQUIRE(r[1] == Value(10'000));
    if (++taken % 250 == 0) {
      const std::size_t now = memory();
      if (taken <= 1000)
        early = std::max(early, now);
      else
        most = std::max(most, now);
    }
    if (Clock::now() - begin > duration() && taken >= 2000) break;
  }
  CHECK(taken > 1000);
  for (const ClusterProcess& p : runner.processes()) CHECK(p.open_most <= ClusterOptions().max_pending);
  MESSAGE(taken << " results, " << (early >> 20) << " MB early, " << (most >> 20) << " MB later");
  REQUIRE(early > 0);
#ifndef CALLER_SANITIZED  // a sanitizer's own memory grows with what was ever allocated
  CHECK(most < early + (early / 20) + (4 << 20));
#endif
}

TEST_CASE("map tubes hundreds of times, each with processes of its own") {
  const Clock::time_point until = Clock::now() + duration();
  int rounds = 0;
  for (; rounds < 100 || Clock::now() < until; ++rounds)
    for (const char* id : {"testing-map-basic", "testing-map-nested-gather", "testing-map-gather"}) {
      ClusterRunner runner(tube(id));
      CHECK(runner.run(5).size() == 5);
    }
  MESSAGE(rounds << " rounds");
}
