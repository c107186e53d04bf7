// A guard remembers where it stands (setjmp). The handler of a fault runs on a stack of its own, looks at the frames
// that faulted, writes down what it found, and returns to `caller_fault_recover` instead of the place of the fault;
// that jumps to the guard. So no lock of the kernel's or libc's is taken in a handler.
//
// Not survived, as nobody could say what state is left behind: a fault with no code of a cell on the stack, one inside
// of the kernel's functions that a cell called, and one inside of malloc or the dynamic loader, which hold locks. A
// stack that is used up in there is common, however (a recursion that allocates): then the stack is given its reserve,
// the called function goes on, and the fault is taken when it returns to the cell.
#include "faults.hpp"

#include <cxxabi.h>
#include <dlfcn.h>
#include <link.h>
#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <caller/detail/turn_guard.hpp>
#include <caller/kernel/values.hpp>

#include "fault_places.hpp"
#include "fault_record.hpp"
#include "faults_of_threads.hpp"
#include "interrupt.hpp"
#include "last_words.hpp"
#include "shell_program.hpp"
#include "stream_locks.hpp"

#if !defined(__x86_64__)
#error "faults of cells are handled for x86-64 only"
#endif

namespace caller::kernel::faults {

CellFault::~CellFault() = default;
Host::~Host() = default;
void Host::loop_begins(const LoopTurns&) noexcept {}

namespace {

constexpr std::size_t kAlternateStack = 128 * 1024;
constexpr std::size_t kReserve = 64 * 1024;

// libstdc++'s, as the ABI has it.
struct ExceptionGlobals {
  void* caught;
  unsigned uncaught;
};
ExceptionGlobals& exception_globals() { return *reinterpret_cast<ExceptionGlobals*>(abi::__cxa_get_globals()); }

struct Guard {
  jmp_buf jump;
  std::uintptr_t sp = 0;  // nothing below belongs to the guard's own frame
  bool direct = false;  // all that runs in it is a cell's; else a loop's turn, which runs the kernel's own work as well
};

struct Thread {
  Guard* innermost = nullptr;
  std::uintptr_t low = 0, high = 0;  // the stack
  std::size_t guard_size = 0;
  bool main = false;
  void* alternate = nullptr;
  int* heap_lock = nullptr;  // of the part of the heap this thread allocates from
  bool reading = false;      // a stack that may be damaged
  bool reserve = false;      // it is in use
  jmp_buf unreadable;
  Record record;

  ~Thread() {
    if (!alternate) return;
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    ::sigaltstack(&none, nullptr);
    ::munmap(alternate, kAlternateStack);
  }
};

int* main_heap_lock = nullptr;
thread_local constinit Thread* mine __attribute__((tls_model("initial-exec"))) = nullptr;

Thread& this_thread_of_cells() {
  if (mine) return *mine;
  struct Holder {
    Thread thread;
    ~Holder() { mine = nullptr; }
  };
  thread_local Holder holder;
  Thread& t = holder.thread;
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    void* base = nullptr;
    std::size_t size = 0;
    pthread_attr_getstack(&attributes, &base, &size);
    pthread_attr_getguardsize(&attributes, &t.guard_size);
    pthread_attr_destroy(&attributes);
    t.low = reinterpret_cast<std::uintptr_t>(base);
    t.high = t.low + size;
  }
  t.heap_lock = lock_of_heap();
  t.main = ::gettid() == ::getpid();
  if (t.main) main_heap_lock = t.heap_lock;
  stack_t now{};
  if (::sigaltstack(nullptr, &now) == 0 && (now.ss_flags & SS_DISABLE)) {
    void* memory = ::mmap(nullptr, kAlternateStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED) {
      t.alternate = memory;
      const stack_t own{memory, 0, kAlternateStack};
      ::sigaltstack(&own, nullptr);
    }
  }
  // A thread may have been started by one that takes no signals; a fault that is blocked kills without a word.
  sigset_t faults;
  sigemptyset(&faults);
  for (const int s : kSignals) sigaddset(&faults, s);
  pthread_sigmask(SIG_UNBLOCK, &faults, nullptr);
  mine = &t;
  return t;
}

// ---- the process ----

std::terminate_handler terminate_before = nullptr;
// ---- the stack ----

/// Reads the frames. A damaged stack may fault while it is read: the handler ends that.
void look(Thread& t, Walk& walk) noexcept {
  walk.record->n = 0;
  walk.record->broken = true;
  t.reading = true;
  if (_setjmp(t.unreadable) == 0) _Unwind_Backtrace(&look_at, &walk);
  t.reading = false;
}

[[noreturn]] void recover(Guard* guard) { _longjmp(guard->jump, 1); }

extern "C" {
[[noreturn, gnu::used]] void caller_fault_recover(Guard* guard) { recover(guard); }
[[noreturn, gnu::used]] void caller_fault_unreadable() { _longjmp(mine->unreadable, 1); }
[[noreturn, gnu::used]] void caller_fault_returned() { recover(mine->innermost); }
// Where a function returns to whose return address was replaced.
void caller_fault_landing();
}
__asm__(
    ".pushsection .text\n"
    ".type caller_fault_landing, @function\n"
    ".hidden caller_fault_landing\n"
    ".globl caller_fault_landing\n"
    "caller_fault_landing:\n"
    "  andq $-16, %rsp\n"
    "  call caller_fault_returned\n"
    "  ud2\n"
    ".size caller_fault_landing, .-caller_fault_landing\n"
    ".popsection\n");

/// A function that is called last is jumped to, so what called it is not on the stack.
void settle_who_called(Walk& walk, const Guard& guard, bool wild_call) noexcept {
  if (walk.cell) return;
  if (guard.direct && !walk.first_in_kernel) {
    walk.cell = true;
    walk.kernel = false;  // those were the frames that run the cell
  } else if (wild_call && !walk.kernel) {
    walk.cell = true;
  }
}

// ---- room on the stack ----

bool give_reserve(Thread& t) noexcept {
  if (t.reserve) return false;
  if (t.main) {
    rlimit limit;
    if (::getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return false;
    limit.rlim_cur += kReserve;
    if (::setrlimit(RLIMIT_STACK, &limit) != 0) return false;
  } else if (!t.guard_size ||
             ::mprotect(reinterpret_cast<void*>(t.low - t.guard_size), t.guard_size, PROT_READ | PROT_WRITE) != 0) {
    return false;
  }
  t.reserve = true;
  return true;
}

void take_reserve(Thread& t) noexcept {
  if (!std::exchange(t.reserve, false)) return;
  if (t.main) {
    rlimit limit;
    if (::getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
      limit.rlim_cur -= kReserve;
      ::setrlimit(RLIMIT_STACK, &limit);
    }
  } else {
    ::mprotect(reinterpret_cast<void*>(t.low - t.guard_size), t.guard_size, PROT_NONE);
  }
}

void go_to(ucontext_t& context, void (*function)(), std::uintptr_t sp, void* argument) noexcept {
  auto& r = context.uc_mcontext.gregs;
  r[REG_RIP] = static_cast<greg_t>(reinterpret_cast<std::uintptr_t>(function));
  r[REG_RSP] = static_cast<greg_t>(((sp - 1024) & ~std::uintptr_t{15}) - 8);  // as after a call
  r[REG_RDI] = static_cast<greg_t>(reinterpret_cast<std::uintptr_t>(argument));
  r[REG_EFL] &= ~greg_t{0x400};
}

/// So that the last words get out: they need memory, too. A block is given back to the part it came from, which is the
/// main thread's for every address that only looks like a block. (Known where that thread runs cells.)
void release_heap(Thread& t) noexcept {
  for (int* const lock : {t.heap_lock, main_heap_lock})
    if (lock && __atomic_exchange_n(lock, 0, __ATOMIC_SEQ_CST) != 0) {
      ::syscall(SYS_futex, lock, FUTEX_WAKE_PRIVATE, 1 << 30, nullptr, nullptr, 0);
      return;
    }
}

void unsurvivable(const Record& r, const char* why, int signal, bool sent, bool at_once = true) noexcept {
  char reason[600] = "";
  append(reason, r.name);
  append(reason, ": ");
  append(reason, r.text);
  append(reason, ", ");
  append(reason, why);
  if (at_once)
    die(reason);
  else if (die_later(reason, signal))
    return;
  else
    give_signals_back();
  if (sent) ::raise(signal);  // what did not come from an instruction does not come again by itself
}

void on_fault(int signal, siginfo_t* info, void* raw) {
  auto& context = *static_cast<ucontext_t*>(raw);
  const int saved = errno;
  Thread* const t = mine;
  if (t && t->reading) {
    go_to(context, &caller_fault_unreadable, reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)), nullptr);
    return;
  }
  Record none;
  Record& r = t ? t->record : none;
  if (in_child()) return die("");
  auto& registers = context.uc_mcontext.gregs;
  const auto sp = static_cast<std::uintptr_t>(registers[REG_RSP]);
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  const bool asked = info->si_code == SI_TKILL || info->si_code == SI_USER || info->si_code == SI_QUEUE;
  const bool overflow =
      t && signal == SIGSEGV && !asked && t->low &&
      (sp < t->low || (address < t->low && address + (1u << 20) >= t->low && sp < t->low + (1u << 20)));
  bool wild_call = false;
  if (const auto pc = static_cast<std::uintptr_t>(registers[REG_RIP]); t && signal == SIGSEGV && !asked &&
                                                                       pc == address && sp >= t->low && sp < t->high &&
                                                                       !is_code(reinterpret_cast<void*>(pc))) {
    wild_call = true;
    std::uintptr_t back;
    std::memcpy(&back, reinterpret_cast<void*>(sp), sizeof back);
    registers[REG_RIP] = static_cast<greg_t>(back);
    registers[REG_RSP] += 8;
  }
  describe(r, signal, *info, context, wild_call, overflow);
  if (asked && info->si_pid != home_process()) {
    unsurvivable(r, "sent by another process", signal, asked, false);
    errno = saved;
    return;
  }
  if (!t || !t->innermost) return unsurvivable(r, "in a thread of the kernel's own", signal, asked);
  Walk walk{&r, t->innermost->sp, reinterpret_cast<const void*>(registers[REG_RIP])};
  look(*t, walk);
  settle_who_called(walk, *t->innermost, wild_call);
  if (!walk.cell && !r.broken) return unsurvivable(r, "in the kernel's own code", signal, asked);
  if (overflow) r.heap = false;
  if (overflow && walk.return_slot && walk.seen && give_reserve(*t)) {
    auto* const slot = reinterpret_cast<void (**)()>(walk.return_slot);
    *slot = &caller_fault_landing;
    errno = saved;
    return;
  }
  if (walk.kernel) return unsurvivable(r, "in a function of the kernel that a cell called", signal, asked);
  if (walk.loader) return unsurvivable(r, "inside of the dynamic loader, which holds a lock", signal, asked);
  if (walk.heap && !(signal == SIGABRT && heap_is_unlocked(r))) {
    release_heap(*t);
    return unsurvivable(r, "inside of the memory allocator, which holds a lock: the cell has overwritten memory before",
                        signal, asked);
  }
  go_to(context, reinterpret_cast<void (*)()>(&caller_fault_recover), t->innermost->sp, t->innermost);
}

/// An end that code asks for by a call. Returns if there is no cell to end.
void end_cell(const char* name, const char* text, bool done) {
  Thread* const t = mine;
  if (!t || !t->innermost || in_child()) return;
  Record& r = t->record;
  r.name[0] = r.text[0] = 0;
  append(r.name, name);
  append(r.text, text);
  r.heap = false;
  r.done = done;
  Walk walk{&r, t->innermost->sp, nullptr};
  look(*t, walk);
  settle_who_called(walk, *t->innermost, false);
  if (!walk.cell || walk.kernel) return;
  recover(t->innermost);
}

std::string text_of_exception() {
  const std::type_info* type = abi::__cxa_current_exception_type();
  if (!type) return "std::terminate was called";
  std::string text = "an exception met a function that must not throw: " + detail::demangle_clean(type->name());
  try {
    throw;
  } catch (const std::exception& e) {
    text += std::string(": ") + e.what();
  } catch (const std::string& s) {
    text += ": " + s;
  } catch (const char* s) {
    text += std::string(": ") + (s ? s : "");
  } catch (int i) {
    text += ": " + std::to_string(i);
  } catch (...) {
  }
  return text;
}

[[noreturn]] void on_terminate() {
  if (!in_child()) {
    const std::string text = text_of_exception();
    end_cell("TerminateCalled", text.c_str(), false);
    die(("std::terminate: " + text).c_str());
  }
  std::abort();
}

std::shared_ptr<const Fault> fault_of(const Record& r) {
  auto fault = std::make_shared<Fault>();
  fault->name = r.name;
  fault->text = r.text;
  if (r.heap)
    fault->damage =
        "the heap: memory was overwritten or freed twice, so anything may go wrong from now on. "
        "Restart the kernel as soon as what matters is saved.";
  else if (!r.done)
    fault->damage =
        "what the code left behind was in use: its destructors did not run, locks it held stay locked, and "
        "memory it may have overwritten stays so.";
  else
    fault->damage = "the destructors of the code left behind did not run, and locks it held stay locked.";
  fault->frames.assign(r.frames, r.frames + r.n);
  return fault;
}

// No variable of these two frames changes between setjmp and its second return.
[[gnu::noinline]] bool call(Guard& g, void (*body)(void*), void* argument) {
  if (_setjmp(g.jump) != 0) return false;
  __asm__ volatile("movq %%rsp, %0" : "=m"(g.sp));
  body(argument);
  return true;
}

}  // namespace

namespace {

std::shared_ptr<const Fault> run(void (*body)(void*), void* argument, bool direct) {
  Thread& t = this_thread_of_cells();
  Guard g;
  g.direct = direct;
  struct Entered {
    Thread& t;
    Guard* outer;
    Entered(Thread& thread, Guard& g) : t(thread), outer(thread.innermost) { t.innermost = &g; }
    ~Entered() { t.innermost = outer; }
  } const entered(t, g);
  const ExceptionGlobals globals = exception_globals();
  void* const scope = interrupt::innermost_scope();
  if (call(g, body, argument)) [[likely]]
    return nullptr;
  exception_globals() = globals;
  interrupt::forget_scopes(scope);
  release_streams();
  take_reserve(t);
  interrupt::end_program();
  return fault_of(t.record);
}

}  // namespace

std::shared_ptr<const Fault> guard(void (*body)(void*), void* argument) { return run(body, argument, true); }

std::exception_ptr guard_call(void (*body)(void*), void* argument) {
  auto fault = run(body, argument, false);
  return fault ? std::make_exception_ptr(CellFault(std::move(fault))) : nullptr;
}

std::exception_ptr guard_turn(void (*body)(void*), void* argument) {
  thread_local constinit bool known = false;
  if (!known && !interrupt::innermost_scope()) {  // a scope that is there may end before this loop does
    known = true;
    if (Host* const host = host_of_faults()) host->loop_begins(turns_of_this_thread());
  }
  const Turn turn;
  return guard_call(body, argument);
}

void touch(const void* data, std::size_t size) noexcept {
  constexpr std::size_t kPage = 4096;
  const auto* text = static_cast<const volatile char*>(data);
  if (size == 0) return;
  for (std::size_t at = 0; at < size; at += kPage) (void)text[at];
  (void)text[size - 1];
}

int cell_frames(const void** frames, int most) noexcept {
  struct Collect {
    const void** frames;
    int most;
    std::uintptr_t end;
    int n = 0, seen = 0;
  } collect{frames, most, mine && mine->innermost ? mine->innermost->sp : UINTPTR_MAX};
  _Unwind_Backtrace(
      [](_Unwind_Context* context, void* data) {
        auto& c = *static_cast<Collect*>(data);
        if (_Unwind_GetCFA(context) > c.end) return _URC_END_OF_STACK;
        const auto* pc = reinterpret_cast<const void*>(_Unwind_GetIP(context) - 1);
        dl_find_object found;
        if (!module_of(pc, found)) c.frames[c.n++] = pc;
        return c.n == c.most || ++c.seen > 400 ? _URC_END_OF_STACK : _URC_NO_REASON;
      },
      &collect);
  return collect.n;
}

void install(Host* host, int log) {
  if (!host) {
    if (!take_host_of_faults()) return;
    give_signals_back();
    std::set_terminate(terminate_before);
    caller::detail::set_fault_guard(nullptr);
    return;
  }
  (void)this_thread_of_cells();
  if (learn_heap()) {
    find_abort_message();
    // Room for what goes on when a stack is used up inside of a function that must come to its end.
    pthread_attr_t attributes;
    if (pthread_getattr_default_np(&attributes) == 0) {
      pthread_attr_setguardsize(&attributes, kReserve);
      pthread_setattr_default_np(&attributes);
      pthread_attr_destroy(&attributes);
    }
  }
  void* table;
  std::memcpy(&table, static_cast<void*>(host), sizeof table);  // of virtual functions
  learn_kernel(table);
  open_last_words(host, log, &on_fault);
  terminate_before = std::set_terminate(&on_terminate);
  caller::detail::set_fault_guard(&guard_call);
  caller::detail::set_turn_guard(&guard_turn);
}

// ---- for the functions that end a process, and for threads ----

bool in_cell() noexcept { return mine && mine->innermost; }

void exit_called(const char* function, int status) {
  char text[80];
  std::snprintf(text, sizeof text, "%s(%d)", function, status);
  end_cell("SystemExit", text, true);
}

void interrupted(const char* how) { end_cell("Interrupted", how, true); }

void assertion_failed(const char* text) { end_cell("AssertionFailed", text, false); }

Host* host() noexcept { return host_of_faults(); }

}  // namespace caller::kernel::faults
