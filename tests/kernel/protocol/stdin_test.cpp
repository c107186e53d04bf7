#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <vector>

#include "protocol/error.hpp"
#include "session/stdin_broker.hpp"

using namespace caller::kernel;

namespace {

struct Fixture {
  std::vector<Request> asked;
  StdinBroker broker{[this](const Request& parent, const json&) {
    asked.push_back(parent);
    return std::string("q").append(std::to_string(asked.size()));
  }};
  std::vector<std::optional<std::string>> got{8};
  void ask(const Request& r, std::size_t slot) {
    broker.ask(r, "?", false, [this, slot](std::optional<std::string> v) { got[slot] = v.value_or("cancelled"); });
  }
};

Request cell(const char* ident, bool allow = true) {
  auto m = std::make_shared<Message>();
  m->idents = {ident};
  m->content["allow_stdin"] = allow;
  return m;
}

Message answer(const char* ident, const std::string& parent, const std::string& value) {
  Message m;
  m.idents = {ident};
  if (!parent.empty()) m.parent_header["msg_id"] = parent;
  m.content["value"] = value;
  return m;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "two requests may wait for input and are matched by the parent of the answer (57, 59)") {
  const Request a = cell("one"), b = cell("one");
  ask(a, 0);
  ask(b, 1);
  CHECK(asked == std::vector<Request>{a, b});
  CHECK(broker.reply(answer("one", "q2", "for b")));
  CHECK_FALSE(got[0]);
  CHECK(got[1] == "for b");
  CHECK(broker.reply(answer("one", "q1", "for a")));
  CHECK(got[0] == "for a");
  CHECK(broker.waiting() == 0);
}

TEST_CASE_FIXTURE(Fixture, "an answer without a parent goes to the oldest question of that client") {
  ask(cell("one"), 0);
  ask(cell("two"), 1);
  ask(cell("two"), 2);
  CHECK(broker.reply(answer("two", "", "x")));
  CHECK(got[1] == "x");
  CHECK_FALSE(got[0]);
  CHECK_FALSE(got[2]);
  broker.cancel_all();
}

TEST_CASE_FIXTURE(Fixture, "input that is not allowed is an error at once (58)") {
  CHECK_THROWS_AS(ask(cell("one", false), 0), const KernelError&);
  CHECK_THROWS_AS(ask(nullptr, 0), const KernelError&);
  CHECK(broker.waiting() == 0);
}

TEST_CASE_FIXTURE(Fixture, "an interrupt ends the wait, and the answer that comes later is dropped (60)") {
  const Request a = cell("one"), b = cell("two");
  ask(a, 0);
  ask(b, 1);
  broker.cancel(a);
  CHECK(got[0] == "cancelled");
  CHECK_FALSE(broker.reply(answer("one", "q1", "late")));
  broker.cancel_all();
  CHECK(got[1] == "cancelled");
}
