// The process of a worker: executes what its runner sends it, with the runner's store, and never outlives it.
#include "worker.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>

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

class Slots;

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
      send(Packer(Frame::hello).take());
      loop.run_until(stopped_);
    }
    orderly = true;
    std::exit(0);
  }

  Pending<void> want_slot(const std::string& invocation) {
    Pending<void> granted;
    {
      const std::lock_guard lock(granting_mutex_);
      granting_[invocation] = granted;
    }
    send(Packer(Frame::wants).put(invocation).take());
    return granted;
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
        Pending<void> granted;
        {
          const std::lock_guard lock(granting_mutex_);
          const auto it = granting_.find(frame.get<std::string>());
          if (it == granting_.end()) return;
          granted = it->second;
          granting_.erase(it);
        }
        granted.set_result();
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
  std::mutex sending_, granting_mutex_;
  std::unordered_map<std::string, Pending<void>> granting_;
  std::atomic<bool> ready_{false};
  const Caller* loop_ = nullptr;  // from hello on
  LocalWork* local_ = nullptr;
  Pending<void> stopped_;
};

/// Of one invocation: the runner counts.
class Slots final : public SlotKeeper {
public:
  explicit Slots(std::string invocation) : invocation_(std::move(invocation)) {}
  void give_back_slot() noexcept override {
    WorkerProcess::get()->send(Packer(Frame::released).put(invocation_).take());
  }
  Pending<void> take_slot_again() override { return WorkerProcess::get()->want_slot(invocation_); }

private:
  const std::string invocation_;
};

Coro<void> WorkerProcess::execute(WorkerProcess& self, std::string runner, InvocationRecord record) {
  auto slots = std::make_shared<Slots>(record.id);
  Coro<Worked> work = self.local_->work(std::move(record), std::move(runner), std::move(slots), false);
  const Worked end = co_await std::move(work);
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
