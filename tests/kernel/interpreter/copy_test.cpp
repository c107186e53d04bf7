// The copy of the process that compiles the cells: what fails in it is not known afterwards, what succeeds is.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "interpreter/copy.hpp"
#include "kernel/interpreter/support.hpp"

using namespace std::chrono_literals;
using caller::kernel::Copy;
using caller::kernel::InterpreterOptions;
using caller::kernel::SandboxResult;
using caller::kernel::test::Cells;
namespace fs = std::filesystem;

namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::size_t entries(const fs::path& directory) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

std::string children() {
  std::string out;
  for (const auto& task : fs::directory_iterator("/proc/self/task")) {
    std::ifstream in(task.path() / "children");
    out.append(std::istreambuf_iterator<char>(in), {});
  }
  return out;
}

// Waits until the process runs, or does not, as wanted.
bool becomes(bool wanted, pid_t pid) {
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  for (;;) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string text((std::istreambuf_iterator<char>(stat)), {});
    const bool runs = !text.empty() && !has(text, ") Z ");
    if (runs == wanted) return true;
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(1ms);
  }
}

}  // namespace

TEST_CASE("a cell that fails after many good ones leaves nothing behind, and the next sees them all") {
  Cells run;
  std::string sum = "0";
  for (int i = 0; i < 40; ++i) {
    CHECK(run("int kept" + std::to_string(i) + " = " + std::to_string(i) + ";") == "");
    sum += " + kept" + std::to_string(i);
  }
  CHECK(run("template <class T> T twice(T x) { return 2 * x; } twice(4)") == "8");
  CHECK(has(run("int lost = 1; struct Lost {}; int kept3 = 99; twice(Lost{});"), "CompileError"));
  CHECK(run(sum) == "780");
  CHECK(has(run("lost"), "undeclared"));
  CHECK(run("struct Lost { int operator+(int i) { return i; } }; Lost{} + kept3") == "3");
  CHECK(run("int kept3 = 4;") == "");
  CHECK(has(run("int kept3 = no_such_name;"), "undeclared"));
  CHECK(run("kept3 + twice(kept5)") == "14");
}

TEST_CASE("what crashes the compiler is an error, and nothing is lost") {
  Cells run;
  CHECK(run("int before = 1;") == "");
  const std::string deep = "int deep = " + std::string(400'000, '~') + "0;";  // more than the stack can take
  for (const std::string& crash :
       {std::string("#pragma clang __debug crash"), std::string("#pragma clang __debug llvm_fatal_error"), deep}) {
    CAPTURE(crash.substr(0, 80));
    CHECK(has(run("int during = 1;\n" + crash + "\nint more = 2;"), "crashed"));
    CHECK(run("++before") != "");
    CHECK(has(run("during"), "undeclared"));
  }
  CHECK(run("before") == "4");
}

TEST_CASE("flags, include paths and a reset between cells are known to the next") {
  Cells run;
  const fs::path directory = fs::temp_directory_path() / ("caller-copy-" + std::to_string(::getpid()));
  fs::create_directories(directory);
  std::ofstream(directory / "found_by_flag.hpp") << "inline int found() { return 7; }\n";
  CHECK(run("int a = 1;") == "");
  CHECK(has(run("#include <found_by_flag.hpp>"), "file not found"));
  (void)run.language->add_flags({"-DNUMBER=3", "-I" + directory.string()}, false);
  CHECK(run("a + NUMBER") == "4");
  CHECK(run("#include <found_by_flag.hpp>\nfound()") == "7");
  (void)run.language->add_flags({"-Werror=parentheses"}, false);
  CHECK(has(run("if (a = 2) {}"), "CompileError"));
  (void)run.language->add_flags({"-Wno-parentheses"}, false);
  CHECK(run("if (a = 2) {}") == "");
  run.language->reset();
  CHECK(has(run("a"), "undeclared"));
  CHECK(run("long a = 5; a + NUMBER") == "8");
  fs::remove_all(directory);
}

TEST_CASE("files are found where the process is, also when a cell has gone somewhere else") {
  Cells run;
  const fs::path directory = fs::temp_directory_path() / ("caller-copy-cd-" + std::to_string(::getpid()));
  fs::create_directories(directory);
  std::ofstream(directory / "here.hpp") << "inline int here() { return 11; }\n";
  CHECK(run("#include <filesystem>\nconst auto home = std::filesystem::current_path();") == "");
  CHECK(run("std::filesystem::current_path(\"" + directory.string() + "\");") == "");
  CHECK(run("#include \"here.hpp\"\nhere()") == "11");
  CHECK(run("std::filesystem::current_path(home); here()") == "11");
  fs::remove_all(directory);
}

TEST_CASE("a header that was only looked at can be read by a later copy") {
  Cells run;
  CHECK(run("#include <unistd.h>\n#include <sys/wait.h>\nint x = 1;") == "");  // the prelude has them
  CHECK(has(run("no_such_name"), "CompileError"));
  CHECK(run("_exit(1, 2);").find("candidate function not viable") == std::string::npos);  // shows a line of it
  CHECK(has(run.traceback(), "unistd.h"));
  CHECK(!has(run.traceback(), "cannot open"));
  CHECK(run("if (x == 2) _exit(3); x") == "1");
}

TEST_CASE("any order of good and bad cells gives what a fresh copy for each gives") {
  std::mt19937 random(20261);
  const auto any = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  const std::vector<std::string> shapes{"int v$ = #;",
                                        "v$ + #",
                                        "v$ = #; v$",
                                        "auto f$ = [](int x) { return x + #; };",
                                        "f$(#)",
                                        "int g$(int x) { return x * #; }",
                                        "g$(v$)",
                                        "double g$(double x) { return x / 2; }",
                                        "g$(#)",
                                        "g$(1.5)",
                                        "struct S$ { int x = #; int get() const { return x; } };",
                                        "S$ s$; s$.x",
                                        "s$.get() + #",
                                        "template <class T> T t$(T a) { return a + #; }",
                                        "t$(v$)",
                                        "t$(std::string(\"x\"))",
                                        "std::vector<int> w$(3, #); w$",
                                        "w$.push_back(#); w$.size()",
                                        "#define M$ #",
                                        "M$ + v$",
                                        "int v$ = missing;",
                                        "void h$();  h$();",
                                        "for (int i = 0; i < #; ++i) v$ += i;",
                                        "v$",
                                        "namespace n$ { int y = #; }",
                                        "n$::y",
                                        "co_await caller::sleep_for(0ms); v$",
                                        "auto late$ = co_await [](int x) -> caller::Coro<int> { co_return x; }(#);",
                                        "late$ + 1",
                                        "static_assert(sizeof(S$) == 4);",
                                        "enum class E$ { a, b };",
                                        "E$::a == E$::b",
                                        "( v$",
                                        "v$ +"};
  std::vector<std::string> cells;
  for (int i = 0; i < 300; ++i) {
    std::string code = shapes[static_cast<std::size_t>(any(static_cast<int>(shapes.size())))];
    const std::string name(1, static_cast<char>('a' + any(3))), number = std::to_string(any(9) + 1);
    for (std::size_t at; (at = code.find('$')) != std::string::npos;) code.replace(at, 1, name);
    for (std::size_t at; (at = code.find('#', 1)) != std::string::npos;) code.replace(at, 1, number);
    cells.push_back(code);
  }
  const auto results = [&](bool keep) {
    InterpreterOptions options;
    options.keep_copy = keep;
    Cells run(options);
    std::vector<std::string> out;
    for (const auto& code : cells) {
      std::string result = run(code);
      out.push_back(result + "\n" + run.traceback());
    }
    return out;
  };
  const auto kept = results(true), fresh = results(false);
  std::size_t good = 0;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    CAPTURE(cells[i]);
    CHECK(kept[i] == fresh[i]);
    good += !has(kept[i], "Error");
  }
  CHECK(good > 100);
  CHECK(good < 250);
}

TEST_CASE("a cell that awaits its children meets none of the compiler's") {
  Cells run;
  CHECK(run("#include <sys/wait.h>\n#include <unistd.h>\n#include <cerrno>\nint i = 1;") == "");
  CHECK(children() == "");
  CHECK(run("errno = 0; (wait(nullptr) < 0) * 1000 + errno") == std::to_string(1000 + ECHILD));
  CHECK(run("if (fork() == 0) _exit(3); int status = 0; wait(&status); WEXITSTATUS(status)") == "3");
  CHECK(run("while (wait(nullptr) > 0) {} std::system(\"exit 5\") / 256") == "5");
  CHECK(run("++i") == "2");
  CHECK(has(run("undeclared_thing"), "CompileError"));
  CHECK(run("while (wait(nullptr) > 0) {} ++i") == "3");
}

TEST_CASE("a hundred errors leave no process and no open file behind") {
  Cells run;
  CHECK(run("int x = 1;") == "");
  CHECK(has(run("bad0"), "CompileError"));
  CHECK(run("x") == "1");
  const auto before = entries("/proc/self/fd");
  for (int i = 1; i <= 100; ++i) {
    CHECK(has(run("bad" + std::to_string(i)), "CompileError"));
    if (i % 10 == 0) CHECK(run("x") == "1");
  }
  CHECK(children() == "");
  CHECK(entries("/proc/self/fd") <= before);
}

TEST_CASE("a copy answers, keeps what it did, and ends with its owner or in the middle of its work") {
  int state = 0;
  const auto make = [&] {
    return Copy::make("copy of a test", [&](const std::string& request) {
      if (request == "pid") return std::to_string(::getpid());
      if (request == "files") return std::to_string(entries("/proc/self/fd"));
      if (request == "spin")
        for (volatile int i = 0;;) i = i + 1;
      if (request == "die") ::abort();
      return std::to_string(++state) + std::string(request == "long" ? 1'000'000 : 0, 'x');
    });
  };
  const auto ask = [](Copy& c, const std::string& what, std::chrono::milliseconds limit = 30s) {
    return c.ask(what, limit, {});
  };
  auto copy = make();
  REQUIRE(copy);
  const auto pid_of = [&](Copy& c) { return static_cast<pid_t>(std::stol(ask(c, "pid").data)); };
  pid_t pid = pid_of(*copy);
  CHECK(pid != ::getpid());
  CHECK(ask(*copy, "").data == "1");
  CHECK(ask(*copy, "long").data.size() == 1'000'001);
  CHECK(ask(*copy, "").data == "3");
  CHECK(state == 0);
  CHECK(std::stoi(ask(*copy, "files").data) <= 5);  // its own, the null device three times, the directory it looks at
  copy.reset();
  CHECK(becomes(false, pid));

  copy = make();
  pid = pid_of(*copy);
  CHECK(ask(*copy, "spin", 50ms).status == SandboxResult::Status::timed_out);
  CHECK(becomes(false, pid));

  copy = make();
  const auto died = ask(*copy, "die");
  CHECK(died.status == SandboxResult::Status::crashed);
  CHECK(died.signal == SIGABRT);

  copy = make();
  pid = pid_of(*copy);
  std::stop_source stop;
  std::thread stopper([&] {
    std::this_thread::sleep_for(20ms);
    stop.request_stop();
  });
  CHECK(copy->ask("spin", 30s, stop.get_token()).status == SandboxResult::Status::stopped);
  stopper.join();
  CHECK(becomes(false, pid));

  // A program that was forked meanwhile holds nothing that keeps it alive.
  copy = make();
  pid = pid_of(*copy);
  int hold[2];
  REQUIRE(::pipe(hold) == 0);
  const pid_t other = ::fork();
  if (other == 0) {
    ::close(hold[1]);
    char c;
    (void)!::read(hold[0], &c, 1);
    ::_exit(0);
  }
  ::close(hold[0]);
  copy.reset();
  CHECK(becomes(false, pid));
  ::close(hold[1]);
  ::waitpid(other, nullptr, 0);
}
