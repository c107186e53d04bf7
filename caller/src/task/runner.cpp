// What is the same for every runner: how many slots, and running until the process is told to end.
#include <caller/task/runner.hpp>

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <memory>
#include <system_error>
#include <thread>

#include <caller/task/error.hpp>

namespace caller::task {

Runner::~Runner() = default;

std::size_t RunnerOptions::count() const noexcept {
  const std::size_t cores = std::max(1u, std::thread::hardware_concurrency());
  return std::max(slots ? slots : cores, min_slots);
}

namespace {

/// Counts what happened; readable while that is more than nothing.
class Counter {
public:
  Counter() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  }
  ~Counter() { ::close(fd_); }
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;
  int fd() const noexcept { return fd_; }
  void add() const noexcept {
    const std::uint64_t one = 1;
    (void)!::write(fd_, &one, sizeof one);
  }
  std::uint64_t take() const noexcept {
    std::uint64_t n = 0;
    return ::read(fd_, &n, sizeof n) == sizeof n ? n : 0;
  }

private:
  int fd_;
};

/// Signals that came. Never gone, as a handler may still be at work when nobody waits any more.
const Counter& told() {
  static const Counter* const counter = new Counter;
  return *counter;
}
std::atomic<const Counter*> tell{nullptr};
static_assert(std::atomic<const Counter*>::is_always_lock_free);

extern "C" void caller_task_on_signal(int) {
  const int saved = errno;
  if (const Counter* counter = tell.load(std::memory_order_acquire)) counter->add();
  errno = saved;
}

class Signals {
public:
  Signals() {
    const Counter* none = nullptr;
    if (!tell.compare_exchange_strong(none, &told())) throw RunnerError("another runner of this process runs already");
    (void)told().take();
    struct sigaction action = {};
    action.sa_handler = caller_task_on_signal;
    ::sigemptyset(&action.sa_mask);
    ::sigaction(SIGINT, &action, &on_int_);
    ::sigaction(SIGTERM, &action, &on_term_);
  }
  ~Signals() {
    ::sigaction(SIGINT, &on_int_, nullptr);
    ::sigaction(SIGTERM, &on_term_, nullptr);
    tell.store(nullptr, std::memory_order_release);
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;
  const Counter& counter = told();

private:
  struct sigaction on_int_ = {}, on_term_ = {};
};

/// Which of the two is readable first; nothing within `most` (milliseconds, -1: no limit): false.
bool wait(const Counter& a, const Counter& b, int most) {
  std::array<pollfd, 2> fds{{{a.fd(), POLLIN, 0}, {b.fd(), POLLIN, 0}}};
  for (;;) {
    const int n = ::poll(fds.data(), fds.size(), most);
    if (n >= 0 || errno != EINTR) return n > 0;
  }
}

}  // namespace

RunEnd Runner::run(const std::function<void()>& started) {
  constexpr int kToEnd = 1000;  // milliseconds
  const Signals signals;
  const auto ended = std::make_shared<Counter>();
  start();
  if (started) started();
  wait(signals.counter, signals.counter, -1);
  std::uint64_t count = signals.counter.take();
  if (count < 2) {
    (void)stop().add_done_callback([ended](const PendingBase&) { ended->add(); });
    wait(signals.counter, *ended, -1);
    if (ended->take()) return RunEnd::drained;
  }
  const bool at_work = working() > 0;
  (void)stop(true).add_done_callback([ended](const PendingBase&) { ended->add(); });
  if (!wait(*ended, *ended, kToEnd)) return RunEnd::abandoned;
  return at_work ? RunEnd::handed_back : RunEnd::drained;
}

}  // namespace caller::task
