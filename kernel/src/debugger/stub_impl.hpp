// What a Stub is made of: its threads, who stands (stub.cpp), and what it answers (stub_packets.cpp).
#pragma once

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "packets.hpp"
#include "stub.hpp"
#include "traps.hpp"

#if CALLER_DEBUGGER_SUPPORTED

namespace caller::kernel::debugger {

// Numbers separated by commas. (Appended to: g++ 12 warns falsely of some sums of strings.)
inline void list(std::string& to, std::uint64_t number) {
  if (!to.empty()) to += ',';
  to += to_hex_number(number);
}

inline std::uint64_t id_of(const Stop& s) { return static_cast<std::uint64_t>(s.tid.load()); }

class Stub::Impl {
public:
  explicit Impl(int socket);
  ~Impl();
  void release();
  void stop_quietly();
  int quiet_thread() const { return anchor_; }
  std::size_t let_pass();
  std::size_t standing() const;

private:
  void serve();
  // No breakpoint is left, nobody stands, nothing of the debugger's is left in memory.
  void end();
  // A debugger that ends in the middle of a call leaves threads in the function it called, or behind it: they go back
  // to where they had stopped. What still runs is awaited a while: it comes to the breakpoint where such calls return
  // to.
  void give_back_threads();
  struct Saved {
    pid_t tid;
    ucontext_t context;
    std::string extended;
  };
  static void restore(Stop& to, const Saved& from);
  void take(const PacketReader::Item& item);
  void interrupt();
  void send_raw(std::string_view text);
  void send(std::string_view text) { send_raw(frame_packet(text)); }

  // ---- who stands: stub.cpp ----
  // When nothing else stands the debugger is shown a thread of ours.
  void show_anchor();
  // While the debugger steps one thread, or calls a function in one, the stop of another would confuse it.
  bool may_report(const Stop& s) const;
  bool is_shown(const Stop* s) const { return std::find(shown_.begin(), shown_.end(), s) != shown_.end(); }
  Stop* shown(pid_t tid) const;
  // Reports the oldest stop that the debugger does not know, if it waits for one.
  bool report_next();
  std::string stop_reply(const Stop& s, bool with_threads) const;

  // ---- running on ----
  struct Action {
    bool go = false, step = false;
  };
  void run(const std::map<pid_t, Action>& chosen, std::optional<Action> others);
  void continue_packet(std::string_view text);

  // ---- packets: stub_packets.cpp ----
  // The thread of a packet: behind ";thread:", or the one chosen by Hg.
  Stop* thread_of(std::string_view& text);
  void reply(bool good) { send(good ? "OK" : "E01"); }
  void handle(std::string_view p);
  void set_thread(std::string_view p);
  void registers(std::string_view p);
  void read(std::string_view p);
  void write(std::string_view p);
  void breakpoint(std::string_view p);
  void allocate(std::string_view p);
  void query(std::string_view p);
  static std::string region_info(std::uintptr_t address);

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

}  // namespace caller::kernel::debugger

#endif
