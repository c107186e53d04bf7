// How cells are read: modes, tags, magics; and what commands and descriptors hand over.
#include <doctest/doctest.h>
#include <unistd.h>

#include <string>

#include "magics/command.hpp"
#include "magics/split.hpp"
#include "session/cell_mode.hpp"
#include "session/fd_capture.hpp"

using namespace caller::kernel;
using namespace std::chrono_literals;

namespace {
CellRequest cell(const std::string& code, const json& tags = nullptr, const json& more = json::object()) {
  json content = {{"code", code}};
  content.update(more);
  return read_cell(content, {{"tags", tags}});
}
}  // namespace

TEST_CASE("the first line decides the mode only when it is exactly of that form") {
  CHECK(cell("int x;").mode == RunMode::queue);
  CHECK(cell("// task\nint x;").mode == RunMode::task);
  CHECK(cell("// task\nint x;").code == "\nint x;");
  CHECK(cell("  //task  \nx").mode == RunMode::task);
  CHECK(cell("%task\nx").mode == RunMode::task);
  CHECK(cell("// thread\nx").mode == RunMode::thread);
  CHECK(cell("%thread name=a backend=asio").thread_name == "a");
  CHECK(cell("// thread name=a backend=asio").backend == "asio");
  for (const char* code : {"// task of the day", "// queue name=x", "// thread name=", "// thread fast", "x // task",
                           "// Task", "\n// task", "%%thread", "int task;"}) {
    CAPTURE(code);
    CHECK(cell(code).mode == RunMode::queue);
    CHECK(cell(code).code == code);
  }
}

TEST_CASE("a tag beats silent, silent beats the first line") {
  CHECK(cell("// thread\nx", {"task"}).mode == RunMode::task);
  CHECK(cell("// thread\nx", {"other", "queue", "task"}).mode == RunMode::queue);
  CHECK(cell("// thread\nx", nullptr, {{"silent", true}}).mode == RunMode::task);
  CHECK(cell("x", {"queue"}, {{"silent", true}}).mode == RunMode::queue);
  CHECK(cell("x", {"thread name=w"}).thread_name == "w");
}

TEST_CASE("tags set the time-out and what an error stops") {
  CHECK(cell("x", {"timeout=1.5"}).timeout == 1500ms);
  for (const char* bad : {"timeout=", "timeout=-1", "timeout=0", "timeout=x", "timeout=1s", "timeout=nan"})
    CHECK_FALSE(cell("x", {bad}).timeout);
  CHECK(cell("x").stop_on_error);
  CHECK_FALSE(cell("x", {"stop-on-error=false"}).stop_on_error);
  CHECK(cell("x", {"stop-on-error=true"}, {{"stop_on_error", false}}).stop_on_error);
  CHECK(cell("x", {"raises-exception"}).raises_exception);
  CHECK(cell("x", "not a list").mode == RunMode::queue);
}

TEST_CASE("store_history follows silent by default (16)") {
  CHECK(cell("x").store_history);
  CHECK_FALSE(cell("x", nullptr, {{"silent", true}}).store_history);
  CHECK_FALSE(cell("x", nullptr, {{"silent", true}, {"store_history", true}}).store_history);
}

TEST_CASE("magics stand at the top of a cell; C++ keeps its lines") {
  const SplitCell s = split_magics("\n// note\n%time f(1)\n!ls -l | wc\n\nint x = y\n  % z;\n!x;\n");
  REQUIRE(s.magics.size() == 2);
  CHECK(s.magics[0].name == "time");
  CHECK(s.magics[0].arguments == "f(1)");
  CHECK(s.magics[0].line == 3);
  CHECK(s.magics[1].name == "!");
  CHECK(s.magics[1].arguments == "ls -l | wc");
  CHECK(s.code == "\n// note\n\n\n\nint x = y\n  % z;\n!x;\n");
}

TEST_CASE("a cell magic takes the rest of the cell") {
  const SplitCell s = split_magics("// note\n%%bash -e\necho 1\n%x\n");
  REQUIRE(s.magics.size() == 1);
  CHECK(s.magics[0].whole_cell);
  CHECK(s.magics[0].arguments == "-e");
  CHECK(s.magics[0].body == "echo 1\n%x\n");
  CHECK(s.code.empty());
}

TEST_CASE("questions and lookalikes") {
  CHECK(split_magics("?std::string").magics.at(0).name == "?");
  CHECK(split_magics("??f").magics.at(0).arguments == "f");
  for (const char* code : {"%: include", "% x", "!", "!= 3", "int x;\n%who", "R\"(\n%who\n)\""}) {
    CAPTURE(code);
    CHECK(split_magics(code).magics.empty());
    CHECK(split_magics(code).code == code);
  }
}

TEST_CASE("a command's output arrives, its exit code and its signal are told") {
  std::string out, err;
  const auto sink = [&](int fd, std::string_view bytes) { (fd == 1 ? out : err) += bytes; };
  CHECK(run_command("echo a; echo b >&2; exit 3", sink, {}) == 3);
  CHECK(out == "a\n");
  CHECK(err == "b\n");
  CHECK(run_command("kill -TERM $$", sink, {}) == 128 + 15);
}

TEST_CASE("a stop request ends a command and its children; background children hold up nothing") {
  const auto ignore = [](int, std::string_view) {};
  std::stop_source stop;
  std::jthread worker([&] {
    CHECK(run_command(
              "echo on; sleep 1000 | cat", [&](int, std::string_view) { stop.request_stop(); }, stop.get_token()) != 0);
  });
  worker.join();
  CHECK(run_command("sleep 1000 & echo $!", ignore, {}) == 0);
}

TEST_CASE("drain delivers all that was written to a descriptor before it") {
  std::string out;
  {
    FdCapture capture([&](int fd, std::string_view bytes) {
      if (fd == 1) out += bytes;
    });
    for (int i = 0; i < 1000; ++i) {
      const std::string line = std::to_string(i) + "\n";
      if (::write(1, line.data(), line.size()) < 0) out = "failed";
      if (i % 100 == 99) {
        capture.drain();
        if (!out.ends_with(line)) out = "incomplete";
      }
    }
  }
  std::string expected;
  for (int i = 0; i < 1000; ++i) expected += std::to_string(i) + "\n";
  CHECK(out == expected);
}
