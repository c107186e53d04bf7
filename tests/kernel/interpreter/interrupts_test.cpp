// Interrupting synchronous code: at once, with destructors, once.
#include <array>
#include <chrono>
#include <memory>
#include <new>
#include <thread>

#include "kernel/interpreter/support.hpp"

using caller::kernel::test::Cells;
namespace interrupt = caller::kernel::interrupt;

namespace {

// Runs the cell, asks for an interrupt as soon as it says that it runs, and tells whether it ended in time.
std::string interrupted(Cells& run, const std::string& code) {
  run("std::atomic<bool> running{false};");
  auto compiled = run.language->compile("running = true;\n" + code, {});
  if (auto* e = std::get_if<caller::kernel::CellError>(&compiled)) return e->evalue;
  auto flag = run.language->compile("caller::display(running.load());", {});
  std::string outcome = "finished";
  std::chrono::steady_clock::time_point asked, ended;
  std::thread cell([&] {
    interrupt::Scope scope;
    try {
      for (auto& s : std::get<caller::kernel::CompiledCell>(compiled).segments) s.run();
    } catch (...) {
      outcome = run.language->describe_current_exception(1).ename;
    }
    ended = std::chrono::steady_clock::now();
  });
  do {
    run.displays.clear();
    for (auto& s : std::get<caller::kernel::CompiledCell>(flag).segments) s.run();
  } while (run.displays != std::vector<std::string>{"display : true"});
  while (interrupt::request_all() == 0) std::this_thread::yield();
  asked = std::chrono::steady_clock::now();
  cell.join();
  if (ended > asked + std::chrono::seconds(1)) outcome += ", late";
  return outcome;
}

}  // namespace

TEST_CASE("loops are interrupted, and destructors on the way run") {
  Cells run;
  run("volatile long sink = 0; int gone = 0; struct D { ~D() { ++gone; } }; std::vector<int> big(1000, 3);");
  for (const char* code :
       {"for (;;);", "{ D d; while (true) sink = sink + 1; }", "[] { D d; do { sink = 1; } while (true); }();",
        "again: sink = sink + 1; goto again;", "while (true) std::sort(big.begin(), big.end());",
        "std::for_each(big.begin(), big.end(), [](int) { for (;;) sink = sink + 1; });",
        "for (auto x : std::views::iota(0)) sink = x;",
        "while (true) { std::vector<std::string> q; q.push_back(\"x\"); }"}) {
    CAPTURE(code);
    CHECK(interrupted(run, code) == "KeyboardInterrupt");
  }
  CHECK(run("gone") == "2");
}

TEST_CASE("an algorithm that was compiled in advance is interrupted in the middle of its work") {
  Cells run;
  run("std::vector<int> big(30'000'000); std::vector<std::string> words; unsigned x = 1;\n"
      "for (auto& each : big) each = static_cast<int>((x = x * 1664525u + 1013904223u) >> 1);\n"
      "for (int i = 0; i < 1'500'000; ++i) words.push_back(std::to_string(big[i]));\n"
      "std::vector<double> reals(big.begin(), big.end());");
  for (const char* code :
       {"std::sort(big.begin(), big.end());", "std::sort(reals.begin(), reals.end(), std::greater<>());",
        "std::stable_sort(big.begin(), big.end());", "std::sort(words.begin(), words.end());"}) {
    CAPTURE(code);
    CHECK(interrupted(run, code) == "KeyboardInterrupt");
  }
  CHECK(run("std::sort(words.begin(), words.end()); std::is_sorted(words.begin(), words.end()) && words.size() == "
            "1'500'000") == "true");
}

TEST_CASE("a loop that counts is interrupted when it is long, or never gets on") {
  Cells run;
  run("volatile unsigned sink = 0, none = 0, some = 3; std::vector<unsigned> big(1000, 3); unsigned mix = 1;");
  for (const char* code :
       {"for (unsigned long i = 0; i < 1ul << 62; ++i) mix = mix * 31 + big[i % 1000];",
        "unsigned step = none; for (unsigned i = 0; i < 10; i += step) mix = mix * 31 + big[i];",
        "unsigned long step = some | 1; for (unsigned long i = 0; i < 1ul << 62; i += step) mix = mix * 31 + big[i % "
        "1000];",
        "for (unsigned long i = 0; i < 1ul << 62; i += 2) for (int j = 0; j < 100; ++j) mix ^= big[j];"}) {
    CAPTURE(code);
    CHECK(interrupted(run, code) == "KeyboardInterrupt");
  }
}

TEST_CASE("what was inlined and checks leaves a check in every loop and recursion") {
  Cells run;
  run("volatile unsigned sink = 0; std::vector<bool> seen(1000); struct Both { unsigned a(unsigned n) { return b(n) + "
      "1; } "
      "unsigned b(unsigned n) { return n % 1000 ? n : a(n / 1000 + 1); } } both;\n"
      "std::atomic<int> ready[1000];\n"
      "int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }");
  for (const char* code :
       {"while (true) seen[sink % 1000] = !seen[(sink + 1) % 1000];", "for (;;) sink = both.a(sink + 1);",
        "both.a(1); for (;;) sink = sink + 1;", "both.a(1); again: sink = both.b(sink + 1); goto again;",
        "auto count = [] { int n = 0; for (auto& each : ready) n += each; return n; }; while (count() < 5000) {}",
        "bool in = sink; if (in) goto middle; for (;;) { sink = both.a(sink + 1); middle: sink = sink + 1; }",
        "sink = fib(70);"}) {
    CAPTURE(code);
    CHECK(interrupted(run, code) == "KeyboardInterrupt");
  }
}

TEST_CASE("a loop in a template of the cell or of a library is interrupted") {
  Cells run;
  run("volatile long sink = 0; template <class T> void spin(T t) { while (t) sink = sink + 1; }");
  CHECK(interrupted(run, "spin(5);") == "KeyboardInterrupt");
  CHECK(interrupted(run,
                    "struct It { using value_type = int; using difference_type = long; using pointer = int*; using "
                    "reference = int; using iterator_category = std::input_iterator_tag; "
                    "int operator*() const { return 1; } It& operator++() { return *this; } It operator++(int) { "
                    "return *this; } bool operator==(const It&) const { return false; } }; "
                    "std::accumulate(It(), It(), 0u);") == "KeyboardInterrupt");
}

TEST_CASE("sleeping and blocked reading are interrupted") {
  Cells run;
  CHECK(interrupted(run, "std::this_thread::sleep_for(30s);") == "KeyboardInterrupt");
  CHECK(interrupted(run, "#include <unistd.h>\n::sleep(30);") == "KeyboardInterrupt");
  CHECK(interrupted(run, "int p[2]; (void)!::pipe(p); char c; (void)!::read(p[0], &c, 1);") == "KeyboardInterrupt");
}

TEST_CASE("an interrupt inside of a destructor waits for its end") {
  Cells run;
  run("volatile long sink = 0; std::atomic<int> begun{0}, whole{0};\n"
      "struct Slow { ~Slow() { ++begun; auto t = std::chrono::steady_clock::now(); while "
      "(std::chrono::steady_clock::now() - t "
      "< 50ms) sink = 1; ++whole; } };");
  CHECK(interrupted(run, "while (true) { Slow s; }") == "KeyboardInterrupt");
  CHECK(run("begun.load() - whole.load()") == "0");
}

TEST_CASE("a handler that cleans up and throws on does not hide a destructor above it") {
  Cells run;
  run("volatile long sink = 0; std::atomic<int> begun{0}, whole{0};\n"
      "struct Slow { Slow() { auto t = std::chrono::steady_clock::now(); while (std::chrono::steady_clock::now() - t "
      "< 5ms) sink = 1; } Slow(const Slow&) {} ~Slow() {} };\n"
      "struct Outer { ~Outer() { ++begun; std::vector<Slow> v(10); ++whole; } };");
  CHECK(interrupted(run, "while (true) { Outer o; }") == "KeyboardInterrupt");
  CHECK(run("begun.load() - whole.load()") == "0");
}

TEST_CASE("an interrupt that is caught comes again when its handler has ended, and not before") {
  Cells run;
  run("volatile long sink = 0; int handled = 0, gone = 0; struct D { ~D() { for (int i = 0; i < 5; ++i) ++gone; } };");
  const std::string swallows =
      "try { D d; for (;;) sink = 1; } catch (...) { for (int k = 0; k < 5; ++k) ++handled; }\n";
  CHECK(interrupted(run, swallows + swallows + swallows + "for (;;) sink = 2;") == "KeyboardInterrupt");
  CHECK(run("handled") == "15");
  CHECK(run("gone") == "15");
}

TEST_CASE("an interrupt of nothing is dropped, and the next cell is unaffected") {
  Cells run;
  CHECK(interrupt::request_all() == 0);
  {
    interrupt::Scope scope;
    CHECK(interrupt::request_all() == 1);
  }
  CHECK(run("long s = 0; for (int i = 0; i < 1000; ++i) s += i; s") == "499500");
}

TEST_CASE("a constant expression may loop") {
  Cells run;
  CHECK(run("constexpr int fact(int n) { int r = 1; for (int i = 2; i <= n; ++i) r *= i; return r; } "
            "static_assert(fact(5) == 120); fact(6)") == "720");
}

namespace {

/// The process would end here if an exception came by.
template <class F>
[[gnu::noinline]] void must_not_throw(F fn) noexcept {
  fn();
}

void check_for(std::chrono::milliseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) interrupt::check();
}

/// Makes a scope in `place`, as in the frame of a coroutine, asks it, and tells where the request was met.
std::string where_met(void* place) {
  auto* scope = ::new (place) interrupt::Scope;
  scope->request();
  std::string where = "nowhere";
  must_not_throw([&] {  // like the loop that resumes the coroutine
    try {
      must_not_throw([] { check_for(std::chrono::milliseconds(20)); });
      where = "late";
      check_for(std::chrono::seconds(10));
      where = "nowhere";
    } catch (...) {
      where += " but met";
    }
  });
  scope->~Scope();
  return where;
}

}  // namespace

TEST_CASE("a scope that is not on its thread's stack is interrupted where an exception may leave, and only there") {
  // Above the thread's stack, and below the main thread's: an address tells nothing about frames then.
  alignas(interrupt::Scope) unsigned char above[sizeof(interrupt::Scope)];
  std::string met;
  std::thread([&] { met = where_met(above); }).join();
  CHECK(met == "late but met");
  const auto below = std::make_unique<std::array<unsigned char, 64>>();
  CHECK(where_met(below->data()) == "late but met");
}
