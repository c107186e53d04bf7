#include "stub.hpp"

#include "packets.hpp"
#include "registers.hpp"
#include "traps.hpp"

#if CALLER_DEBUGGER_SUPPORTED

#include <elf.h>
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
#include <atomic>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

namespace caller::kernel::debugger {
namespace {

constexpr const char* kTriple = "x86_64-pc-linux-gnu";
constexpr int kSigTrap = 5, kSigStop = 19;

void block_signals() {
  sigset_t all;
  sigfillset(&all);
  sigdelset(&all, SIGTRAP);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

// A line of /proc/self/maps.
struct Region {
  std::uintptr_t begin = 0, end = 0;
  std::string permissions, name;
  unsigned long inode = 0;
};

std::vector<Region> regions() {
  std::vector<Region> out;
  std::ifstream in("/proc/self/maps");
  for (std::string line; std::getline(in, line);) {
    Region r;
    char permissions[8] = "";
    int name = 0;
    unsigned long begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %7s %*x %*s %lu %n", &begin, &end, permissions, &r.inode, &name) < 4)
      continue;
    r.begin = begin;
    r.end = end;
    r.permissions = permissions;
    if (name > 0 && static_cast<std::size_t>(name) < line.size()) r.name = line.substr(static_cast<std::size_t>(name));
    out.push_back(std::move(r));
  }
  return out;
}

std::string thread_name(pid_t tid) {
  std::ifstream in("/proc/self/task/" + std::to_string(tid) + "/comm");
  std::string name;
  std::getline(in, name);
  return name;
}

std::string contents(const char* path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Numbers separated by commas. (Appended to: g++ 12 warns falsely of some sums of strings.)
void list(std::string& to, std::uint64_t number) {
  if (!to.empty()) to += ',';
  to += to_hex_number(number);
}

std::uint64_t id_of(const Stop& s) { return static_cast<std::uint64_t>(s.tid.load()); }

bool starts(std::string_view text, std::string_view with) { return text.substr(0, with.size()) == with; }

}  // namespace

class Stub::Impl {
public:
  explicit Impl(int socket) : socket_(socket), wake_(::eventfd(0, EFD_CLOEXEC)), quit_(::eventfd(0, EFD_CLOEXEC)) {
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

  ~Impl() {
    release();
    thread_.join();
    const std::uint64_t one = 1;
    (void)!::write(quit_, &one, sizeof one);
    anchor_thread_.join();
    for (const int fd : {socket_, wake_, quit_}) ::close(fd);
  }

  void release() {
    ending_ = true;
    const std::uint64_t one = 1;
    (void)!::write(wake_, &one, sizeof one);
  }

  void stop_quietly() {
    quiet_ = true;
    const std::uint64_t one = 1;
    (void)!::write(wake_, &one, sizeof one);
  }
  int quiet_thread() const { return anchor_; }

  std::size_t let_pass() {
    std::size_t n = 0;
    for (Stop* s : stopped_threads())
      if (s->tid.load() != anchor_) {
        pass_breakpoints(*s);
        ++n;
      }
    return n;
  }

  std::size_t standing() const {
    const auto all = stopped_threads();
    return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [&](Stop* s) { return s->tid != anchor_; }));
  }

private:
  void serve() {
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

  // No breakpoint is left, nobody stands, nothing of the debugger's is left in memory.
  void end() {
    ending_ = true;
    give_back_threads();
    remove_all_breakpoints();
    for (Stop* s : stopped_threads()) resume(*s, false);
    for (const auto& [address, size] : allocated_) ::munmap(reinterpret_cast<void*>(address), size);
    ::shutdown(socket_, SHUT_RDWR);
  }

  // A debugger that ends in the middle of a call leaves threads in the function it called, or behind it: they go back
  // to where they had stopped. What still runs is awaited a while: it comes to the breakpoint where such calls return
  // to.
  void give_back_threads() {
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

  struct Saved {
    pid_t tid;
    ucontext_t context;
    std::string extended;
  };

  static void restore(Stop& to, const Saved& from) {
    const auto fp = to.context.uc_mcontext.fpregs;
    to.context = from.context;
    to.context.uc_mcontext.fpregs = fp;
    std::memcpy(to.extended, from.extended.data(), from.extended.size());
  }

  void take(const PacketReader::Item& item) {
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

  void interrupt() {
    if (!running_) return;
    want_anchor_ = true;
    if (!report_next()) ask_to_stop(anchor_);
  }

  void send_raw(std::string_view text) {
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
  void send(std::string_view text) { send_raw(frame_packet(text)); }

  // ---- who stands ----

  // When nothing else stands the debugger is shown a thread of ours.
  void show_anchor() {
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

  // While the debugger steps one thread, or calls a function in one, the stop of another would confuse it.
  bool may_report(const Stop& s) const {
    const pid_t tid = s.tid;
    if (!only_.empty() && std::find(only_.begin(), only_.end(), tid) == only_.end()) return false;
    return saved_.empty() ||
           std::any_of(saved_.begin(), saved_.end(), [&](const auto& entry) { return entry.second.tid == tid; });
  }

  bool is_shown(const Stop* s) const { return std::find(shown_.begin(), shown_.end(), s) != shown_.end(); }

  Stop* shown(pid_t tid) const {
    for (Stop* s : shown_)
      if (s->tid == tid) return s;
    return nullptr;
  }

  // Reports the oldest stop that the debugger does not know, if it waits for one.
  bool report_next() {
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

  std::string stop_reply(const Stop& s, bool with_threads) const {
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

  struct Action {
    bool go = false, step = false;
  };

  void run(const std::map<pid_t, Action>& chosen, std::optional<Action> others) {
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

  void continue_packet(std::string_view text) {  // behind "vCont"
    std::map<pid_t, Action> chosen;
    std::optional<Action> others;
    while (!text.empty() && text[0] == ';') {
      text.remove_prefix(1);
      if (text.empty()) break;
      const char what = text[0];
      text.remove_prefix(1);
      if (what == 'C' || what == 'S') take_number(text);  // a signal: there is none to pass on
      const Action action{what == 'c' || what == 'C' || what == 's' || what == 'S', what == 's' || what == 'S'};
      if (!text.empty() && text[0] == ':') {
        text.remove_prefix(1);
        if (starts(text, "-1")) {
          text.remove_prefix(2);
          others = action;
        } else if (const auto tid = take_number(text)) {
          chosen.emplace(static_cast<pid_t>(*tid), action);
        }
      } else if (!others) {
        others = action;
      }
    }
    run(chosen, others);
  }

  // ---- packets ----

  // The thread of a packet: behind ";thread:", or the one chosen by Hg.
  Stop* thread_of(std::string_view& text) {
    pid_t tid = chosen_;
    if (const auto at = text.find(";thread:"); at != std::string_view::npos) {
      std::string_view number = text.substr(at + 8);
      if (const auto n = take_number(number)) tid = static_cast<pid_t>(*n);
      text = text.substr(0, at);
    }
    if (Stop* s = shown(tid)) return s;
    return tid <= 0 && !shown_.empty() ? shown_.front() : nullptr;
  }

  void reply(bool good) { send(good ? "OK" : "E01"); }

  void handle(std::string_view p) {
    if (p.empty()) return send("");
    switch (p[0]) {
      case '?':
        return send(shown_.empty() ? "W00" : stop_reply(current_ ? *current_ : *shown_.front(), true));
      case 'q':
      case 'Q':
        return query(p);
      case 'H':
        return set_thread(p);
      case 'T': {
        std::string_view number = p.substr(1);
        const auto tid = take_number(number);
        return reply(tid && shown(static_cast<pid_t>(*tid)));
      }
      case 'c':
      case 'C':
        return run({}, Action{true, false});
      case 's':
      case 'S': {
        Stop* s = shown_.empty() ? nullptr : current_ ? current_ : shown_.front();
        if (!s) return send("E01");
        return run({{s->tid, Action{true, true}}}, std::nullopt);
      }
      case 'v':
        if (p == "vCont?") return send("vCont;c;C;s;S");
        if (starts(p, "vCont;")) return continue_packet(p.substr(5));
        return send("");
      case 'g':
      case 'G':
      case 'p':
      case 'P':
        return registers(p);
      case 'm':
      case 'x':
        return read(p);
      case 'M':
        return write(p);
      case 'Z':
      case 'z':
        return breakpoint(p);
      case '_':
        return allocate(p);
      case 'D':
        send("OK");
        ending_ = true;
        return;
      case 'k':
        send("X09");  // the debugger goes; the kernel stays
        ending_ = true;
        return;
      default:
        return send("");
    }
  }

  void set_thread(std::string_view p) {
    if (p.size() < 2) return send("E01");
    std::string_view number = p.substr(2);
    if (p[1] == 'g') {
      const auto tid = take_number(number);
      chosen_ = tid ? static_cast<pid_t>(*tid) : 0;
    }
    send("OK");
  }

  void registers(std::string_view p) {
    const char what = p[0];
    p.remove_prefix(1);
    Stop* s = thread_of(p);
    if (!s) return send("E02");
    if (what == 'g') return send(to_hex(read_all_registers(*s)));
    if (what == 'G') {
      const auto bytes = from_hex(p);
      return reply(bytes && write_all_registers(*s, *bytes));
    }
    const auto number = take_number(p);
    if (!number) return send("E03");
    if (what == 'p') {
      const auto bytes = read_register(*s, *number);
      return send(bytes ? to_hex(*bytes) : "E04");
    }
    if (p.empty() || p[0] != '=') return send("E03");
    const auto bytes = from_hex(p.substr(1));
    reply(bytes && write_register(*s, *number, *bytes));
  }

  void read(std::string_view p) {
    const bool binary = p[0] == 'x';
    p.remove_prefix(1);
    const auto address = take_number(p);
    if (!address || p.empty()) return send("E03");
    p.remove_prefix(1);
    const auto size = take_number(p);
    if (!size) return send("E03");
    if (binary && *size == 0) return send("OK");
    const auto bytes = read_memory(*address, std::min<std::uint64_t>(*size, 1U << 20));
    if (bytes.empty()) return send("E08");
    const std::string_view view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    send(binary ? escape_binary(view) : to_hex(view));
  }

  void write(std::string_view p) {
    p.remove_prefix(1);
    const auto address = take_number(p);
    const auto colon = p.find(':');
    if (!address || colon == std::string_view::npos) return send("E03");
    const auto bytes = from_hex(p.substr(colon + 1));
    reply(bytes && write_memory(*address, reinterpret_cast<const unsigned char*>(bytes->data()), bytes->size()));
  }

  void breakpoint(std::string_view p) {
    if (p.size() < 4 || p[1] != '0') return send("");  // only breakpoints in memory
    const bool insert = p[0] == 'Z';
    p.remove_prefix(3);
    const auto address = take_number(p);
    if (!address) return send("E03");
    reply(insert ? may_break_at(*address) && insert_breakpoint(*address) : remove_breakpoint(*address));
  }

  void allocate(std::string_view p) {
    if (p.size() < 2) return send("");
    const bool take = p[1] == 'M';
    p.remove_prefix(2);
    const auto number = take_number(p);
    if (!number) return send("E03");
    if (!take) {
      const auto it = allocated_.find(*number);
      if (it == allocated_.end()) return send("E08");
      ::munmap(reinterpret_cast<void*>(it->first), it->second);
      allocated_.erase(it);
      return send("OK");
    }
    int protection = 0;
    for (const char c : p) protection |= c == 'r' ? PROT_READ : c == 'w' ? PROT_WRITE : c == 'x' ? PROT_EXEC : 0;
    void* memory = ::mmap(nullptr, *number, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return send("E08");
    allocated_.emplace(reinterpret_cast<std::uintptr_t>(memory), *number);
    send(to_hex_number(reinterpret_cast<std::uintptr_t>(memory)));
  }

  void query(std::string_view p) {
    if (p == "QStartNoAckMode") {
      send("OK");
      acknowledge_ = false;
      return;
    }
    if (starts(p, "qSupported")) return send("PacketSize=20000;QStartNoAckMode+;qXfer:auxv:read+;vContSupported+");
    if (p == "QThreadSuffixSupported" || p == "QListThreadsInStopReply" || p == "QEnableErrorStrings")
      return send("OK");
    if (p == "qHostInfo")
      return send("triple:" + to_hex(kTriple) + ";ptrsize:8;endian:little;default_packet_timeout:60;");
    if (p == "qProcessInfo")
      return send("pid:" + to_hex_number(static_cast<std::uint64_t>(::getpid())) +
                  ";parent-pid:" + to_hex_number(static_cast<std::uint64_t>(::getppid())) +
                  ";triple:" + to_hex(kTriple) + ";ostype:linux;endian:little;ptrsize:8;");
    if (p == "qC" || p == "qfThreadInfo") {
      if (shown_.empty()) return send(p == "qC" ? "E01" : "l");
      std::string ids, out = p == "qC" ? "QC" : "m";
      for (const Stop* s : shown_)
        if (p != "qC" || ids.empty()) list(ids, id_of(*s));
      out += ids;
      return send(out);
    }
    if (p == "qsThreadInfo") return send("l");
    if (starts(p, "qThreadStopInfo")) {
      p.remove_prefix(15);
      const auto tid = take_number(p);
      Stop* s = tid ? shown(static_cast<pid_t>(*tid)) : nullptr;
      return send(s ? stop_reply(*s, true) : "E02");
    }
    if (starts(p, "qRegisterInfo")) {
      p.remove_prefix(13);
      const auto number = take_number(p);
      return send(number ? register_info(*number).value_or("E45") : "E03");
    }
    if (starts(p, "QSaveRegisterState")) {
      Stop* s = thread_of(p);
      if (!s) return send("E02");
      Saved saved{s->tid, s->context, std::string(reinterpret_cast<char*>(s->extended), s->extended_size)};
      saved_[++saves_] = std::move(saved);
      return send(std::to_string(saves_));
    }
    if (starts(p, "QRestoreRegisterState:")) {
      Stop* s = thread_of(p);
      const auto it = saved_.find(std::strtoul(std::string(p.substr(22)).c_str(), nullptr, 10));
      if (!s || it == saved_.end() || it->second.tid != s->tid) return send("E02");
      restore(*s, it->second);
      saved_.erase(it);
      return send("OK");
    }
    if (starts(p, "qMemoryRegionInfo:")) {
      p.remove_prefix(18);
      const auto address = take_number(p);
      return send(address ? region_info(*address) : "E03");
    }
    if (starts(p, "qXfer:auxv:read::")) {
      p.remove_prefix(17);
      const auto offset = take_number(p);
      if (!offset || p.empty()) return send("E03");
      p.remove_prefix(1);
      const auto size = take_number(p);
      if (!size) return send("E03");
      const std::string all = contents("/proc/self/auxv");
      const std::string part = *offset < all.size() ? all.substr(*offset, *size) : "";
      std::string out(1, *offset + part.size() >= all.size() ? 'l' : 'm');
      out += escape_binary(part);
      return send(out);
    }
    if (p == "qWatchpointSupportInfo:") return send("num:0;");
    send("");
  }

  static std::string region_info(std::uintptr_t address) {
    std::uintptr_t before = 0, behind = ~std::uintptr_t{0};
    for (const Region& r : regions()) {
      if (address >= r.begin && address < r.end) {
        std::string permissions;
        for (const char c : r.permissions)
          if (c == 'r' || c == 'w' || c == 'x') permissions += c;
        return "start:" + to_hex_number(r.begin) + ";size:" + to_hex_number(r.end - r.begin) +
               ";permissions:" + permissions + ";" + (r.name.empty() ? "" : "name:" + to_hex(r.name) + ";");
      }
      if (r.end <= address) before = std::max(before, r.end);
      if (r.begin > address) behind = std::min(behind, r.begin);
    }
    return "start:" + to_hex_number(before) + ";size:" + to_hex_number(behind - before) + ";";
  }

  const int socket_, wake_, quit_;
  std::atomic<bool> ending_{false};
  std::atomic<bool> quiet_{false};  // a stop without a reason is wanted
  std::atomic<pid_t> anchor_{0};
  std::thread anchor_thread_, thread_;

  // What follows belongs to the serving thread.
  PacketReader reader_;
  bool acknowledge_ = true;
  bool running_ = false;      // the debugger waits for a stop
  bool want_anchor_ = false;  // it has asked for one
  std::vector<Stop*> shown_;  // the threads it believes to stand
  Stop* current_ = nullptr;   // the one reported last
  std::vector<pid_t> only_;   // not empty: it has let go only these, and waits for one of them
  pid_t chosen_ = 0;
  std::map<std::uintptr_t, std::size_t> allocated_;
  std::map<unsigned long, Saved> saved_;
  unsigned long saves_ = 0;
};

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
