// How a request reaches a thread: a global counter of open requests makes the loops of cells look (one relaxed load a
// turn), the thread's own state says whether it is meant. A blocked system call is woken by a signal whose handler does
// next to nothing; the functions of blocking_calls.cpp then look at the same state. As the signal may come just before
// the call blocks, a small thread repeats it until the request is met or the scope ends. A wait on a condition variable
// does not end by a signal: the variable is signalled instead, which its waiters must expect at any time. (Also where
// the thread does not answer the question whether it is meant: it may have blocked all signals.)
//
// A request stands until its scope ends (or the loop turns, for the scope below a loop): `catch (...)` must not swallow
// it. Once Interrupted was thrown nobody is woken any more, and it is not thrown again before it was caught and its
// handler has ended. Reminders (Scope::remind) keep to that as well, until their patience is over.
#include "interrupt.hpp"

#include <cxxabi.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <typeinfo>
#include <utility>
#include <vector>

#include <caller/error.hpp>

#include "faults_of_threads.hpp"
#include "unwinding.hpp"

extern "C" {
CALLER_API int caller_interrupt_pending = 0;
}

namespace caller::kernel {

Interrupted::~Interrupted() = default;

namespace interrupt {

/// How a request stands towards what deals with one already.
enum class Tone {
  first,  // nothing deals with it before it was thrown
  again,  // a reminder: something may deal with what it was told before
  last,   // the same, and is not spared
};

struct Scope::State {
  pthread_t thread = pthread_self();
  std::atomic<bool> requested{false};
  std::atomic<unsigned> number{0};    // of the request
  std::atomic<unsigned> quiet{0};     // the request for which it is not to be woken: it knows, or is not meant
  std::atomic<unsigned> meant{0};     // the request that a look has found to be for what runs
  std::atomic<unsigned> stranger{0};  // the request while which something else than it means was seen to run
  std::atomic<int> thrown{0};         // how often, for this request
  std::atomic<Tone> tone{Tone::first};
  std::atomic<const void*> whom{nullptr};
  std::atomic<bool> own{false};                              // of code: there is more than a guest's request
  std::atomic<const void*> guest{nullptr};                   // is meant, too, until the loop turns
  std::atomic<std::chrono::steady_clock::duration> asked{};  // when
  std::atomic<std::chrono::steady_clock::duration> since{};  // when it was asked, or thrown last
  unsigned question = 0;                                     // the request for which its thread was asked last …
  std::chrono::steady_clock::time_point questioned{};        // … whom it works for, and since when
  Who who = nullptr;
  WhoNow now = nullptr;
  Of of = Of::code;
  State* outer = nullptr;
  pthread_cond_t* waits_on = nullptr;
  const void* stack = nullptr;  // the scope's own address: frames below it are the cell's. Null: it is not on the stack
  std::chrono::steady_clock::time_point looked{};
  std::uintptr_t deadly_frame = 0;             // below this it was not allowed when looked at last
  std::array<const void*, 16> deadly_sites{};  // checks that were found inside of what must not throw
  std::size_t deadly_count = 0;

  bool knows(const void* site) const {
    const auto* const end = deadly_sites.begin() + deadly_count;
    return deadly_count == deadly_sites.size() || std::find(deadly_sites.begin(), end, site) != end;
  }
  bool means(const void* one) const {
    if (!one) return false;
    if (one == guest.load()) return true;
    const void* const wanted = whom.load();
    return (of == Of::loop || own.load()) && (!wanted || wanted == one);
  }
  /// Something may be dealing with it.
  bool is_lenient() const {
    const Tone how = tone.load();
    return how != Tone::last && (how == Tone::again || thrown.load() > 0);
  }
  void meets_stranger(unsigned request) {
    stranger = request;
    quiet = request;
  }
  /// It is for one of many that the thread may be working for.
  bool needs_look() const {
    return now && meant.load() != number.load() && (of == Of::loop ? whom.load() : guest.load()) != nullptr;
  }
};

struct Access {
  using State = Scope::State;
};

namespace {

using State = Access::State;

/// How long an end without destructors is put off: interrupts take effect within a second.
constexpr auto kPatience = std::chrono::milliseconds(500);
constexpr auto kNoAnswer = std::chrono::milliseconds(50);  // beyond it, its thread does not take the question
constexpr int kRepeats = 2;  // what catches it more often, and that long, ends without destructors

// Handlers of signals read these: nothing is allocated when a thread first does.
thread_local constinit State* innermost __attribute__((tls_model("initial-exec"))) = nullptr;
thread_local constinit volatile unsigned woken __attribute__((tls_model("initial-exec"))) = 0;
thread_local constinit int shelters = 0;

int wake_signal() { return SIGRTMIN + 6; }
int look_signal() { return SIGRTMIN + 7; }

// Calls that the system can go on with do so after this: only who is meant is woken from them.
void look(int) noexcept {
  woken = woken + 1;
  State* const s = innermost;
  if (!s || !s->now) return;
  const unsigned number = s->number.load();
  const void* const one = s->now();
  if (!one || s->means(one))
    s->meant = number;
  else
    s->meets_stranger(number);
}

struct Registry {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<State*> scopes;
  bool nudging = false;

  Registry() {
    struct sigaction action{};
    action.sa_handler = [](int) { woken = woken + 1; };
    sigemptyset(&action.sa_mask);
    action.sa_flags = 0;  // no SA_RESTART: blocked calls return EINTR
    sigaction(wake_signal(), &action, nullptr);
    action.sa_handler = look;
    action.sa_flags = SA_RESTART;
    sigaction(look_signal(), &action, nullptr);
  }

  static bool to_wake(const State* s) { return s->requested.load() && s->quiet.load() != s->number.load(); }
  bool covered(const State* s) const {
    return std::any_of(scopes.begin(), scopes.end(), [&](State* inner) { return inner->outer == s; });
  }

  void wake(State* s) {  // with the mutex
    if (s->needs_look()) {
      pthread_kill(s->thread, look_signal());
      const auto now = std::chrono::steady_clock::now();
      const unsigned number = s->number.load();
      if (std::exchange(s->question, number) != number)
        s->questioned = now;
      else if (s->waits_on && now - s->questioned > kNoAnswer)
        pthread_cond_broadcast(s->waits_on);
      return;
    }
    pthread_kill(s->thread, wake_signal());
    if (s->waits_on) pthread_cond_broadcast(s->waits_on);
  }

  void ask(State* s, const void* whom, bool guest = false, Tone tone = Tone::first) {  // with the mutex
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    // A reminder to a guest does not give the code around it more time.
    if (!(guest && tone == Tone::again && s->requested.load() && s->own.load())) s->asked = now;
    s->since = now;
    s->tone = tone;
    if (guest) {
      s->guest = whom;
    } else {
      s->whom = whom;
      s->own = true;
    }
    s->thrown = 0;
    press(s);
  }

  void press(State* s) {  // with the mutex
    ++s->number;
    if (!s->requested.exchange(true)) __atomic_add_fetch(&caller_interrupt_pending, 1, __ATOMIC_SEQ_CST);
    wake(s);
    if (!nudging) {
      nudging = true;
      std::thread([this] { nudge(); }).detach();
    }
    changed.notify_all();
  }

  bool remind(State* s, const void* whom, std::chrono::milliseconds patience, bool guest) {  // with the mutex
    const bool asked = s->requested.load();
    if (asked && s->means(whom)) {
      const auto passed = std::chrono::steady_clock::now().time_since_epoch() - s->since.load();
      if (patience.count() == 0 || !s->is_lenient() || passed < patience) return false;
      s->tone = Tone::last;
      press(s);
      return true;
    }
    const bool replaces = asked && (guest ? s->guest.load() != nullptr : s->of == Scope::Of::loop);
    if (replaces && s->stranger.load() != s->number.load()) {
      if (s->now) pthread_kill(s->thread, look_signal());  // to know it the next time
      return false;
    }
    ask(s, whom, guest, Tone::again);
    return true;
  }

  void nudge() {
    sigset_t all;
    sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT})
      sigdelset(&all, fault);  // blocked, they kill without a word
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
    std::unique_lock lock(mutex);
    while (std::any_of(scopes.begin(), scopes.end(), to_wake)) {
      changed.wait_for(lock, std::chrono::milliseconds(20));
      for (State* s : scopes)
        if (to_wake(s)) wake(s);
    }
    nudging = false;
  }
};

Registry& registry() {
  static std::atomic<Registry*> r = [] {
    // In a copy of the process nobody asks, and the lock may be held by a thread that is not there.
    ::pthread_atfork(nullptr, nullptr, [] { r = new Registry; });
    return new Registry;  // outlives every thread
  }();
  return *r;
}

void drop(State* s) noexcept {
  if (s->requested.exchange(false)) __atomic_sub_fetch(&caller_interrupt_pending, 1, __ATOMIC_SEQ_CST);
}

void drop_of_turn(State* s) noexcept {
  if (s->of == Scope::Of::loop) return drop(s);
  if (!s->guest.load()) return;
  const std::lock_guard lock(registry().mutex);
  s->guest = nullptr;
  if (!s->own.load()) drop(s);
}

/// It flies, or its handler runs. `cancelled`: or that of a cancellation, by which others are told to stop.
bool is_dealt_with(bool cancelled = false) noexcept {
  if (std::uncaught_exceptions() > 0) return true;
  const std::type_info* const handled = abi::__cxa_current_exception_type();
  return handled && (*handled == typeid(Interrupted) || (cancelled && *handled == typeid(PendingCancelled)));
}

bool in_code_of_a_cell() noexcept {
  const void* frame = nullptr;
  return faults::cell_frames(&frame, 1) > 0;
}

}  // namespace

Scope::Scope() noexcept : Scope(nullptr, Of::code) {}

Scope::Scope(Who who, Of of, WhoNow now) noexcept : state_(new State) {
  auto& r = registry();
  std::lock_guard lock(r.mutex);
  state_->who = who;
  state_->of = of;
  state_->now = now;
  state_->stack = on_this_stack(this) ? this : nullptr;
  state_->outer = innermost;
  innermost = state_;
  r.scopes.push_back(state_);
}

Scope::~Scope() {
  auto& r = registry();
  std::lock_guard lock(r.mutex);
  innermost = state_->outer;
  std::erase(r.scopes, state_);
  drop(state_);
  delete state_;
}

void Scope::request(const void* whom) noexcept {
  auto& r = registry();
  std::lock_guard lock(r.mutex);
  if (state_->of == Of::code || !r.covered(state_)) r.ask(state_, whom);
}

void Scope::request_guest(const void* whom) noexcept {
  auto& r = registry();
  std::lock_guard lock(r.mutex);
  if (!r.covered(state_)) r.ask(state_, whom, true);
}

bool Scope::remind(const void* whom, std::chrono::milliseconds patience, bool guest) noexcept {
  auto& r = registry();
  std::lock_guard lock(r.mutex);
  if ((guest || state_->of == Of::loop) && r.covered(state_)) return false;
  return r.remind(state_, whom, patience, guest);
}

void Scope::withdraw() noexcept { drop_of_turn(state_); }

std::array<int, 2> signals() noexcept { return {wake_signal(), look_signal()}; }

Shelter::Shelter() noexcept { ++shelters; }
Shelter::~Shelter() { --shelters; }

int request_all() noexcept {
  auto& r = registry();
  std::lock_guard lock(r.mutex);
  int n = 0;
  for (State* s : r.scopes) {
    if (r.covered(s)) continue;  // the innermost scope of each thread
    r.ask(s, nullptr);
    ++n;
  }
  return n;
}

void loop_turned() noexcept {
  if (innermost && innermost->who && innermost->requested.load()) drop_of_turn(innermost);
}

bool is_leaving() noexcept { return innermost && innermost->thrown.load() > 0 && is_dealt_with(); }

unsigned wakes() noexcept { return woken; }

void* innermost_scope() noexcept { return innermost; }

void forget_scopes(void* up_to) noexcept {
  if (!innermost) return;
  auto& r = registry();
  std::lock_guard lock(r.mutex);
  innermost->waits_on = nullptr;
  while (innermost && innermost != up_to) {
    State* const s = std::exchange(innermost, innermost->outer);
    std::erase(r.scopes, s);
    drop(s);
    delete s;
  }
}

ConditionWait::ConditionWait(pthread_cond_t* condition) noexcept {
  if (!innermost) return;
  const std::lock_guard lock(registry().mutex);
  innermost->waits_on = condition;
}

ConditionWait::~ConditionWait() {
  if (!innermost) return;
  const std::lock_guard lock(registry().mutex);
  innermost->waits_on = nullptr;
}

namespace {

/// True: it is meant, but may not throw here.
bool check_at(const void* site) {
  State* s = innermost;
  if (!s || !s->requested.load(std::memory_order_acquire) || shelters > 0) return false;
  const unsigned number = s->number.load();
  const int thrown = s->thrown.load();
  const Tone tone = s->tone.load();
  const bool again = thrown > 0 || tone != Tone::first;
  if (again) {
    // Before the looks at the stack: others may compute here for long while the request stands.
    const void* const one = s->of == Scope::Of::loop && s->now ? s->now() : nullptr;
    if (one && !s->means(one)) {
      s->meets_stranger(number);
      return false;
    }
    if ((tone != Tone::last && is_dealt_with(tone == Tone::again)) || !in_code_of_a_cell()) return false;
  }
  const void* const who = s->who ? s->who(again) : nullptr;
  if (s->who && !s->means(who)) {
    s->meets_stranger(number);
    return false;
  }
  // Inside a destructor, or another function that must not throw, the request waits: throwing would end the process.
  // Looking takes a while, so not at every turn of a loop in there. A check at another place is looked at all the same:
  // the destructor may be inlined, and only its loop be inside of it. If that lasts, the cell ends like one that
  // faults: its frames are left behind.
  const auto now = std::chrono::steady_clock::now();
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  if (here < s->deadly_frame && now - s->looked < std::chrono::milliseconds(1) && s->knows(site)) return true;
  s->looked = now;
  const Throwing fate = would_throw(s->stack, s->deadly_frame);
  if (fate == Throwing::swallowed)
    throw Interrupted();  // ends a blocked call; the request stands until it gets through
  const bool patience_is_over = now.time_since_epoch() - s->asked.load() > kPatience;
  if (fate == Throwing::safe) {
    if (thrown >= kRepeats && patience_is_over)
      faults::interrupted("the cell was interrupted, and caught that again and again");
    s->deadly_count = 0;
    if (s->of == Scope::Of::loop) s->whom = who;  // what runs on the loop next is not meant
    s->quiet = number;
    ++s->thrown;
    s->since = now.time_since_epoch();
    Tone last = Tone::last;  // what deals with it from now on is spared for a while
    s->tone.compare_exchange_strong(last, Tone::again);
    throw Interrupted();
  }
  if (!s->knows(site)) s->deadly_sites[s->deadly_count++] = site;
  if (patience_is_over) faults::interrupted("the cell was interrupted inside of a function that must not throw");
  return true;
}

}  // namespace

void check() { (void)check_at(__builtin_return_address(0)); }
bool asked_in_vain() { return check_at(__builtin_return_address(0)); }

}  // namespace interrupt
}  // namespace caller::kernel

extern "C" CALLER_API void caller_safepoint() {
  (void)caller::kernel::interrupt::check_at(__builtin_return_address(0));
}
