// The life of a worker: it takes its orders from a channel, and never outlives who gave them.
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <caller/tube/cluster.hpp>
#include <caller/tube/codec.hpp>

#include "../cbor.hpp"
#include "program.hpp"
#include "spawn.hpp"
#include "worker.hpp"

namespace caller::tube {

namespace detail {

namespace {

int wake_up[2] = {-1, -1};

extern "C" void on_sigterm(int) {
  const int kept = errno;
  (void)!::write(wake_up[1], "t", 1);
  errno = kept;
}
/// Ctrl-C in a terminal goes to every process of the program: the runner's decides what it means. A handler and not
/// SIG_IGN: programs that nodes start would inherit that.
extern "C" void on_sigint(int) {}

void handle(int signal, void (*handler)(int)) {
  struct sigaction action{};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  ::sigaction(signal, &action, nullptr);
}

/// Ends the process when the runner's has gone, however it went, and leaves nothing behind.
class ParentWatch {
public:
  ParentWatch(Meeting meeting, bool tidies)
      : meeting_(std::move(meeting)), tidies_(tidies), thread_([this] { watch(); }) {}
  ~ParentWatch() {
    (void)!::write(wake_up[1], "q", 1);
    thread_.join();
  }

private:
  void watch() const {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    if (tidies_) remove_left_meetings(meeting_);
    int patience = -1;
    for (;;) {
      pollfd fds[2] = {{kChannel, POLLIN, 0}, {wake_up[0], POLLIN, 0}};
      const int n = ::poll(fds, 2, patience);
      if (n < 0 && errno == EINTR) continue;
      if (n == 0) {
        if (parent_has_gone(0)) clean_up();
        ::signal(SIGTERM, SIG_DFL);
        sigset_t none;
        sigemptyset(&none);
        ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
        ::raise(SIGTERM);
        ::_exit(143);
      }
      char c = 0;
      if (fds[0].revents && ::read(kChannel, &c, 1) <= 0) {
        if (parent_has_gone(1000)) clean_up();
        ::_exit(0);
      }
      if (fds[1].revents && ::read(wake_up[0], &c, 1) == 1) {
        if (c == 'q') return;
        patience = 200;  // the system tells of a parent's death a little before its end of the channel closes
      }
    }
  }
  /// Whether the runner's process is gone, and not only this one given up. It closes its files a little before. A fork
  /// of it may hold its end of the channel; who the parent is tells all the same.
  bool parent_has_gone(int milliseconds) const {
    for (; ::getppid() == parent_; --milliseconds) {
      if (milliseconds == 0) return false;
      ::usleep(1000);
    }
    return true;
  }
  void clean_up() const {
    std::error_code ignored;
    if (!meeting_.folder.empty()) std::filesystem::remove_all(meeting_.folder, ignored);
  }
  const pid_t parent_ = ::getppid();
  Meeting meeting_;
  bool tidies_;
  std::thread thread_;
};

}  // namespace

int worker_main(WorkerHooks hooks) {
  try {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    ::fcntl(kChannel, F_SETFD, FD_CLOEXEC);
    if (::pipe2(wake_up, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe2");
    handle(SIGTERM, &on_sigterm);
    handle(SIGINT, &on_sigint);
    const std::string bytes = read_setup(kChannel);
    ByteReader reader(bytes);
    Map setup = reader.value().entries();
    const Map tube = reader.value().entries();
    for (const auto& [key, value] : tube) setup.set(key, value);
    const bool first = setup.at("self").to<std::uint32_t>() == 0 && setup.at("incarnation").to<std::size_t>() == 0;
    const ParentWatch watch(Meeting::from_map(setup.at("meeting").entries()), first);
    keep_foreign();
    Worker worker(setup, hooks);
    worker.run();
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "caller-tube-node: %s\n", e.what());
    return 1;
  }
}

namespace {
std::atomic<bool> own_worker = false;
}
bool program_is_worker() noexcept { return own_worker.load(std::memory_order_relaxed); }

}  // namespace detail

void cluster_main(int argc, char** argv) { cluster_main(argc, argv, {}); }
void cluster_main(int argc, char** argv, WorkerHooks hooks) {
  if (argc == 2 && std::strcmp(argv[1], detail::kWorkerArgument) == 0) std::exit(detail::worker_main(std::move(hooks)));
  detail::own_worker.store(true, std::memory_order_relaxed);
}

}  // namespace caller::tube
