// Programs that cells run by means of libc, which waits for them inside of itself: an interrupt of the cell could not
// end that, nor the program. So inside of an interrupt::Scope they are run here, in a process group of their own, which
// an interrupt ends.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include <caller/kernel/interrupted.hpp>

#include "interrupt.hpp"
#include "next.hpp"
#include "shell_program.hpp"

extern char** environ;

namespace caller::kernel {

pid_t start_shell(const char* command, std::initializer_list<Given> descriptors) noexcept {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  for (const Given& d : descriptors) posix_spawn_file_actions_adddup2(&files, d.from, d.to);
  posix_spawnattr_t how;
  posix_spawnattr_init(&how);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&how, &none);
  posix_spawnattr_setsigdefault(&how, &all);
  posix_spawnattr_setpgroup(&how, 0);
  posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const char* arguments[] = {"sh", "-c", command, nullptr};
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, "/bin/sh", &files, &how, const_cast<char**>(arguments), environ);
  posix_spawnattr_destroy(&how);
  posix_spawn_file_actions_destroy(&files);
  if (error == 0) return pid;
  errno = error;
  return -1;
}

}  // namespace caller::kernel

namespace {

using caller::kernel::Interrupted;
using caller::kernel::Next;
using caller::kernel::start_shell;
namespace interrupt = caller::kernel::interrupt;

constexpr int kPatience = 200;  // milliseconds until a program that is told to end is told in a stronger way

constinit Next<int(const char*)> next_system("system");
constinit Next<FILE*(const char*, const char*)> next_popen("popen");
constinit Next<int(FILE*)> next_pclose("pclose");
[[gnu::constructor]] void find_all() {
  (void)*next_system;
  (void)*next_popen;
  (void)*next_pclose;
}

thread_local pid_t awaited = -1;  // by this thread

/// Looks for kPatience whether `over()` is true.
template <class F>
bool becomes(F over) noexcept {
  for (int waited = 0; waited < kPatience; waited += 10) {
    if (over()) return true;
    ::syscall(SYS_poll, nullptr, 0, 10);
  }
  return false;
}

/// The shell and all that is left of its group; the shell may have ended before the rest does.
void end(pid_t pid) noexcept {
  bool reaped = false;
  const auto over = [&] {
    reaped = reaped || ::syscall(SYS_wait4, pid, nullptr, WNOHANG, nullptr) != 0;
    return reaped && ::kill(-pid, 0) != 0;
  };
  for (const int signal : {SIGINT, SIGTERM, SIGKILL}) {
    ::kill(-pid, signal);
    if (becomes(over)) return;
  }
}

/// The status of the shell when it has ended. Errors: Interrupted; it has been ended then.
int await(pid_t pid) {
  int status = -1;
  awaited = pid;
  try {
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
  } catch (const Interrupted&) {
    interrupt::end_program();
    throw;
  }
  awaited = -1;
  return status;
}

}  // namespace

void caller::kernel::interrupt::end_program() noexcept {
  if (const pid_t pid = std::exchange(awaited, -1); pid >= 0) end(pid);
}

namespace {

struct Streams {
  std::mutex mutex;
  std::map<FILE*, pid_t> programs;
};
Streams& streams() {
  static auto* const all = new Streams;  // a cell's streams may outlive everything
  return *all;
}

FILE* open_stream(const char* command, const char* mode) {
  const bool reads = mode[0] == 'r';
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return nullptr;
  const int ours = ends[reads ? 0 : 1], theirs = ends[reads ? 1 : 0];
  const pid_t pid = start_shell(command, {{theirs, reads ? 1 : 0}});
  const int error = errno;
  ::close(theirs);
  FILE* const stream = pid < 0 ? nullptr : ::fdopen(ours, reads ? "r" : "w");
  if (!stream) {
    ::close(ours);
    if (pid >= 0) end(pid);
    errno = pid < 0 ? error : ENOMEM;
    return nullptr;
  }
  const std::lock_guard lock(streams().mutex);
  streams().programs.insert_or_assign(stream, pid);  // there may be one that was closed by fclose
  return stream;
}

}  // namespace

extern "C" {

CALLER_API int system(const char* command) {
  if (!command || !interrupt::innermost_scope()) return (*next_system)(command);
  const pid_t pid = start_shell(command, {});
  return pid < 0 ? -1 : await(pid);
}

CALLER_API FILE* popen(const char* command, const char* mode) {
  if (!command || !mode ||
      (std::strcmp(mode, "r") != 0 && std::strcmp(mode, "w") != 0 && std::strcmp(mode, "re") != 0 &&
       std::strcmp(mode, "we") != 0) ||
      !interrupt::innermost_scope())
    return (*next_popen)(command, mode);
  return open_stream(command, mode);
}

CALLER_API int pclose(FILE* stream) {
  pid_t pid = -1;
  {
    const std::lock_guard lock(streams().mutex);
    const auto it = streams().programs.find(stream);
    if (it != streams().programs.end()) {
      pid = it->second;
      streams().programs.erase(it);
    }
  }
  if (pid < 0) return (*next_pclose)(stream);
  ::fclose(stream);
  if (!interrupt::is_leaving()) return await(pid);
  // In a destructor, say: nobody has told the program to end, and nobody waits for long.
  int status = -1;
  if (!becomes([&] { return ::syscall(SYS_wait4, pid, &status, WNOHANG, nullptr) != 0; })) end(pid);
  return status;
}

}  // extern "C"
