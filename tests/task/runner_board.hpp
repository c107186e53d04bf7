// The tasks of the runners' contract, and what their executions leave behind: memory that the test shares with the
// processes that its runners start. Each of these is this same program, and comes here by caller_test_begin.
#pragma once

#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

/// A number that several processes change and wait for.
class Cell {
public:
  int add(int n = 1) {
    const int now = value_.fetch_add(n) + n;
    ::syscall(SYS_futex, &value_, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
    return now;
  }
  int get() const { return value_.load(); }
  void clear() { value_ = 0; }
  void at_least(int n) {
    for (int m = value_; n > m && !value_.compare_exchange_weak(m, n);) {
    }
  }
  void await(int n) {
    for (int now = value_; now < n; now = value_) ::syscall(SYS_futex, &value_, FUTEX_WAIT, now, nullptr, nullptr, 0);
  }

private:
  std::atomic<int> value_{0};
};

struct Board {
  std::array<Cell, 8> now, most;  // at work at once, by key
  Cell ran, entered, open, began, pids_known;
  std::array<std::atomic<pid_t>, 256> pids;  // of whoever executed something
  Cell order_known;
  std::array<std::atomic<int>, 64> order;

  void clear() { ::new (this) Board{}; }
  void sign() {
    const pid_t self = ::getpid();
    for (int i = 0; i < pids_known.get(); ++i)
      if (pids[static_cast<std::size_t>(i)] == self) return;
    pids.at(static_cast<std::size_t>(pids_known.add() - 1)) = self;
  }
  std::vector<pid_t> signed_by() const {
    std::vector<pid_t> out;
    for (const auto& p : pids)
      if (p != 0) out.push_back(p);
    return out;
  }
};

/// This test's, or the one of whoever started this process.
inline Board& board() {
  static Board* const shared = [] {
    const char* file = std::getenv("CALLER_TEST_BOARD");
    std::string name = file ? file : "/dev/shm/caller-board-XXXXXX";
    const int fd = file ? ::open(file, O_RDWR | O_CLOEXEC) : ::mkostemp(name.data(), O_CLOEXEC);
    if (fd < 0 || (!file && ::ftruncate(fd, sizeof(Board)) != 0)) std::abort();
    void* place = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (place == MAP_FAILED) std::abort();
    ::close(fd);
    if (!file) {
      ::setenv("CALLER_TEST_BOARD", name.c_str(), 1);
      static const struct Remove {
        std::string path;
        ~Remove() { ::unlink(path.c_str()); }
      } remove{name};
    }
    return static_cast<Board*>(place);
  }();
  return *shared;
}

struct OwnError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Every task of the contract. One of them for each application.
struct Tasks {
  using App = caller::task::App;
  using TaskOptions = caller::task::TaskOptions;
  template <class F>
  using Task = caller::task::Task<F>;

  explicit Tasks(const App& application) : app(application) {}
  App app;

  static TaskOptions options(std::invocable<TaskOptions&> auto fill) {
    TaskOptions o;
    fill(o);
    return o;
  }

  Task<int(int, int)> add = app.task("r.add", [](int x, int y) { return x + y; }, {"x", {"y", 1}});
  Task<std::string(std::vector<std::string>, std::string)> join =
      app.task("r.join",
               [](const std::vector<std::string>& l, const std::string& by) {
                 std::string out;
                 for (const auto& x : l) out += (out.empty() ? "" : by) + x;
                 return out;
               },
               {"list", {"by", std::string(", ")}});
  Task<void()> nothing = app.task("r.nothing", [] { board().ran.add(); });
  Task<int(int)> twice = app.task("r.twice",
                                  [](int n) -> caller::Coro<int> {
                                    co_await caller::sleep_for(std::chrono::milliseconds(1));
                                    co_return n * 2;
                                  },
                                  {"n"});
  Task<int(int)> fail = app.task("r.fail",
                                 [](int how) -> int {
                                   if (how == 0) throw std::out_of_range("zero");
                                   if (how == 1) throw OwnError("own");
                                   throw 17;
                                 },
                                 {"how"});
  Task<int(int)> flaky = app.task(
      "r.flaky",
      [](int needed) {
        if (board().ran.add() < needed) throw OwnError("not yet");
        return board().ran.get();
      },
      {"needed"}, options([](TaskOptions& o) {
        o.max_retries = 3;
        o.retry_for = caller::task::errors<OwnError>();
        o.retry_backoff = {std::chrono::milliseconds(1), 2, std::chrono::milliseconds(4)};
      }));
  Task<int(int)> sum = app.task("r.sum", [this](int n) -> int { return n == 0 ? 0 : n + sum(n - 1).result(); }, {"n"});
  Task<int(int)> async_sum = app.task("r.async_sum",
                                      [this](int n) -> caller::Coro<int> {
                                        if (n == 0) co_return 0;
                                        const auto below = async_sum(n - 1);
                                        co_return n + co_await below;
                                      },
                                      {"n"});
  Task<int(int)> probe = app.task("r.probe", [](int n) { return probed(0, n); }, {"n"});
  Task<int(int)> ping = app.task("r.ping", [this](int n) -> int { return pong(n).result(); }, {"n"});
  Task<int(int)> pong = app.task("r.pong", [this](int n) -> int { return ping(n).result(); }, {"n"});
  /// Waits until two are there, then for the other one.
  Task<int(std::string)> meets = app.task("r.meets",
                                          [this](const std::string& other) {
                                            board().entered.add();
                                            board().entered.await(2);
                                            return caller::task::detail::result_from<int>(
                                                app.conf().format, caller::task::detail::result_now(app.core(), other));
                                          },
                                          {"other"});
  Task<int(int, int)> by_task = exclusive("r.by_task", caller::task::Concurrency::TASK, {});
  Task<int(int, int)> by_arguments = exclusive("r.by_arguments", caller::task::Concurrency::ARGUMENTS, {});
  Task<int(int, int)> by_keys = exclusive("r.by_keys", caller::task::Concurrency::KEYS, {"key"});
  /// At work until the test opens the gate.
  Task<int(int)> gated = app.task("r.gated", &pass, {"n"});
  /// Leaves a thread behind that waits for a gated one, and returns when it is PAUSED for that.
  Task<int(int)> leaves = app.task("r.leaves",
                                   [this](int n) {
                                     leave_waiting(gated(n));
                                     return n + 1;
                                   },
                                   {"n"});
  /// At work until the test has opened the gate so often.
  Task<int(int)> until = app.task("r.until",
                                  [](int times) {
                                    board().entered.add();
                                    board().open.await(times);
                                    return times;
                                  },
                                  {"times"});
  /// Leaves a thread behind that waits until the gate was opened once, and is tried again; then it waits itself, until
  /// it was opened twice.
  Task<int()> leaves_and_waits = app.task(
      "r.leaves_and_waits",
      [this]() -> int {
        if (caller::task::detail::current_run()->retries > 0) return until(2).result();
        leave_waiting(until(1));
        throw caller::task::RetryError();
      },
      {}, options([](TaskOptions& o) { o.max_retries = 1; }));
  /// Two threads of it wait for `n` others each, one after the other, and so now both at once and now in turn.
  Task<int(int)> waits_twice = app.task("r.waits_twice",
                                        [this](int n) {
                                          const auto wait_often = [this, n] {
                                            int all = 0;
                                            for (int i = 0; i < n; ++i) all += add(i).result();
                                            return all;
                                          };
                                          const auto other = caller::Caller::current().to_thread(wait_often);
                                          const int own = wait_often();
                                          return own + other.wait();
                                        },
                                        {"n"});
  Task<int(int)> only = app.task("r.only", &pass, {"n"}, options([](TaskOptions& o) {
                                   o.running_concurrency = caller::task::Concurrency::TASK;
                                   o.reroute_on_concurrency_control = false;
                                 }));
  Task<void()> endless = app.task("r.endless", [](std::stop_token stop) { until_stopped(stop); });
  Task<void()> stuck = app.task(
      "r.stuck", [](std::stop_token stop) { until_stopped(stop); }, {},
      options([](TaskOptions& o) { o.timeout = std::chrono::milliseconds(20); }));
  /// Deaf: it ends when its process does.
  Task<void()> deaf = app.task("r.deaf", [] { for_ever(); });
  Task<void()> deaf_and_timed = app.task(
      "r.deaf_and_timed", [] { for_ever(); }, {},
      options([](TaskOptions& o) { o.timeout = std::chrono::milliseconds(20); }));
  /// Deaf to a cancellation if `n` is 0; else at once at its end. One at a time.
  Task<int(int)> deaf_one = app.task(
      "r.deaf_one",
      [](int n) {
        if (n == 0) for_ever();
        return n;
      },
      {"n"}, options([](TaskOptions& o) { o.running_concurrency = caller::task::Concurrency::TASK; }));
  /// Deaf until a thread of it has waited for a gated one, or at its end at once if `n` is 0. One at a time.
  Task<int(int)> waits_deaf = app.task(
      "r.waits_deaf",
      [this](int n) {
        if (n == 0) return 0;
        leave_waiting(until(n));
        board().began.add();  // before that a cancellation ends its wait for the store
        board().ran.await(1);
        return n;
      },
      {"n"}, options([](TaskOptions& o) { o.running_concurrency = caller::task::Concurrency::TASK; }));
  Task<void()> awaits = app.task("r.awaits", []() -> caller::Coro<void> {
    board().began.add();
    co_await caller::Pending<void>();
  });
  Task<int(int)> low = ordered("r.low", -1);
  Task<int(int)> normal = ordered("r.normal", 0);
  Task<int(int)> high = ordered("r.high", 5);
  Task<int(std::string)> waiter = app.task(
      "r.waiter",
      [this](const std::string& wanted) {
        return caller::task::detail::result_from<int>(app.conf().format,
                                                      caller::task::detail::result_now(app.core(), wanted));
      },
      {"wanted"}, options([](TaskOptions& o) { o.priority = 100; }));
  Task<int()> report = app.task("r.report", [] { return 1; }, {}, options([](TaskOptions& o) { o.queue = "reports"; }));
  Task<int(int)> who = app.task("r.who",
                                [](int) {
                                  board().sign();
                                  return static_cast<int>(::getpid());
                                },
                                {"n"});
  /// Ends its process: how = a signal, or 1000 + an exit code by exit(), or 2000 + one by _exit().
  Task<int(int)> crash = app.task("r.crash", &end_process, {"how"});
  Task<int(int)> crash_once = app.task(
      "r.crash_once", [](int how) { return board().ran.add() == 1 ? end_process(how) : 1; }, {"how"},
      options([](TaskOptions& o) {
        o.max_retries = 2;
        o.retry_for = caller::task::errors<caller::task::WorkerCrashedError>();
      }));
  /// Waits for one that ends its process.
  Task<int(int)> above_crash = app.task("r.above_crash", [this](int how) { return crash(how).result(); }, {"how"});
  Task<std::string(std::string)> echo = app.task("r.echo", [](std::string text) { return text; }, {"text"});
  Task<void()> babble = app.task("r.babble", [] {
    const std::string nonsense(64, '\xff');
    (void)!::write(3, nonsense.data(), nonsense.size());
    for_ever();
  });
  /// What a task sees of the store.
  Task<std::vector<std::string>()> looks = app.task("r.looks", [this] {
    std::vector<std::string> out;
    const auto self = caller::task::detail::current_run();
    const auto here = add(20, 22);
    out.push_back(std::to_string(here.result()));
    for (const auto& h : here.history()) out.emplace_back(name(h.status));
    const auto refused = report();
    out.push_back(refused.cancel() ? "cancelled" : "too late");
    out.emplace_back(name(refused.status()));
    try {
      (void)app.store().get("nobody").wait();
    } catch (const caller::task::InvocationNotFoundError& e) {
      out.push_back(e.invocation_id());
    }
    out.push_back(app.store().get(self->id).wait().owner == self->runner_id ? "owned" : "lost");
    out.push_back(app.store().list("r.add", caller::task::Status::success, 0, 5).wait().at(0).id == here.id()
                      ? "listed"
                      : "missing");
    const auto told = std::make_shared<std::atomic<bool>>(false);
    const auto listener = app.store().listen("nobody", {[told] {
                                                          *told = true;
                                                          told->notify_all();
                                                        },
                                                        {}});
    const auto waking = report();
    told->wait(false);
    out.push_back(waking.cancel() ? "told" : "?");
    const auto key = std::make_shared<caller::Pending<std::string>>();
    caller::task::Listener of_values;
    of_values.value = [key, store = &app.store()](const std::string& changed) {
      if (!changed.empty()) return (void)key->set_result(changed);
      const auto kept = store->value("looks/here");  // any may have been changed, before the store listened
      (void)kept.add_done_callback([key, kept](const caller::PendingBase&) {
        if (!kept.exception() && kept.result()) key->set_result("looks/here");
      });
    };
    of_values.values = "looks/";
    const auto watching = app.store().listen("nobody", of_values);
    caller::task::ValueChange change;
    change.key = "looks/here";
    change.expect = caller::task::ValueChange::If::absent;
    change.value = std::string("v\0", 2);
    out.push_back(app.store().set_value(change).wait() ? "set" : "?");
    out.push_back(app.store().set_value(change).wait() ? "?" : "not again");
    out.push_back(key->wait());
    out.push_back(app.store().value("looks/here").wait() == change.value ? "kept" : "?");
    out.push_back(app.store().values("looks/", "", 5).wait().at(0).first);
    app.store().put_data("hash", "bytes").wait();
    out.push_back(app.store().data("hash").wait().value());
    caller::task::Selection own;
    own.parent_id = self->id;
    out.push_back(std::to_string(app.store().list(own, 0, 10).wait().size()) + " children");
    return out;
  });

private:
  /// Leaves a thread behind that waits for `inner`, and returns when the execution is PAUSED for that.
  void leave_waiting(const caller::task::Invocation<int>& inner) const {
    const auto self = caller::task::detail::current_run();
    (void)caller::Caller::current().to_thread([inner] {
      if (inner.result() > 0) board().ran.add();
    });
    while (app.store().get(self->id).wait().status != caller::task::Status::paused)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  static int probed(std::size_t key, int n) {
    board().most[key].at_least(board().now[key].add());
    std::this_thread::sleep_for(std::chrono::microseconds(200));  // the work
    board().now[key].add(-1);
    return n;
  }
  static int pass(int n) {
    board().entered.add();
    board().open.await(1);
    return n;
  }
  static void until_stopped(const std::stop_token& stop) {
    Cell ended;
    const std::stop_callback on_stop(stop, [&] { ended.add(); });
    board().began.add();
    ended.await(1);
  }
  [[noreturn]] static void for_ever() {
    board().sign();
    board().began.add();
    for (;;) ::pause();
  }
  static int end_process(int how) {
    board().began.add();
    (void)::signal(SIGSEGV, SIG_DFL);  // no report of a sanitizer's: it is meant
    if (how >= 2000) ::_exit(how - 2000);
    if (how >= 1000) std::exit(how - 1000);
    if (how == SIGSEGV) *const_cast<volatile int*>(static_cast<int*>(nullptr)) = 1;
    if (how == SIGABRT) std::abort();
    ::kill(::getpid(), how);
    for (;;) ::pause();
  }
  Task<int(int, int)> exclusive(const char* id, caller::task::Concurrency kind, std::vector<std::string> keys) const {
    return app.task(
        id, [](int key, int n) { return probed(static_cast<std::size_t>(key), n); }, {"key", "n"},
        options([&](TaskOptions& o) {
          o.running_concurrency = kind;
          o.key_arguments = std::move(keys);
        }));
  }
  Task<int(int)> ordered(const char* id, int priority) const {
    return app.task(
        id,
        [](int n) {
          board().order.at(static_cast<std::size_t>(board().order_known.add() - 1)) = n;
          return n;
        },
        {"n"}, options([&](TaskOptions& o) { o.priority = priority; }));
  }
};
