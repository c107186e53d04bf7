#include "stub.hpp"

#include "stub_impl.hpp"

#if CALLER_DEBUGGER_SUPPORTED

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "maps.hpp"
#include "registers.hpp"

namespace caller::kernel::debugger {
namespace {

constexpr int kSigTrap = 5, kSigStop = 19;

void block_signals() {
  sigset_t all;
  sigfillset(&all);
  sigdelset(&all, SIGTRAP);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

std::string thread_name(pid_t tid) {
  std::ifstream in("/proc/self/task/" + std::to_string(tid) + "/comm");
  std::string name;
  std::getline(in, name);
  return name;
}

}  // namespace

Stub::Impl::Impl(int socket) : socket_(socket), wake_(::eventfd(0, EFD_CLOEXEC)), quit_(::eventfd(0, EFD_CLOEXEC)) {
  if (wake_ < 0 || quit_ < 0 || !install_traps())
    throw std::system_error(errno, std::generic_category(), "debugging is not possible here");
  anchor_thread_ = std::thread([this] {
    block_signals();
    ::pthread_setname_np(::pthread_self(), "caller");
    anchor_ = static_cast<pid_t>(::syscall(SYS_gettid));
    anchor_.notify_all();
    // The raw call: libc's own is one that cells may interrupt.
    for (std::uint64_t n = 0; ::syscall(SYS_read, quit_, &n, sizeof n) != sizeof n;) {
    }
  });
  anchor_.wait(0);
  thread_ = std::thread([this] { serve(); });
}

Stub::Impl::~Impl() {
  release();
  thread_.join();
  const std::uint64_t one = 1;
  (void)!::write(quit_, &one, sizeof one);
  anchor_thread_.join();
  for (const int fd : {socket_, wake_, quit_}) ::close(fd);
}

void Stub::Impl::release() {
  ending_ = true;
  const std::uint64_t one = 1;
  (void)!::write(wake_, &one, sizeof one);
}

void Stub::Impl::stop_quietly() {
  quiet_ = true;
  const std::uint64_t one = 1;
  (void)!::write(wake_, &one, sizeof one);
}

std::size_t Stub::Impl::let_pass() {
  std::size_t n = 0;
  for (Stop* s : stopped_threads())
    if (s->tid.load() != anchor_) {
      pass_breakpoints(*s);
      ++n;
    }
  return n;
}

std::size_t Stub::Impl::standing() const {
  const auto all = stopped_threads();
  return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [&](Stop* s) { return s->tid != anchor_; }));
}

void Stub::Impl::serve() {
  block_signals();
  exempt_this_thread();
  show_anchor();
  while (!ending_) {
    pollfd fds[] = {{socket_, POLLIN, 0}, {stop_event(), POLLIN, 0}, {wake_, POLLIN, 0}};
    if (::poll(fds, 3, -1) < 0 && errno != EINTR) break;
    if (fds[1].revents) {
      std::uint64_t n = 0;
      (void)!::read(stop_event(), &n, sizeof n);
      report_next();
    }
    if (fds[2].revents) {
      std::uint64_t n = 0;
      (void)!::read(wake_, &n, sizeof n);
      if (quiet_.exchange(false)) interrupt();
    }
    if (fds[0].revents) {
      char buffer[65536];
      const ssize_t n = ::recv(socket_, buffer, sizeof buffer, 0);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      reader_.add({buffer, static_cast<std::size_t>(n)});
      for (auto item = reader_.next(); item.kind != PacketReader::Kind::none && !ending_; item = reader_.next())
        take(item);
    }
  }
  end();
}

void Stub::Impl::end() {
  ending_ = true;
  give_back_threads();
  remove_all_breakpoints();
  for (Stop* s : stopped_threads()) resume(*s, false);
  for (const auto& [address, size] : allocated_) ::munmap(reinterpret_cast<void*>(address), size);
  ::shutdown(socket_, SHUT_RDWR);
}

void Stub::Impl::give_back_threads() {
  for (int turn = 0; turn < 100; ++turn) {
    const auto standing_now = stopped_threads();
    for (Stop* s : standing_now)
      for (auto it = saved_.begin(); it != saved_.end(); it = saved_.begin()) {  // the oldest is the true one
        while (it != saved_.end() && it->second.tid != s->tid) ++it;
        if (it == saved_.end()) break;
        restore(*s, it->second);
        std::erase_if(saved_, [&](const auto& entry) { return entry.second.tid == s->tid; });
      }
    if (saved_.empty()) return;
    pollfd fd{stop_event(), POLLIN, 0};
    ::poll(&fd, 1, 50);
    std::uint64_t n = 0;
    (void)!::read(stop_event(), &n, sizeof n);
  }
}

void Stub::Impl::restore(Stop& to, const Saved& from) {
  const auto fp = to.context.uc_mcontext.fpregs;
  to.context = from.context;
  to.context.uc_mcontext.fpregs = fp;
  std::memcpy(to.extended, from.extended.data(), from.extended.size());
}

void Stub::Impl::take(const PacketReader::Item& item) {
  using Kind = PacketReader::Kind;
  if (item.kind == Kind::interrupt) {
    interrupt();
  } else if (item.kind == Kind::packet) {
    if (acknowledge_) send_raw("+");
    handle(item.text);
  } else if (item.kind == Kind::damaged && acknowledge_) {
    send_raw("-");
  }
}

void Stub::Impl::interrupt() {
  if (!running_) return;
  want_anchor_ = true;
  if (!report_next()) ask_to_stop(anchor_);
}

void Stub::Impl::send_raw(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      ending_ = true;
      return;
    }
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

// ---- who stands ----

void Stub::Impl::show_anchor() {
  ask_to_stop(anchor_);
  for (;;) {
    for (Stop* s : stopped_threads())
      if (s->tid == anchor_) {
        shown_ = {s};
        return;
      }
    pollfd fd{stop_event(), POLLIN, 0};
    ::poll(&fd, 1, 1000);
    std::uint64_t n = 0;
    (void)!::read(stop_event(), &n, sizeof n);
  }
}

bool Stub::Impl::may_report(const Stop& s) const {
  const pid_t tid = s.tid;
  if (!only_.empty() && std::find(only_.begin(), only_.end(), tid) == only_.end()) return false;
  return saved_.empty() ||
         std::any_of(saved_.begin(), saved_.end(), [&](const auto& entry) { return entry.second.tid == tid; });
}

Stop* Stub::Impl::shown(pid_t tid) const {
  for (Stop* s : shown_)
    if (s->tid == tid) return s;
  return nullptr;
}

bool Stub::Impl::report_next() {
  if (!running_) return false;
  Stop* next = nullptr;
  for (Stop* s : stopped_threads()) {
    if (is_shown(s)) continue;
    if (!may_report(*s)) continue;
    if (s->tid != anchor_) {
      next = s;
      break;
    }
    if (want_anchor_) {
      if (!next) next = s;
    } else if (s->reason == StopReason::asked) {
      resume(*s, false);  // something else came first
    } else {
      next = s;  // it ran what the debugger had called
      break;
    }
  }
  if (!next) return false;
  want_anchor_ = false;
  shown_.push_back(next);
  current_ = next;
  running_ = false;
  send(stop_reply(*next, true));
  return true;
}

std::string Stub::Impl::stop_reply(const Stop& s, bool with_threads) const {
  char head[8];
  const bool news = &s == current_;
  std::snprintf(head, sizeof head, "T%02x", !news ? 0 : s.reason == StopReason::asked ? kSigStop : kSigTrap);
  std::string out = head;
  out += "thread:";
  out += to_hex_number(id_of(s));
  out += ";hexname:";
  out += to_hex(thread_name(s.tid));
  out += ';';
  if (with_threads) {
    std::string ids, pcs;
    for (const Stop* t : shown_) {
      list(ids, id_of(*t));
      list(pcs, static_cast<std::uint64_t>(t->context.uc_mcontext.gregs[REG_RIP]));
    }
    out += "threads:";
    out += ids;
    out += ";thread-pcs:";
    out += pcs;
    out += ';';
  }
  if (news && s.reason == StopReason::breakpoint) out += "reason:breakpoint;";
  if (news && s.reason == StopReason::step) out += "reason:trace;";
  for (const std::size_t r : {kRip, kRsp, kRbp}) {
    char number[8];
    std::snprintf(number, sizeof number, "%02zx", r);
    out += std::string(number) + ":" + to_hex(*read_register(s, r)) + ";";
  }
  return out;
}

// ---- running on ----

void Stub::Impl::run(const std::map<pid_t, Action>& chosen, std::optional<Action> others) {
  std::vector<Stop*> stay, go;
  for (Stop* s : shown_) {
    const auto it = chosen.find(s->tid);
    const Action a = it != chosen.end() ? it->second : others.value_or(Action{});
    if (a.go) {
      s->stepping = a.step;
      go.push_back(s);
    } else {
      stay.push_back(s);
    }
  }
  shown_ = std::move(stay);
  current_ = nullptr;
  only_.clear();
  if (!others)
    for (const auto& [tid, action] : chosen) only_.push_back(tid);
  running_ = true;
  for (Stop* s : go) resume(*s, s->stepping);
  report_next();
}

Stub::Stub(int socket) : impl_(std::make_shared<Impl>(socket)) {}
Stub::~Stub() = default;
bool Stub::supported() { return true; }
std::size_t Stub::let_pass() { return impl_->let_pass(); }
void Stub::release() { impl_->release(); }
void Stub::stop_quietly() { impl_->stop_quietly(); }
int Stub::quiet_thread() const { return impl_->quiet_thread(); }
std::size_t Stub::standing() const { return impl_->standing(); }

bool Stub::may_break_at(std::uintptr_t address) {
  if (address == ::getauxval(AT_ENTRY)) return true;
  for (const Region& r : regions())
    if (address >= r.begin && address < r.end)
      return r.inode == 0 && r.name.empty() && r.permissions.find('x') != std::string::npos;
  return false;
}

}  // namespace caller::kernel::debugger

#else

#include <stdexcept>

namespace caller::kernel::debugger {

class Stub::Impl {};
Stub::Stub(int) { throw std::runtime_error("debugging is not possible here"); }
Stub::~Stub() = default;
bool Stub::supported() { return false; }
bool Stub::may_break_at(std::uintptr_t) { return false; }
std::size_t Stub::let_pass() { return 0; }
void Stub::release() {}
void Stub::stop_quietly() {}
int Stub::quiet_thread() const { return 0; }
std::size_t Stub::standing() const { return 0; }
void exempt_this_thread() {}
void obey_breakpoints() {}

}  // namespace caller::kernel::debugger

#endif
