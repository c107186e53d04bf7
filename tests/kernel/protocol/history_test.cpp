#include <doctest/doctest.h>

#include <fstream>
#include <string>
#include <vector>

#include "protocol/history.hpp"
#include "support/temporary_folder.hpp"

using namespace caller::kernel;

namespace {
std::vector<std::string> inputs(const std::vector<HistoryEntry>& entries) {
  std::vector<std::string> out;
  for (const auto& e : entries) out.push_back(e.input);
  return out;
}
using Texts = std::vector<std::string>;
}  // namespace

TEST_CASE("history survives the process and numbers its sessions (27)") {
  const caller::test::TemporaryFolder dir;
  int first = 0;
  {
    History h(dir.file("h.sqlite"));
    REQUIRE(h.persistent());
    first = h.session();
    h.store(first, 1, "int x = 1;");
    h.store(first, 2, "x");
    h.store_output(first, 2, "1");
  }
  History h(dir.file("h.sqlite"));
  CHECK(h.session() == first + 1);
  h.store(h.session(), 1, "x + 1");
  CHECK(inputs(h.tail(2)) == Texts{"x", "x + 1"});
  CHECK(h.tail(2)[0].output == "1");
  CHECK(h.tail(2)[0].session == first);
  CHECK(h.tail(2)[0].line == 2);
  CHECK(inputs(h.range(0, 1, 10)) == Texts{"x + 1"});
  CHECK(inputs(h.range(-1, 1, 2)) == Texts{"int x = 1;"});
  CHECK(inputs(h.range(first, 2, -1)) == Texts{"x"});
  CHECK(h.range(-7, 1, 2).empty());
  CHECK(h.tail(0).empty());
}

TEST_CASE("history is searched by pattern, newest kept when unique (27)") {
  History h("");
  CHECK_FALSE(h.persistent());
  int line = 0;
  for (const char* text : {"auto a = 1;", "b", "auto c = 3;", "auto a = 1;"}) h.store(h.session(), ++line, text);
  CHECK(inputs(h.search("auto*", 0, false)) == Texts{"auto a = 1;", "auto c = 3;", "auto a = 1;"});
  CHECK(inputs(h.search("auto*", 0, true)) == Texts{"auto c = 3;", "auto a = 1;"});
  CHECK(inputs(h.search("*", 2, false)) == Texts{"auto c = 3;", "auto a = 1;"});
  CHECK(h.search("nothing", 5, true).empty());
}

TEST_CASE("each subshell has a session of its own (49)") {
  History h("");
  const int sub = h.begin_session();
  CHECK(sub != h.session());
  h.store(sub, 1, "in the subshell");
  CHECK(h.range(0, 0, -1).empty());
  CHECK(inputs(h.range(sub, 0, -1)) == Texts{"in the subshell"});
}

TEST_CASE("a history file that cannot be used leaves a history in memory") {
  const caller::test::TemporaryFolder dir;
  std::ofstream(dir.file("broken")) << std::string(4096, 'x');
  for (const std::string& path : {dir.file("broken"), dir.file("no/such/folder/h"), dir.path.string()}) {
    History h(path);
    CHECK_FALSE(h.persistent());
    h.store(h.session(), 1, "kept");
    CHECK(inputs(h.tail(5)) == Texts{"kept"});
  }
}

TEST_CASE("the newest session is the highest number there is") {
  const caller::test::TemporaryFolder dir;
  History a(dir.file("h"));
  CHECK(a.newest_session() == a.session());
  History b(dir.file("h"));
  CHECK(a.newest_session() == b.session());
  CHECK(a.newest_session() == b.newest_session());
}

TEST_CASE("two kernels share one history file") {
  const caller::test::TemporaryFolder dir;
  History a(dir.file("h")), b(dir.file("h"));
  CHECK(a.session() != b.session());
  a.store(a.session(), 1, "from a");
  b.store(b.session(), 1, "from b");
  CHECK(inputs(a.tail(10)) == Texts{"from a", "from b"});
}
