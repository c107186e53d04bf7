// The process of a worker: executes what its runner sends it, with the runner's store, and never outlives it.
#include "worker.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../engine.hpp"
#include "remote_store.hpp"
#include "runtime/process.hpp"

namespace caller::task {

namespace detail {
namespace {

using caller::detail::kChannel;

/// The application whose invocations this process was started for; empty: for none.
const std::string& application() {
  static const std::string name = [] {
    std::ifstream in("/proc/self/cmdline", std::ios::binary);
    std::string all{std::istreambuf_iterator<char>(in), {}};
    if (!all.empty() && all.back() == '\0') all.pop_back();
    const std::string last = all.substr(all.rfind('\0') + 1);
    return last.starts_with(kWorkerArgument) ? last.substr(kWorkerArgument.size()) : std::string();
  }();
  return name;
}

std::atomic<bool> orderly = false;  // we leave because we were told to

/// Code of a task called exit(): objects that other threads still use must not be destroyed now.
void on_exit_called(int status, void*) {
  if (orderly) return;
  std::fflush(nullptr);
  ::_exit(status);
}

/// Ctrl-C in a terminal, and the end of a service, are told to every process: the runner's decides what they mean. A
/// handler and not SIG_IGN: programs that tasks start would inherit that.
extern "C" void ignored_signal(int) {}

/// What the code of one execution has of its runner's slots: one, or none while it waits for other invocations. Of the
/// threads of one execution each may wait: the first one that does gives the slot back, and while one of them still
/// waits, or begins to, the others go on without.
///
/// What a frame names is an invocation, and what is meant is its execution that is under way. So everything an
/// execution says is said before its end(), and a slot that was granted before belongs to nobody after it: of the next
/// execution nothing was heard yet, as it is sent when the runner has heard of the end.
///
/// Thread-safety: any thread. Frames are sent under the mutex, in the order of what they tell.
class Slots final : public SlotKeeper {
public:
  Slots(std::string invocation, std::function<void(const std::string&)> send)
      : invocation_(std::move(invocation)), send_(std::move(send)) {}

  void give_back_slot() noexcept override {
    std::vector<Pending<void>> go_on;
    {
      const std::lock_guard lock(mutex_);
      if (ended_) return;
      ++waits_;
      if (std::exchange(has_slot_, false)) tell(Frame::released);
      go_on.swap(wanting_);
    }
    for (const auto& p : go_on) p.set_result();
  }
  Pending<void> take_slot_again() override {
    Pending<void> granted;
    {
      const std::lock_guard lock(mutex_);
      --waits_;
      if (!ended_ && !has_slot_ && waits_ == 0) {
        wanting_.push_back(granted);
        if (!std::exchange(asked_, true)) tell(Frame::wants);
        return granted;
      }
    }
    granted.set_result();
    return granted;
  }
  /// The runner's answer.
  void granted() {
    std::vector<Pending<void>> go_on;
    {
      const std::lock_guard lock(mutex_);
      if (ended_ || !std::exchange(asked_, false)) return;
      if (waits_ > 0) return tell(Frame::released);  // one of its threads has begun to wait since
      has_slot_ = true;
      go_on.swap(wanting_);
    }
    for (const auto& p : go_on) p.set_result();
  }
  /// Its end is decided. What the code has left behind is counted by nobody: it goes on.
  void end() {
    std::vector<Pending<void>> go_on;
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
      go_on.swap(wanting_);
    }
    for (const auto& p : go_on) p.set_result();
  }

private:
  void tell(Frame kind) const { send_(Packer(kind).put(invocation_).take()); }

  const std::string invocation_;
  const std::function<void(const std::string&)> send_;
  std::mutex mutex_;
  std::ptrdiff_t waits_ = 0;  // given back and not taken again; more than one only between two calls that cross
  bool has_slot_ = true, asked_ = false, ended_ = false;
  std::vector<Pending<void>> wanting_;
};

/// What this process is, if it is a worker. Never destroyed.
class WorkerProcess {
public:
  static WorkerProcess* get() {
    static WorkerProcess* const shared = application().empty() ? nullptr : new WorkerProcess;
    return shared;
  }

  const std::shared_ptr<RemoteStore>& store() const noexcept { return store_; }

  void send(const std::string& frame) {
    const std::lock_guard lock(sending_);
    if (!caller::detail::send_all(kChannel, frame)) ::_exit(0);
  }

  [[noreturn]] void serve(const App& app) {
    ::on_exit(&on_exit_called, nullptr);
    {
      CallerOptions options;
      options.name = "task-worker";
      Caller loop(caller::manual, options);
      LocalWork local(app.core(), loop);
      loop_ = &loop;
      local_ = &local;
      ready_ = true;
      send(Packer(Frame::hello).put(wire_version()).take());
      loop.run_until(stopped_);
    }
    orderly = true;
    std::exit(0);
  }

private:
  WorkerProcess() : parent_(::getppid()) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::fcntl(kChannel, F_SETFD, FD_CLOEXEC);
    struct sigaction action{};
    action.sa_handler = &ignored_signal;
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGINT, &action, nullptr);
    ::sigaction(SIGTERM, &action, nullptr);
    store_ = std::make_shared<RemoteStore>([this](std::string frame) { send(frame); });
    std::thread([this] { read(); }).detach();
    if (::getppid() != parent_) ::_exit(0);  // it went before it was asked for
  }

  void read() {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    Deframer in;
    constexpr std::size_t kChunk = 64 * 1024;
    for (;;) {
      const ssize_t n = ::recv(kChannel, in.room(kChunk), kChunk, 0);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) ::_exit(0);
      in.got(static_cast<std::size_t>(n));
      while (const auto frame = in.next()) receive(frame->first, Unpacker(frame->second));
    }
  }

  void receive(Frame kind, Unpacker frame) {
    if ((kind == Frame::run || kind == Frame::cancel) && !ready_) return;  // nobody sends that before hello
    switch (kind) {
      case Frame::reply:
      case Frame::work:
      case Frame::cancelled:
      case Frame::value:
        return store_->receive(kind, frame);
      case Frame::granted: {
        std::shared_ptr<Slots> slots;
        {
          const std::lock_guard lock(slots_mutex_);
          if (const auto it = slots_.find(frame.get<std::string>()); it != slots_.end()) slots = it->second;
        }
        if (slots) slots->granted();
        return;
      }
      case Frame::run: {
        auto runner = frame.get<std::string>();
        auto record = frame.get<InvocationRecord>();
        loop_->post([this, runner = std::move(runner), record = std::move(record)]() mutable {
          (void)loop_->call_soon([this, runner = std::move(runner), record = std::move(record)]() mutable {
            return execute(*this, std::move(runner), std::move(record));
          });
        });
        return;
      }
      case Frame::cancel: {
        auto invocation = frame.get<std::string>();
        const bool give_up = frame.get<bool>();
        loop_->post([this, invocation = std::move(invocation), give_up] { local_->cancel(invocation, give_up); });
        return;
      }
      case Frame::stop:
        stopped_.set_result();
        return;
      default:
        return;
    }
  }

  static Coro<void> execute(WorkerProcess& self, std::string runner, InvocationRecord record);

  const pid_t parent_;
  std::shared_ptr<RemoteStore> store_;
  std::mutex sending_, slots_mutex_;
  std::unordered_map<std::string, std::shared_ptr<Slots>> slots_;  // of what is at work, by invocation
  std::atomic<bool> ready_{false};
  const Caller* loop_ = nullptr;  // from hello on
  LocalWork* local_ = nullptr;
  Pending<void> stopped_;
};

Coro<void> WorkerProcess::execute(WorkerProcess& self, std::string runner, InvocationRecord record) {
  const std::string id = record.id;
  const auto slots = std::make_shared<Slots>(id, [&self](const std::string& frame) { self.send(frame); });
  {
    const std::lock_guard lock(self.slots_mutex_);
    self.slots_.insert_or_assign(id, slots);
  }
  Coro<Worked> work = self.local_->work(std::move(record), std::move(runner), slots, false);
  const Worked end = co_await std::move(work);
  slots->end();
  {
    const std::lock_guard lock(self.slots_mutex_);
    if (const auto it = self.slots_.find(id); it != self.slots_.end() && it->second == slots) self.slots_.erase(it);
  }
  self.send(Packer(Frame::ended).put(end.change).take());
}

}  // namespace

std::shared_ptr<Store> store_in_worker(std::string_view app_id) {
  return in_worker(app_id) ? WorkerProcess::get()->store() : nullptr;
}

}  // namespace detail

bool in_worker(std::string_view app_id) noexcept {
  const std::string& name = detail::application();
  return !name.empty() && name == app_id;
}

void worker_main(const App& app) {
  if (in_worker(app.app_id())) detail::WorkerProcess::get()->serve(app);
}

}  // namespace caller::task
