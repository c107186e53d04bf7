#include "adapter.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <system_error>
#include <utility>

extern char** environ;

namespace caller::kernel::debugger {
namespace {

constexpr std::chrono::milliseconds kGrace{1000};

// libc's own read is one of the calls that an interrupted cell leaves by an exception.
ssize_t raw_read(int fd, char* data, std::size_t size) { return ::syscall(SYS_read, fd, data, size); }

void pipe_or_throw(int (&ends)[2]) {
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
}

}  // namespace

Adapter::Adapter(const std::string& program, int socket, Handlers handlers) : handlers_(std::move(handlers)) {
  int in[2], out[2];
  pipe_or_throw(in);
  pipe_or_throw(out);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, in[0], 0);
  posix_spawn_file_actions_adddup2(&files, out[1], 1);
  posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&files, socket, kSocket);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);  // a terminal's interrupt is not for it
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  std::string name = program, mode = "--repl-mode=variable";
  char* argv[] = {name.data(), mode.data(), nullptr};
  const int error = ::posix_spawn(&pid_, program.c_str(), &files, &attributes, argv, environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  ::close(in[0]);
  ::close(out[1]);
  to_ = in[1];
  from_ = out[0];
  if (error != 0) {
    ::close(to_);
    ::close(from_);
    throw std::system_error(error, std::generic_category(), program);
  }
  reader_ = std::thread([this] { read(); });
}

Adapter::~Adapter() {
  ::close(to_);  // its input ends: it goes by itself
  const auto deadline = std::chrono::steady_clock::now() + kGrace;
  while (::syscall(SYS_wait4, pid_, nullptr, WNOHANG, nullptr) == 0) {
    if (std::chrono::steady_clock::now() > deadline) {
      ::kill(pid_, SIGKILL);
      while (::syscall(SYS_wait4, pid_, nullptr, 0, nullptr) < 0 && errno == EINTR) {
      }
      break;
    }
    const timespec moment{0, 5'000'000};
    ::syscall(SYS_nanosleep, &moment, nullptr);
  }
  reader_.join();
  ::close(from_);
}

bool Adapter::write(const json& message) {
  const std::string body = message.dump(-1, ' ', false, json::error_handler_t::replace);
  const std::string text = "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  const std::lock_guard lock(write_mutex_);
  std::size_t at = 0;
  while (at < text.size()) {
    const ssize_t n = ::write(to_, text.data() + at, text.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += static_cast<std::size_t>(n);
  }
  return true;
}

void Adapter::request(const std::string& command, json arguments, std::function<void(json)> done) {
  json message = {{"type", "request"}, {"command", command}};
  if (!arguments.is_null()) message["arguments"] = std::move(arguments);
  int number = 0;
  {
    const std::lock_guard lock(mutex_);
    if (!ended_) {
      number = ++sequence_;
      waiting_.emplace(number, done);
    }
  }
  if (number == 0) return done(nullptr);
  message["seq"] = number;
  if (write(message)) return;
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.erase(number) == 0) return;  // answered, or given up by the reader
  }
  done(nullptr);
}

void Adapter::received(json message) {
  const auto kind = message.find("type");
  if (kind == message.end()) return;
  if (*kind == "event") return handlers_.event(std::move(message));
  if (*kind != "response") return;
  std::function<void(json)> done;
  {
    const std::lock_guard lock(mutex_);
    const auto it = waiting_.find(message.value("request_seq", 0));
    if (it == waiting_.end()) return;
    done = std::move(it->second);
    waiting_.erase(it);
  }
  done(std::move(message));
}

void Adapter::read() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  const std::string head = "Content-Length: ";
  std::string buffer;
  char part[65536];
  for (bool good = true; good;) {
    const ssize_t n = raw_read(from_, part, sizeof part);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    buffer.append(part, static_cast<std::size_t>(n));
    for (;;) {
      const auto blank = buffer.find("\r\n\r\n");
      if (blank == std::string::npos) break;
      const auto at = buffer.find(head);
      if (at == std::string::npos || at > blank) {
        good = false;
        break;
      }
      const std::size_t size = std::strtoul(buffer.c_str() + at + head.size(), nullptr, 10);
      if (buffer.size() < blank + 4 + size) break;
      json message = json::parse(buffer.substr(blank + 4, size), nullptr, false);
      buffer.erase(0, blank + 4 + size);
      if (message.is_object()) received(std::move(message));
    }
  }
  std::map<int, std::function<void(json)>> left;
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    left.swap(waiting_);
  }
  for (auto& [number, done] : left) done(nullptr);
  handlers_.ended();
}

}  // namespace caller::kernel::debugger
