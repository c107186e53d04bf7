// The kinds of runners by name, those that execute nothing by themselves, and the wait for signals.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <utility>

#include "engine.hpp"

namespace caller::task {

namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kNames{
    {{"DummyRunner", "dummy"},
     {"SyncRunner", "sync"},
     {"ThreadRunner", "thread"},
     {"ProcessRunner", "process"},
     {"PersistentProcessRunner", "persistent_process"},
     {"MultiThreadRunner", "multi_thread"}}};

Pending<void> done_already() {
  Pending<void> done;
  done.set_result();
  return done;
}

class DummyRunner final : public Runner {
public:
  const std::string& id() const noexcept override { return id_; }
  void start() override { throw RunnerNotExecutableError("a DummyRunner executes nothing"); }
  Pending<void> stop(bool) override { return done_already(); }
  std::size_t working() const noexcept override { return 0; }

private:
  const std::string id_ = detail::new_uuid();
};

class SyncRunner final : public Runner {
public:
  SyncRunner(detail::AppPtr app, RunnerOptions options) : app_(std::move(app)), options_(std::move(options)) {}
  ~SyncRunner() override { end(); }
  const std::string& id() const noexcept override { return id_; }
  void start() override {
    if (used_.exchange(true)) throw RunnerError("runner " + id_ + " was started before");
    if (options_.on_start) options_.on_start();
    ++app_->sync_runners;
    started_ = true;
  }
  Pending<void> stop(bool) override {
    end();
    return done_already();
  }
  std::size_t working() const noexcept override { return 0; }

private:
  void end() noexcept {
    if (!started_.exchange(false)) return;
    --app_->sync_runners;
    try {
      if (options_.on_stop) options_.on_stop();
    } catch (...) {
      app_->log("the runner's on_stop failed: " + ExceptionRecord::of(std::current_exception()).message);
    }
  }
  const detail::AppPtr app_;
  const RunnerOptions options_;
  const std::string id_ = detail::new_uuid();
  std::atomic<bool> used_{false}, started_{false};
};

// ---- signals ----

std::atomic<int> signal_pipe = -1;

extern "C" void on_signal(int) {
  const int kept = errno;
  (void)!::write(signal_pipe.load(), "s", 1);
  errno = kept;
}

/// SIGINT and SIGTERM become Pendings: one for the first, one for the second. As long as it is there, or until the
/// second has come.
class Signals {
public:
  Signals() {
    if (taken.exchange(true)) throw RunnerError("another runner of this process waits for signals");
    if (::pipe2(ends_.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
      taken = false;
      throw RunnerError("no pipe for signals");
    }
    signal_pipe = ends_[1];
    struct sigaction action{};
    action.sa_handler = &on_signal;
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGINT, &action, &before_int_);
    ::sigaction(SIGTERM, &action, &before_term_);
    thread_ = std::thread([this] { listen(); });
  }
  ~Signals() {
    restore();
    (void)!::write(ends_[1], "q", 1);
    thread_.join();
    signal_pipe = -1;
    for (const int end : ends_) ::close(end);
    taken = false;
  }
  Pending<void> first, second;

private:
  void listen() {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    for (;;) {
      pollfd in{ends_[0], POLLIN, 0};
      (void)::poll(&in, 1, -1);
      char c = 0;
      if (::read(ends_[0], &c, 1) != 1) continue;
      if (c == 'q') return;
      if (first.set_result()) continue;
      restore();
      second.set_result();
    }
  }
  void restore() {
    if (restored_.exchange(true)) return;
    ::sigaction(SIGINT, &before_int_, nullptr);
    ::sigaction(SIGTERM, &before_term_, nullptr);
  }
  static inline std::atomic<bool> taken{false};
  std::array<int, 2> ends_{-1, -1};
  struct sigaction before_int_{}, before_term_{};
  std::atomic<bool> restored_{false};
  std::thread thread_;
};

}  // namespace

std::string_view name(RunnerKind kind) noexcept { return kNames[static_cast<std::size_t>(kind)].first; }
std::optional<RunnerKind> runner_kind_of(std::string_view text) noexcept {
  for (std::size_t i = 0; i < kNames.size(); ++i)
    if (text == kNames[i].first || text == kNames[i].second) return static_cast<RunnerKind>(i);
  return std::nullopt;
}

Runner::~Runner() = default;

std::chrono::milliseconds Runner::patience() const noexcept { return std::chrono::seconds(1); }

RunEnd Runner::run(const std::function<void()>& started) {
  Signals signals;
  start();
  if (started) started();
  signals.first.wait();
  const Pending<void> ended = stop(), either;
  const auto done = [either](const PendingBase&) { (void)either.set_result(); };
  (void)ended.add_done_callback(done);
  (void)signals.second.add_done_callback(done);
  either.wait_done();
  if (ended.done()) return RunEnd::drained;
  const bool at_work = working() > 0;
  WaitOptions how;
  how.timeout = patience();
  how.protect = true;
  if (!stop(true).wait_done(how)) return RunEnd::abandoned;
  return at_work ? RunEnd::handed_back : RunEnd::drained;
}

namespace detail {
std::string_view word(RunnerKind kind) noexcept { return kNames[static_cast<std::size_t>(kind)].second; }
}  // namespace detail

std::unique_ptr<Runner> App::make_runner(RunnerKind kind, RunnerOptions options) const {
  options = core_->settle(kind, std::move(options));
  switch (kind) {
    case RunnerKind::dummy:
      return std::make_unique<DummyRunner>();
    case RunnerKind::sync:
      return std::make_unique<SyncRunner>(core_, std::move(options));
    case RunnerKind::thread:
      return detail::make_thread_runner(core_, std::move(options));
    default:
      return detail::make_process_runner(core_, kind, std::move(options));
  }
}

}  // namespace caller::task
