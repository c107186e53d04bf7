#include "protocol/zmq_io.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>
#include <zmq.hpp>

#include "protocol/log.hpp"
#include "protocol/own_thread.hpp"

namespace caller::kernel {
namespace {

constexpr int kLingerMs = 1000;
constexpr int kParentPollMs = 1000;  // only where the kernel has no pidfd
constexpr int kRetryMs = 10;         // for a question whose client is not connected yet
constexpr std::chrono::seconds kPeerPatience{10};
constexpr std::chrono::seconds kListenerPatience{1};
constexpr int kBatch = 64;  // messages taken from one socket before the others are looked at

// With ipc a port is the end of a file's name: 0 means one that nobody has.
int free_ipc_port(const ConnectionInfo& info) {
  int port = 1;
  while (::access((info.ip + "-" + std::to_string(port)).c_str(), F_OK) == 0) ++port;
  return port;
}

void bind(zmq::socket_t& socket, const ConnectionInfo& info, int& port) {
  const bool ipc = info.transport == "ipc";
  if (ipc && port == 0) port = free_ipc_port(info);
  const std::string endpoint = info.endpoint(port);
  try {
    socket.bind(endpoint);
  } catch (const zmq::error_t& e) {
    const char* remedy = e.num() == EADDRINUSE ? "; another program listens there: end it, or give the port 0, which "
                                                 "stands for any that is free"
                                               : "";
    throw KernelError(KernelErrc::bind, "binding " + endpoint + ": " + e.what() + remedy);
  }
  if (ipc && info.ip.front() != '@') ::chmod((info.ip + "-" + std::to_string(port)).c_str(), S_IRUSR | S_IWUSR);
  if (port != 0 || ipc) return;
  const std::string actual = socket.get(zmq::sockopt::last_endpoint);
  port = std::stoi(actual.substr(actual.rfind(':') + 1));
}

void set_common(zmq::socket_t& socket, const ConnectionInfo& info) {
  socket.set(zmq::sockopt::linger, kLingerMs);
  socket.set(zmq::sockopt::sndhwm, 0);  // a slow client must not lose answers
  socket.set(zmq::sockopt::rcvhwm, 0);
  if (info.ip.find(':') != std::string::npos) socket.set(zmq::sockopt::ipv6, true);
  if (info.curve_secret.empty()) return;
  socket.set(zmq::sockopt::curve_server, true);
  socket.set(zmq::sockopt::curve_secretkey, info.curve_secret);
}

// Whoever asks for encryption is not served without it, nor with a key that is not the one clients are told.
void check_curve(const ConnectionInfo& info) {
  if (info.curve_secret.empty()) return;
  if (zmq_has("curve") == 0)
    throw KernelError(KernelErrc::connection_file, "the connection file asks for CURVE, which this libzmq cannot do");
  char derived[41] = "";
  if (zmq_curve_public(derived, info.curve_secret.c_str()) != 0)
    throw KernelError(KernelErrc::connection_file, "field \"curve_secretkey\" of the connection file is no Z85 key");
  if (info.curve_public != derived)
    throw KernelError(KernelErrc::connection_file,
                      "field \"curve_publickey\" of the connection file does not belong to its \"curve_secretkey\"");
}

bool receive(zmq::socket_t& socket, Frames& frames) {
  frames.clear();
  for (;;) {
    zmq::message_t part;
    if (!socket.recv(part, frames.empty() ? zmq::recv_flags::dontwait : zmq::recv_flags::none)) return false;
    frames.emplace_back(static_cast<const char*>(part.data()), part.size());
    if (!part.more()) return true;
  }
}

// False where the peer is not connected; only a mandatory router says so.
bool transmit(zmq::socket_t& socket, const Frames& frames) {
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const auto flags = i + 1 < frames.size() ? zmq::send_flags::sndmore : zmq::send_flags::none;
    zmq::message_t part(frames[i].data(), frames[i].size());
    try {
      (void)socket.send(part, flags | zmq::send_flags::dontwait);
    } catch (const zmq::error_t& e) {
      if (e.num() == EHOSTUNREACH && i == 0) return false;
      throw;
    }
  }
  return true;
}

int open_pidfd(int pid) {
#ifdef SYS_pidfd_open
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
#else
  (void)pid;
  return -1;
#endif
}

}  // namespace

struct ZmqIo::State {
  Handlers handlers;
  zmq::context_t context{1};
  zmq::socket_t shell{context, zmq::socket_type::router};
  zmq::socket_t control{context, zmq::socket_type::router};
  zmq::socket_t input{context, zmq::socket_type::router};
  zmq::socket_t iopub{context, zmq::socket_type::xpub};
  zmq::socket_t heartbeat{context, zmq::socket_type::router};
  int wake = -1;
  int parent_pid = 0;
  int parent_fd = -1;
  bool parent_reported = false;
  std::thread thread;
  using Clock = std::chrono::steady_clock;
  struct Question {
    Frames frames;
    Clock::time_point until;
  };
  std::vector<Question> undelivered;  // of the I/O thread, as the next
  enum : std::size_t { kHeartbeat, kIopub, kControl, kShell, kInput, kSockets };
  std::array<bool, kSockets> used{};
  bool listened = false;  // somebody has subscribed, or had the time to
  std::optional<Clock::time_point> listen_until;

  // Guards what follows. `closing` and an empty queue together end the thread.
  std::mutex mutex;
  std::vector<std::pair<Channel, Frames>> queue;
  bool closing = false;

  zmq::socket_t& to_send_on(Channel channel) {
    switch (channel) {
      case Channel::shell:
        used[kShell] = true;
        return shell;
      case Channel::control:
        used[kControl] = true;
        return control;
      case Channel::input:
        used[kInput] = true;
        return input;
      case Channel::iopub:
        break;
    }
    used[kIopub] = true;
    return iopub;
  }

  // Whether it is empty now, as of the next two.
  bool take(zmq::socket_t& socket, Channel channel) {
    Frames frames;
    for (int i = 0; i < kBatch; ++i) {
      if (!receive(socket, frames)) return true;
      handlers.received(channel, std::move(frames));
    }
    return false;
  }

  bool echo() {
    Frames frames;
    for (int i = 0; i < kBatch; ++i) {
      if (!receive(heartbeat, frames)) return true;
      transmit(heartbeat, frames);
    }
    return false;
  }

  bool subscriptions() {
    Frames frames;
    for (int i = 0; i < kBatch; ++i) {
      if (!receive(iopub, frames)) return true;
      if (frames.size() != 1 || frames[0].empty()) continue;
      // Subscribed by hand, so that the welcome is the first thing a subscriber gets.
      const std::string topic = frames[0].substr(1);
      if (frames[0][0] != '\1') {
        iopub.set(zmq::sockopt::unsubscribe, topic);
        continue;
      }
      iopub.set(zmq::sockopt::subscribe, topic);
      listened = true;
      if (handlers.welcome) transmit(iopub, handlers.welcome(topic));
    }
    return false;
  }

  // A client's sockets connect in any order: where the kernel was not there at once, one may try again 100 ms after
  // another. What the first request prints before anybody listens nobody sees, and a client that does not wait for the
  // welcome waits for its end forever; so shell is not read before a listener is there, or had a second to come.
  bool too_early() noexcept {
    if (listened || !used[kShell]) return false;
    try {
      if ((shell.get(zmq::sockopt::events) & ZMQ_POLLIN) == 0) return used[kShell] = false;
    } catch (const zmq::error_t&) {  // a signal: looked at again soon
    }
    if (!listen_until) listen_until = Clock::now() + kListenerPatience;
    listened = Clock::now() >= *listen_until;
    return !listened;
  }

  void parent_ended() {
    if (std::exchange(parent_reported, true)) return;
    log(LogLevel::warning, "the parent process " + std::to_string(parent_pid) + " ended: exiting");
    if (handlers.parent_died) handlers.parent_died();
  }

  // A client may execute a cell that asks for input before its stdin socket is connected.
  void retry() {
    std::erase_if(undelivered, [&](const Question& q) {
      if (transmit(to_send_on(Channel::input), q.frames)) return true;
      if (Clock::now() < q.until) return false;
      log(LogLevel::warning, "stdin: the client that should answer is not connected");
      return true;
    });
  }

  // False once the queue is empty for good.
  bool drain() {
    std::vector<std::pair<Channel, Frames>> batch;
    bool last;
    {
      const std::lock_guard lock(mutex);
      batch.swap(queue);
      last = closing;
    }
    for (auto& [channel, frames] : batch) {
      try {
        if (!transmit(to_send_on(channel), frames))
          undelivered.push_back({std::move(frames), Clock::now() + kPeerPatience});
      } catch (const zmq::error_t& e) {
        log(LogLevel::warning, "sending on " + std::string(channel_name(channel)) + ": " + e.what());
      }
    }
    return !last;
  }

  // Those that messages came from, or that were sent on, since they were last found empty: what sending takes in of the
  // other side's news is not shown by a socket's descriptor any more. All else it shows, so that no other is looked at.
  void read(std::size_t index) {
    guarded([&] {
      switch (index) {
        case kHeartbeat:
          used[index] = !echo();
          break;
        case kIopub:
          used[index] = !subscriptions();
          break;
        case kControl:
          used[index] = !take(control, Channel::control);
          break;
        case kShell:
          used[index] = !take(shell, Channel::shell);
          break;
        default:
          used[index] = !take(input, Channel::input);
          break;
      }
    });
  }

  void run() {
    std::vector<pollfd> items;
    for (zmq::socket_t* socket : {&heartbeat, &iopub, &control, &shell, &input})
      items.push_back({socket->get(zmq::sockopt::fd), POLLIN, 0});
    items.push_back({wake, POLLIN, 0});
    if (parent_fd >= 0) items.push_back({parent_fd, POLLIN, 0});
    used.fill(true);
    for (;;) {
      const bool poll_parent = parent_pid > 0 && parent_fd < 0 && !parent_reported;
      const bool early = too_early();
      const bool more = std::count(used.begin(), used.end(), true) > (early ? 1 : 0);
      const int ready = ::poll(items.data(), items.size(),
                               more                            ? 0
                               : early || !undelivered.empty() ? kRetryMs
                               : poll_parent                   ? kParentPollMs
                                                               : -1);
      if (ready < 0 && errno != EINTR) {
        log(LogLevel::error, std::string("polling sockets: ") + std::strerror(errno));
        return;
      }
      if (ready <= 0)
        for (pollfd& item : items) item.revents = 0;
      for (std::size_t i = 0; i < kSockets; ++i) used[i] = used[i] || items[i].revents != 0;
      if (items[kSockets].revents) {
        std::uint64_t count = 0;
        [[maybe_unused]] const ssize_t n = ::read(wake, &count, sizeof count);
      }
      if (items.size() > kSockets + 1 && items[kSockets + 1].revents) {
        items.pop_back();
        guarded([&] { parent_ended(); });
      }
      if (poll_parent && ::kill(parent_pid, 0) != 0 && errno == ESRCH) guarded([&] { parent_ended(); });
      if (used[kIopub]) read(kIopub);  // who has subscribed by now gets what is sent now
      guarded([&] { retry(); });
      if (!drain()) return;
      for (std::size_t i = 0; i < kSockets; ++i)
        if (used[i] && !(i == kShell && too_early())) read(i);
    }
  }

  template <class F>
  void guarded(F f) {
    try {
      f();
    } catch (const std::exception& e) {
      log(LogLevel::error, std::string("I/O thread: ") + e.what());
    }
  }

  void notify() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = ::write(wake, &one, sizeof one);
  }
};

ZmqIo::ZmqIo(ConnectionInfo& info, Handlers handlers, int watch_pid) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.handlers = std::move(handlers);
  check_curve(info);
  for (zmq::socket_t* socket : {&s.shell, &s.control, &s.input, &s.heartbeat}) {
    set_common(*socket, info);
    socket->set(zmq::sockopt::router_handover, true);  // a client that reconnects under its old identity takes over
  }
  set_common(s.iopub, info);
  s.iopub.set(zmq::sockopt::xpub_manual, true);       // every subscription is seen, before it takes effect
  s.input.set(zmq::sockopt::router_mandatory, true);  // a question must not vanish
  bind(s.shell, info, info.shell_port);
  bind(s.control, info, info.control_port);
  bind(s.input, info, info.stdin_port);
  bind(s.iopub, info, info.iopub_port);
  bind(s.heartbeat, info, info.hb_port);
  s.wake = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (s.wake < 0) throw KernelError(KernelErrc::bind, "creating the wake-up descriptor failed");
  s.parent_pid = watch_pid;
  if (watch_pid > 0) {
    s.parent_fd = open_pidfd(watch_pid);
    if (s.parent_fd < 0 && errno == ESRCH) s.parent_fd = -1;  // already gone: the poll below finds out
  }
}

ZmqIo::~ZmqIo() {
  stop();
  if (state_->wake >= 0) ::close(state_->wake);
  if (state_->parent_fd >= 0) ::close(state_->parent_fd);
}

void ZmqIo::start() {
  state_->thread = own_thread("caller-io", [s = state_.get()] { s->run(); });
}

void ZmqIo::send(Channel channel, Frames frames) {
  bool wake = false;
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->closing) return;
    wake = state_->queue.empty();
    state_->queue.emplace_back(channel, std::move(frames));
  }
  if (wake) state_->notify();
}

void ZmqIo::stop() {
  {
    const std::lock_guard lock(state_->mutex);
    if (std::exchange(state_->closing, true)) return;
  }
  state_->notify();
  if (state_->thread.joinable()) state_->thread.join();
  for (zmq::socket_t* socket : {&state_->shell, &state_->control, &state_->input, &state_->iopub, &state_->heartbeat})
    socket->close();
  state_->context.close();
}

void neutralise_signals() {
  struct sigaction action{};
  action.sa_handler = [](int) {};
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGPIPE, &action, nullptr);
}

}  // namespace caller::kernel
