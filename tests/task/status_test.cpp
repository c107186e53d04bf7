// The table of states, and the page that is drawn from it.
#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include <caller/task/status.hpp>

using namespace caller::task;

namespace {

std::string drawn() {
  std::string out = "| status | a runner may take it | belongs to a runner | may become |\n| --- | --- | --- | --- |\n";
  for (const StatusRule& r : kStatusRules) {
    out += "| `" + std::string(r.name) + "` | " + (r.runnable ? "yes" : "") + " | " + (r.owned ? "yes" : "") + " | ";
    std::string next;
    for (const StatusRule& to : kStatusRules)
      if (may_follow(r.status, to.status)) next += (next.empty() ? "`" : ", `") + std::string(to.name) + "`";
    out += (next.empty() ? "nothing: it is final" : next) + " |\n";
  }
  return out;
}

}  // namespace

TEST_CASE("the table of states is whole") {
  for (std::size_t i = 0; i < kStatusCount; ++i) {
    const StatusRule& r = kStatusRules[i];
    CHECK(static_cast<std::size_t>(r.status) == i);
    CHECK(status_of(r.name) == r.status);
    CHECK(r.final == (r.next == 0));
    CHECK_FALSE(may_follow(r.status, r.status));
    if (!r.final && r.status != Status::killed && r.status != Status::pending_recovery &&
        r.status != Status::running_recovery)
      CHECK(may_follow(r.status, Status::cancelled));
    if (r.runnable) CHECK(may_follow(r.status, Status::pending));
    // Whatever is not final is left again by somebody: a runner, its recovery, or time.
    if (!r.final)
      CHECK((r.runnable || r.owned || may_follow(r.status, Status::rerouted) || r.status == Status::scheduled));
  }
  CHECK_FALSE(status_of("NONE"));
}

TEST_CASE("docs/task_states.md shows the table as it is") {
  std::ifstream in(CALLER_DOCS "/task_states.md");
  const std::string page{std::istreambuf_iterator<char>(in), {}};
  INFO("what belongs there:\n", drawn());
  CHECK(page.find(drawn()) != std::string::npos);
}
