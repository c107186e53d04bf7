// The packets of the gdb remote protocol, and what is answered to each.
#include "stub_impl.hpp"

#if CALLER_DEBUGGER_SUPPORTED

#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <utility>

#include "maps.hpp"
#include "registers.hpp"

namespace caller::kernel::debugger {
namespace {

constexpr const char* kTriple = "x86_64-pc-linux-gnu";

std::string contents(const char* path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

bool starts(std::string_view text, std::string_view with) { return text.substr(0, with.size()) == with; }

}  // namespace

void Stub::Impl::continue_packet(std::string_view text) {  // behind "vCont"
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

Stop* Stub::Impl::thread_of(std::string_view& text) {
  pid_t tid = chosen_;
  if (const auto at = text.find(";thread:"); at != std::string_view::npos) {
    std::string_view number = text.substr(at + 8);
    if (const auto n = take_number(number)) tid = static_cast<pid_t>(*n);
    text = text.substr(0, at);
  }
  if (Stop* s = shown(tid)) return s;
  return tid <= 0 && !shown_.empty() ? shown_.front() : nullptr;
}

void Stub::Impl::handle(std::string_view p) {
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

void Stub::Impl::set_thread(std::string_view p) {
  if (p.size() < 2) return send("E01");
  std::string_view number = p.substr(2);
  if (p[1] == 'g') {
    const auto tid = take_number(number);
    chosen_ = tid ? static_cast<pid_t>(*tid) : 0;
  }
  send("OK");
}

void Stub::Impl::registers(std::string_view p) {
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

void Stub::Impl::read(std::string_view p) {
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

void Stub::Impl::write(std::string_view p) {
  p.remove_prefix(1);
  const auto address = take_number(p);
  const auto colon = p.find(':');
  if (!address || colon == std::string_view::npos) return send("E03");
  const auto bytes = from_hex(p.substr(colon + 1));
  reply(bytes && write_memory(*address, reinterpret_cast<const unsigned char*>(bytes->data()), bytes->size()));
}

void Stub::Impl::breakpoint(std::string_view p) {
  if (p.size() < 4 || p[1] != '0') return send("");  // only breakpoints in memory
  const bool insert = p[0] == 'Z';
  p.remove_prefix(3);
  const auto address = take_number(p);
  if (!address) return send("E03");
  reply(insert ? may_break_at(*address) && insert_breakpoint(*address) : remove_breakpoint(*address));
}

void Stub::Impl::allocate(std::string_view p) {
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

void Stub::Impl::query(std::string_view p) {
  if (p == "QStartNoAckMode") {
    send("OK");
    acknowledge_ = false;
    return;
  }
  if (starts(p, "qSupported")) return send("PacketSize=20000;QStartNoAckMode+;qXfer:auxv:read+;vContSupported+");
  if (p == "QThreadSuffixSupported" || p == "QListThreadsInStopReply" || p == "QEnableErrorStrings") return send("OK");
  if (p == "qHostInfo")
    return send("triple:" + to_hex(kTriple) + ";ptrsize:8;endian:little;default_packet_timeout:60;");
  if (p == "qProcessInfo")
    return send("pid:" + to_hex_number(static_cast<std::uint64_t>(::getpid())) +
                ";parent-pid:" + to_hex_number(static_cast<std::uint64_t>(::getppid())) + ";triple:" + to_hex(kTriple) +
                ";ostype:linux;endian:little;ptrsize:8;");
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

std::string Stub::Impl::region_info(std::uintptr_t address) {
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

}  // namespace caller::kernel::debugger

#endif
