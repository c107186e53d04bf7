#include "traps.hpp"

#if CALLER_DEBUGGER_SUPPORTED

#include <asm/prctl.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

namespace caller::kernel::debugger {
namespace {

constexpr std::size_t kStops = 64;
constexpr std::size_t kSites = 1024;
constexpr std::size_t kExempt = 16;
constexpr std::uint64_t kTrapFlag = 0x100;

struct Site {
  std::atomic<std::uintptr_t> address{0};  // 0: free
  std::atomic<bool> active{false};
  unsigned char original = 0;
};

Stop* stops = nullptr;
Site sites[kSites];
std::atomic<std::size_t> sites_used{0};
std::atomic<pid_t> exempt[kExempt];
std::atomic<std::uint64_t> counter{0};
std::atomic<pid_t> asked{0};  // the thread that was asked to stop
int event = -1;
int memory = -1;
pid_t process = 0;
struct sigaction before{};

// A thread that passes a breakpoint: its site, while the one instruction below it runs.
thread_local Site* passed __attribute__((tls_model("initial-exec"))) = nullptr;

pid_t this_thread() { return static_cast<pid_t>(::syscall(SYS_gettid)); }

bool poke(int fd, std::uintptr_t address, const unsigned char* data, std::size_t size) {
  if (::pwrite(fd, data, size, static_cast<off_t>(address)) == static_cast<ssize_t>(size)) return true;
  // A system that forbids writing through /proc: the page itself is opened.
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const std::uintptr_t begin = address & ~(page - 1), end = (address + size + page - 1) & ~(page - 1);
  if (::mprotect(reinterpret_cast<void*>(begin), end - begin, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) return false;
  std::memcpy(reinterpret_cast<void*>(address), data, size);
  return true;
}

Site* site_at(std::uintptr_t address) {
  const std::size_t n = sites_used.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < n; ++i)
    if (sites[i].address.load(std::memory_order_acquire) == address) return &sites[i];
  return nullptr;
}

bool is_exempt(pid_t tid) {
  for (auto& e : exempt)
    if (e.load(std::memory_order_acquire) == tid) return true;
  return false;
}

Stop* stop_of(pid_t tid) {
  for (std::size_t i = 0; i < kStops; ++i)
    if (stops[i].tid.load(std::memory_order_acquire) == tid && stops[i].state.load() != Stop::kFree) return &stops[i];
  return nullptr;
}

// A place to stop in: the thread's own, a free one, or that of a thread that has ended.
Stop* claim(pid_t tid) {
  if (Stop* mine = stop_of(tid)) {
    mine->state.store(Stop::kClaimed);
    return mine;
  }
  for (int turn = 0; turn < 2; ++turn)
    for (std::size_t i = 0; i < kStops; ++i) {
      Stop& s = stops[i];
      std::uint32_t expected = Stop::kFree;
      if (turn == 1) {
        if (s.state.load() != Stop::kRunning || ::syscall(SYS_tgkill, process, s.tid.load(), 0) == 0) continue;
        expected = Stop::kRunning;
      }
      if (!s.state.compare_exchange_strong(expected, Stop::kClaimed)) continue;
      s.passing.store(false);
      s.stepping.store(false);
      s.tid.store(tid, std::memory_order_release);
      return &s;
    }
  return nullptr;
}

// On the Stop's own stack; the thread's own one belongs to the debugger meanwhile.
[[noreturn]] void wait_here(Stop* s) {
  s->state.store(Stop::kStopped, std::memory_order_release);
  const std::uint64_t one = 1;
  (void)!::write(event, &one, sizeof one);
  while (s->go.load(std::memory_order_acquire) == 0)
    ::syscall(SYS_futex, &s->go, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
  s->go.store(0);
  auto& flags = s->context.uc_mcontext.gregs[REG_EFL];
  if (s->stepping.load())
    flags |= kTrapFlag;
  else
    flags &= ~static_cast<greg_t>(kTrapFlag);
  errno = s->saved_errno;
  // The kernel takes the frame of the signal from the stack pointer: here the copy.
  asm volatile(
      "mov %0, %%rsp\n\t"
      "mov $15, %%eax\n\t"
      "syscall\n\t"
      "ud2"
      :
      : "r"(&s->context)
      : "memory");
  __builtin_unreachable();
}

// Does not return if there is a place to stop in: the thread goes on behind the signal when it is resumed.
void stop_here(ucontext_t* u, StopReason reason, int saved_errno) {
  Stop* s = claim(this_thread());
  if (!s) return;
  s->reason = reason;
  s->saved_errno = saved_errno;
  s->stepping.store(false);
  s->number.store(++counter);
  std::memcpy(&s->context, u, offsetof(ucontext_t, uc_sigmask) + sizeof(std::uint64_t));
  const auto* fp = reinterpret_cast<const unsigned char*>(u->uc_mcontext.fpregs);
  s->extended_size = 0;
  if (fp) {
    std::uint32_t magic = 0, size = 512;
    std::memcpy(&magic, fp + 464, sizeof magic);
    if (magic == 0x46505853U) std::memcpy(&size, fp + 468, sizeof size);
    s->extended_size = std::min<std::size_t>(size, Stop::kExtended);
    std::memcpy(s->extended, fp, s->extended_size);
    s->context.uc_mcontext.fpregs = reinterpret_cast<fpregset_t>(s->extended);
  }
  s->context.uc_mcontext.gregs[REG_EFL] &= ~static_cast<greg_t>(kTrapFlag);
  ::syscall(SYS_arch_prctl, ARCH_GET_FS, &s->fs_base);
  ::syscall(SYS_arch_prctl, ARCH_GET_GS, &s->gs_base);
  unsigned char* top = s->stack + Stop::kStack - 64;
  asm volatile(
      "mov %0, %%rsp\n\t"
      "xor %%ebp, %%ebp\n\t"
      "call *%2\n\t"
      "ud2"
      :
      : "r"(top), "D"(s), "r"(&wait_here)
      : "memory");
  __builtin_unreachable();
}

// In a copy of the process nobody listens: breakpoints go, and the program runs as if there had been none.
void forget_in_child() {
  const int fd = ::open("/proc/self/mem", O_RDWR | O_CLOEXEC);
  const std::size_t n = sites_used.load();
  for (std::size_t i = 0; i < n; ++i)
    if (const auto a = sites[i].address.load(); a && sites[i].active.load()) {
      poke(fd, a, &sites[i].original, 1);
      sites[i].active.store(false);
    }
  if (fd >= 0) ::close(fd);
}

void chain(int signal, siginfo_t* info, void* context) {
  if (before.sa_flags & SA_SIGINFO) {
    if (before.sa_sigaction) return before.sa_sigaction(signal, info, context);
  } else if (before.sa_handler == SIG_IGN) {
    return;
  } else if (before.sa_handler != SIG_DFL) {
    return before.sa_handler(signal);
  }
  struct sigaction fatal{};
  fatal.sa_handler = SIG_DFL;
  ::sigaction(signal, &fatal, nullptr);
  ::syscall(SYS_tgkill, ::getpid(), this_thread(), signal);
}

// True: handled.
bool handle(siginfo_t* info, ucontext_t* u, int saved_errno) {
  auto& rip = u->uc_mcontext.gregs[REG_RIP];
  auto& flags = u->uc_mcontext.gregs[REG_EFL];
  const pid_t tid = this_thread();
  const bool child = ::getpid() != process;
  if (info->si_code == SI_KERNEL) {  // int3
    const auto address = static_cast<std::uintptr_t>(rip) - 1;
    Site* site = site_at(address);
    if (!site) return *reinterpret_cast<const volatile unsigned char*>(address) != 0xCC && (rip -= 1, true);
    rip -= 1;
    if (child) {
      forget_in_child();
      return true;
    }
    if (!site->active.load()) {  // taken back meanwhile; a thread that passed may have put it there again
      poke(memory, address, &site->original, 1);
      return true;
    }
    const Stop* known = stop_of(tid);
    if (!is_exempt(tid) && !(known && known->passing.load())) stop_here(u, StopReason::breakpoint, saved_errno);
    // It passes: the instruction below runs alone. Another thread that comes by in this moment passes, too.
    poke(memory, address, &site->original, 1);
    passed = site;
    flags |= kTrapFlag;
    return true;
  }
  if (info->si_code == TRAP_TRACE || info->si_code == TRAP_BRKPT) {
    if (Site* site = passed) {
      passed = nullptr;
      const unsigned char trap = 0xCC;
      if (site->active.load() && !child) poke(memory, site->address.load(), &trap, 1);
      flags &= ~static_cast<greg_t>(kTrapFlag);
      return true;
    }
    Stop* s = stop_of(tid);
    if (!s || !s->stepping.exchange(false)) return false;
    flags &= ~static_cast<greg_t>(kTrapFlag);
    if (!child) stop_here(u, StopReason::step, saved_errno);
    return true;
  }
  if (info->si_code == SI_TKILL && info->si_pid == process) {
    pid_t me = tid;
    if (asked.compare_exchange_strong(me, 0)) stop_here(u, StopReason::asked, saved_errno);
    return true;
  }
  return false;
}

void on_trap(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  if (!handle(info, static_cast<ucontext_t*>(context), saved_errno)) chain(signal, info, context);
  errno = saved_errno;
}

}  // namespace

bool install_traps() {
  if (stops) return true;
  event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  memory = ::open("/proc/self/mem", O_RDWR | O_CLOEXEC);
  void* block = ::mmap(nullptr, sizeof(Stop) * kStops, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (event < 0 || memory < 0 || block == MAP_FAILED) return false;
  auto* made = static_cast<Stop*>(block);
  for (std::size_t i = 0; i < kStops; ++i) {
    // Not value-initialised: the stacks are pages that nobody has touched yet.
    new (&made[i]) Stop;
  }
  process = ::getpid();
  stops = made;
  struct sigaction action{};
  action.sa_sigaction = &on_trap;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigfillset(&action.sa_mask);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) sigdelset(&action.sa_mask, fault);
  return ::sigaction(SIGTRAP, &action, &before) == 0;
}

int stop_event() { return event; }

std::vector<Stop*> stopped_threads() {
  std::vector<Stop*> out;
  for (std::size_t i = 0; stops && i < kStops; ++i)
    if (stops[i].state.load(std::memory_order_acquire) == Stop::kStopped) out.push_back(&stops[i]);
  std::sort(out.begin(), out.end(), [](Stop* a, Stop* b) { return a->number.load() < b->number.load(); });
  return out;
}

void resume(Stop& stop, bool single_step) {
  stop.stepping.store(single_step);
  stop.state.store(Stop::kRunning);
  stop.go.store(1, std::memory_order_release);
  ::syscall(SYS_futex, &stop.go, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

void ask_to_stop(pid_t tid) {
  asked.store(tid);
  ::syscall(SYS_tgkill, process, tid, SIGTRAP);
}

void exempt_this_thread() {
  const pid_t tid = this_thread();
  for (auto& e : exempt) {
    pid_t none = 0;
    if (e.load() == tid || e.compare_exchange_strong(none, tid)) return;
  }
}

void pass_breakpoints(Stop& stop) { stop.passing.store(true); }

void obey_breakpoints() {
  if (!stops) return;
  if (Stop* mine = stop_of(this_thread())) mine->passing.store(false);
}

bool insert_breakpoint(std::uintptr_t address) {
  Site* site = site_at(address);
  if (!site) {
    const std::size_t n = sites_used.load();
    for (std::size_t i = 0; n == kSites && i < n && !site; ++i)
      if (!sites[i].active.load()) site = &sites[i];
    if (!site && n == kSites) return false;
    if (!site) site = &sites[n];
    site->address.store(address, std::memory_order_release);
    sites_used.store(std::max(n, static_cast<std::size_t>(site - sites) + 1), std::memory_order_release);
  }
  if (site->active.load()) return true;
  if (::pread(memory, &site->original, 1, static_cast<off_t>(address)) != 1) return false;
  if (site->original == 0xCC) return false;  // the program's own
  site->active.store(true, std::memory_order_release);
  const unsigned char trap = 0xCC;
  if (poke(memory, address, &trap, 1)) return true;
  site->active.store(false);
  return false;
}

bool remove_breakpoint(std::uintptr_t address) {
  Site* site = site_at(address);
  if (!site || !site->active.load()) return false;
  const bool done = poke(memory, address, &site->original, 1);
  site->active.store(false, std::memory_order_release);
  return done;
}

void remove_all_breakpoints() {
  const std::size_t n = sites_used.load();
  for (std::size_t i = 0; i < n; ++i) remove_breakpoint(sites[i].address.load());
}

std::vector<unsigned char> read_memory(std::uintptr_t address, std::size_t size) {
  std::vector<unsigned char> out(size);
  std::size_t have = 0;
  while (have < size) {
    const ssize_t n = ::pread(memory, out.data() + have, size - have, static_cast<off_t>(address + have));
    if (n <= 0) break;
    have += static_cast<std::size_t>(n);
  }
  out.resize(have);
  const std::size_t n = sites_used.load();
  for (std::size_t i = 0; i < n; ++i) {
    const auto a = sites[i].address.load();
    if (sites[i].active.load() && a >= address && a < address + have) out[a - address] = sites[i].original;
  }
  return out;
}

bool write_memory(std::uintptr_t address, const unsigned char* data, std::size_t size) {
  return poke(memory, address, data, size);
}

}  // namespace caller::kernel::debugger

#endif
