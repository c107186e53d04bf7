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

#include <caller/kernel/interrupted.hpp>

#include "interrupt.hpp"
#include "next.hpp"

extern char** environ;

namespace {

using caller::kernel::Interrupted;
using caller::kernel::Next;
namespace interrupt = caller::kernel::interrupt;

constexpr int kPatience = 200;  // milliseconds until a program that is told to end is told in a stronger way

/// The shell that runs `command`, or -1 and errno. `from` becomes its descriptor `to` (-1: none does).
pid_t start(const char* command, int from, int to) noexcept {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  if (from >= 0) posix_spawn_file_actions_adddup2(&files, from, to);
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

void end(pid_t pid) noexcept {
  for (const int signal : {SIGINT, SIGTERM, SIGKILL}) {
    ::kill(-pid, signal);
    for (int waited = 0; waited < kPatience; waited += 10) {
      if (::syscall(SYS_wait4, pid, nullptr, WNOHANG, nullptr) != 0) return;
      ::syscall(SYS_poll, nullptr, 0, 10);
    }
  }
}

/// The status of the shell when it has ended. Errors: Interrupted; it has been ended then.
int await(pid_t pid) {
  if (interrupt::is_leaving()) end(pid);  // in a destructor, say: nobody waits for it any more
  int status = -1;
  try {
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
  } catch (const Interrupted&) {
    end(pid);
    throw;
  }
  return status;
}

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
  const pid_t pid = start(command, theirs, reads ? 1 : 0);
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
  streams().programs.emplace(stream, pid);
  return stream;
}

}  // namespace

extern "C" {

CALLER_API int system(const char* command) {
  static constinit Next<int(const char*)> next("system");
  if (!command || !interrupt::innermost_scope()) return (*next)(command);
  const pid_t pid = start(command, -1, -1);
  return pid < 0 ? -1 : await(pid);
}

CALLER_API FILE* popen(const char* command, const char* mode) {
  static constinit Next<FILE*(const char*, const char*)> next("popen");
  if (!command || !mode ||
      (std::strcmp(mode, "r") != 0 && std::strcmp(mode, "w") != 0 && std::strcmp(mode, "re") != 0 &&
       std::strcmp(mode, "we") != 0) ||
      !interrupt::innermost_scope())
    return (*next)(command, mode);
  return open_stream(command, mode);
}

CALLER_API int pclose(FILE* stream) {
  static constinit Next<int(FILE*)> next("pclose");
  pid_t pid = -1;
  {
    const std::lock_guard lock(streams().mutex);
    const auto it = streams().programs.find(stream);
    if (it != streams().programs.end()) {
      pid = it->second;
      streams().programs.erase(it);
    }
  }
  if (pid < 0) return (*next)(stream);
  ::fclose(stream);
  return await(pid);
}

}  // extern "C"
