// Interrupting synchronous code: at once, with destructors, once.
#include <fcntl.h>
#include <poll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <new>
#include <string>
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

namespace {

int somebody = 0, somebody_else = 0;
std::atomic<int> looks{0};

const void* is_somebody(bool) noexcept {
  ++looks;
  return &somebody;
}

const void* is_somebody_now() noexcept {
  ++looks;
  return &somebody;
}

/// What `call` returns in a thread that is woken for somebody else: three times, then comes `then`; without that until
/// it returns, or for ten seconds.
std::string disturbed(const std::function<std::string()>& call, const std::function<void()>& then,
                      interrupt::Scope::WhoNow now = nullptr) {
  looks = 0;
  std::promise<interrupt::Scope*> ready;
  std::atomic<bool> over{false}, may_end{false};
  auto outcome = std::async(std::launch::async, [&]() -> std::string {
    interrupt::Scope scope(&is_somebody, interrupt::Scope::Of::loop, now);
    ready.set_value(&scope);
    std::string result;
    try {
      result = call();
    } catch (const caller::kernel::Interrupted&) {
      result = "interrupted";
    }
    over = true;
    may_end.wait(false);
    return result;
  });
  interrupt::Scope* const scope = ready.get_future().get();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  for (int n = 1; n <= 3 || !then; ++n) {
    scope->request(&somebody_else);
    while (looks < n && !over && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    if (over || std::chrono::steady_clock::now() >= end) break;
  }
  if (then) then();
  may_end = true;
  may_end.notify_all();
  return outcome.get();
}

std::string answer(long result) { return std::to_string(result) + (result == -1 ? std::strerror(errno) : ""); }

}  // namespace

TEST_CASE("a blocked call goes on when its thread is woken for what somebody else does") {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  char c = 0;
  const auto feed = [&] { CHECK(::send(ends[1], "x", 1, 0) == 1); };
  CHECK(disturbed([&] { return answer(::read(ends[0], &c, 1)); }, feed) == "1");
  CHECK(disturbed([&] { return answer(::recv(ends[0], &c, 1, 0)); }, feed) == "1");
  pollfd item{ends[0], POLLIN, 0};
  CHECK(disturbed([&] { return answer(::poll(&item, 1, -1)); }, feed) == "1");
  REQUIRE(::recv(ends[0], &c, 1, 0) == 1);  // else select would not wait
  CHECK(disturbed(
            [&] {
              fd_set set;
              FD_ZERO(&set);
              FD_SET(ends[0], &set);
              return answer(::select(ends[0] + 1, &set, nullptr, nullptr, nullptr));
            },
            feed) == "1");
  const pid_t child = ::fork();
  if (child == 0) {
    char end;
    (void)!::read(ends[1], &end, 1);
    ::_exit(3);
  }
  CHECK(disturbed([&] { return answer(::waitpid(child, nullptr, 0) == child); },
                  [&] { CHECK(::send(ends[0], "x", 1, 0) == 1); }) == "1");
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("in a shelter nothing is interrupted, and a request is met after it") {
  std::promise<interrupt::Scope*> ready;
  std::promise<void> asked;
  auto outcome = std::async(std::launch::async, [&]() -> std::string {
    interrupt::Scope scope;
    std::string result;
    try {
      {
        const interrupt::Shelter shelter;
        ready.set_value(&scope);
        asked.get_future().wait();
        result = answer(::poll(nullptr, 0, 100)) + answer(::usleep(100'000));  // woken again and again meanwhile
        const interrupt::Shelter within;
        interrupt::check();
      }
      interrupt::check();
      return result + ", never met";
    } catch (const caller::kernel::Interrupted&) {
      return result + ", met";
    }
  });
  ready.get_future().get()->request();
  asked.set_value();
  CHECK(outcome.get() == "00, met");
}

TEST_CASE("a call that is not ours goes on as well where a handler can tell whom its thread works for") {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  char c = 0;
  const auto receive = [&] {
    iovec part{&c, 1};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    return answer(::recvmsg(ends[0], &message, 0));
  };
  CHECK(disturbed(receive, [&] { CHECK(::send(ends[1], "x", 1, 0) == 1); }, &is_somebody_now) == "1");
  // One that is meant is woken all the same.
  std::promise<interrupt::Scope*> ready;
  auto outcome = std::async(std::launch::async, [&]() -> std::string {
    interrupt::Scope scope(&is_somebody, interrupt::Scope::Of::loop, &is_somebody_now);
    ready.set_value(&scope);
    try {
      return answer(::read(ends[0], &c, 1));
    } catch (const caller::kernel::Interrupted&) {
      return "interrupted";
    }
  });
  ready.get_future().get()->request(&somebody);
  CHECK(outcome.get() == "interrupted");
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("a wait on a condition variable is interrupted where its thread takes no signals") {
  std::promise<interrupt::Scope*> ready;
  auto outcome = std::async(std::launch::async, [&]() -> std::string {
    interrupt::Scope scope(&is_somebody, interrupt::Scope::Of::loop, &is_somebody_now);
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    ready.set_value(&scope);
    std::mutex mutex;
    std::condition_variable never;
    const std::lock_guard lock(mutex);
    try {
      for (;;) ::pthread_cond_wait(never.native_handle(), mutex.native_handle());
    } catch (const caller::kernel::Interrupted&) {
      return "interrupted";
    }
  });
  ready.get_future().get()->request(&somebody);
  CHECK(outcome.get() == "interrupted");
}

TEST_CASE("a sleep lasts as long as it should when its thread is woken for what somebody else does") {
  const timespec time{1, 0};
  for (const std::function<long()>& call : std::initializer_list<std::function<long()>>{
           [&] { return ::nanosleep(&time, nullptr); },
           [&] { return ::clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr); },
           [&] {
             timespec at{};
             ::clock_gettime(CLOCK_MONOTONIC, &at);
             at.tv_sec += 1;
             return ::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr);
           },
           [&] { return ::usleep(1'000'000); }, [&] { return static_cast<int>(::sleep(1)); },
           [&] { return ::poll(nullptr, 0, 1000); },
           [&] {
             timeval left{1, 0};
             return ::select(0, nullptr, nullptr, nullptr, &left);
           }}) {
    using std::chrono::seconds;
    const auto begin = std::chrono::steady_clock::now();
    CHECK(disturbed([&] { return answer(call()); }, nullptr) == "0");
    const auto took = std::chrono::steady_clock::now() - begin;
    CHECK(took >= seconds(1));
    CHECK(took < seconds(10));  // each wake-up would begin it anew
  }
}

TEST_CASE("a signal of the program's own ends a blocked call as ever") {
  struct sigaction action{}, before{};
  action.sa_handler = [](int) {};
  REQUIRE(::sigaction(SIGUSR1, &action, &before) == 0);
  std::promise<pthread_t> ready;
  std::atomic<bool> over{false};
  auto outcome = std::async(std::launch::async, [&] {
    const interrupt::Scope scope;
    ready.set_value(::pthread_self());
    const std::string result = answer(::pause());
    over = true;
    return result;
  });
  const pthread_t thread = ready.get_future().get();
  while (!over) {
    ::pthread_kill(thread, SIGUSR1);
    std::this_thread::yield();
  }
  CHECK(outcome.get() == "-1Interrupted system call");
  ::sigaction(SIGUSR1, &before, nullptr);
}
