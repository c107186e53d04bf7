// The stub, spoken to in packets; what is debugged is a function written by hand into fresh memory.
#include "debugger/stub.hpp"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>

#include "debugger/packets.hpp"

#if defined(__x86_64__) && defined(__linux__)

using namespace caller::kernel::debugger;

namespace {

// push rbp; mov rbp, rsp; lea eax, [rdi + rsi]; pop rbp; ret
constexpr unsigned char kAdd[] = {0x55, 0x48, 0x89, 0xE5, 0x8D, 0x04, 0x37, 0x5D, 0xC3};

struct Code {
  void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  Code() {
    std::memcpy(memory, kAdd, sizeof kAdd);
    ::mprotect(memory, 4096, PROT_READ | PROT_EXEC);
  }
  ~Code() { ::munmap(memory, 4096); }
  int operator()(int a, int b) const { return reinterpret_cast<int (*)(int, int)>(memory)(a, b); }
  std::string at(int offset = 0) const {
    return to_hex_number(reinterpret_cast<std::uintptr_t>(memory) + static_cast<unsigned>(offset));
  }
};

struct Client {
  int ends[2] = {-1, -1};
  PacketReader reader;
  Client() { REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0); }
  ~Client() { hang_up(); }
  void hang_up() {
    if (ends[1] >= 0) ::close(ends[1]);
    ends[1] = -1;
  }
  void send(const std::string& packet) {
    const std::string text = frame_packet(packet);
    REQUIRE(::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
  std::string receive() {
    for (;;) {
      for (auto item = reader.next(); item.kind != PacketReader::Kind::none; item = reader.next())
        if (item.kind == PacketReader::Kind::packet) return item.text;
      pollfd fd{ends[1], POLLIN, 0};
      if (::poll(&fd, 1, 10000) != 1) return "(nothing came)";
      char buffer[4096];
      const ssize_t n = ::read(ends[1], buffer, sizeof buffer);
      if (n <= 0) return "(the end)";
      reader.add({buffer, static_cast<std::size_t>(n)});
    }
  }
  std::string ask(const std::string& packet) {
    send(packet);
    return receive();
  }
};

std::string thread_in(const std::string& stop) {
  const auto at = stop.find("thread:") + 7;
  return stop.substr(at, stop.find(';', at) - at);
}

}  // namespace

TEST_CASE("a thread stops at a breakpoint, shows and takes registers, steps, and goes on") {
  const Code add;
  Client client;
  Stub stub(client.ends[0]);
  CHECK(client.ask("?").substr(0, 1) == "T");
  CHECK(client.ask("Z0," + add.at() + ",1") == "OK");
  CHECK(client.ask("m" + add.at() + ",9") ==
        to_hex({reinterpret_cast<const char*>(kAdd), sizeof kAdd}));  // without int3
  client.send("vCont;c");
  int result = 0;
  std::thread runner([&] { result = add(20, 1); });
  const std::string stop = client.receive();
  CHECK(stop.substr(0, 3) == "T05");
  CHECK(stop.find("reason:breakpoint") != std::string::npos);
  CHECK(stub.standing() == 1);
  const std::string thread = thread_in(stop), suffix = ";thread:" + thread;
  CHECK(client.ask("qfThreadInfo") == "m" + thread);
  CHECK(client.ask("p10" + suffix) == to_hex_bytes(reinterpret_cast<std::uintptr_t>(add.memory), 8));  // rip
  CHECK(client.ask("p5" + suffix) == to_hex_bytes(20, 8));                                             // rdi
  CHECK(client.ask("P5=" + to_hex_bytes(41, 8) + suffix) == "OK");
  const std::string saved = client.ask("QSaveRegisterState" + suffix);
  CHECK(client.ask("P5=" + to_hex_bytes(7, 8) + suffix) == "OK");
  CHECK(client.ask("QRestoreRegisterState:" + saved + suffix) == "OK");
  CHECK(client.ask("p5" + suffix) == to_hex_bytes(41, 8));
  CHECK(client.ask("z0," + add.at() + ",1") == "OK");
  const std::string step = client.ask("vCont;s:" + thread);
  CHECK(step.find("reason:trace") != std::string::npos);
  CHECK(client.ask("p10" + suffix) == to_hex_bytes(reinterpret_cast<std::uintptr_t>(add.memory) + 1, 8));
  client.send("c");
  runner.join();
  CHECK(result == 42);
}

TEST_CASE("threads that the debugger did not stop run on") {
  const Code add, other;
  Client client;
  Stub stub(client.ends[0]);
  client.ask("?");
  CHECK(client.ask("Z0," + add.at() + ",1") == "OK");
  client.send("c");
  std::thread stopped([&] { add(1, 1); });
  CHECK(client.receive().substr(0, 3) == "T05");
  CHECK(other(2, 3) == 5);
  client.ask("z0," + add.at() + ",1");
  client.send("c");
  stopped.join();
}

TEST_CASE("a stop that happens while another is shown is reported when that one goes on") {
  const Code one, two;
  Client client;
  Stub stub(client.ends[0]);
  client.ask("?");
  client.ask("Z0," + one.at() + ",1");
  client.ask("Z0," + two.at() + ",1");
  client.send("c");
  std::thread a([&] { one(1, 1); });
  const std::string first = client.receive();
  std::thread b([&] { two(1, 1); });
  while (stub.standing() != 2) std::this_thread::yield();
  CHECK(client.ask("qfThreadInfo") == "m" + thread_in(first));
  client.ask("z0," + one.at() + ",1");
  const std::string second = client.ask("c");
  a.join();
  CHECK(thread_in(second) != thread_in(first));
  client.ask("z0," + two.at() + ",1");
  client.send("c");
  b.join();
}

TEST_CASE("when the debugger hangs up threads go on and no breakpoint is left") {
  const Code add;
  Client client;
  Stub stub(client.ends[0]);
  client.ask("?");
  client.ask("Z0," + add.at() + ",1");
  client.send("c");
  int result = 0;
  std::thread runner([&] { result = add(2, 3); });
  client.receive();
  client.hang_up();
  runner.join();
  CHECK(result == 5);
  CHECK(std::memcmp(add.memory, kAdd, sizeof kAdd) == 0);
}

TEST_CASE("a thread in a function the debugger called goes back when the debugger is gone") {
  const Code add;
  Client client;
  Stub stub(client.ends[0]);
  client.ask("?");
  client.ask("Z0," + add.at() + ",1");
  client.send("c");
  int result = 0;
  std::thread runner([&] { result = add(2, 3); });
  const std::string suffix = ";thread:" + thread_in(client.receive());
  client.ask("QSaveRegisterState" + suffix);
  client.ask("P10=" + to_hex_bytes(0x10, 8) + suffix);  // nowhere
  client.ask("P7=" + to_hex_bytes(0x20, 8) + suffix);
  client.hang_up();
  runner.join();
  CHECK(result == 5);
}

TEST_CASE("threads that serve the kernel, and those told so, pass breakpoints") {
  const Code add;
  Client client;
  Stub stub(client.ends[0]);
  client.ask("?");
  client.ask("Z0," + add.at() + ",1");
  client.send("c");
  std::thread server([&] {
    exempt_this_thread();
    CHECK(add(2, 3) == 5);
    CHECK(add(3, 3) == 6);
  });
  server.join();
  std::thread cell([&] {
    add(1, 1);
    CHECK(add(1, 2) == 3);  // told to pass while it stood
  });
  client.receive();
  CHECK(stub.let_pass() == 1);
  client.send("c");
  cell.join();
}

TEST_CASE("a copy of the process runs without the breakpoints") {
  const Code add;
  Client client;
  Stub stub(client.ends[0]);
  client.ask("?");
  client.ask("Z0," + add.at() + ",1");
  const pid_t child = ::fork();
  if (child == 0) ::_exit(add(40, 2));
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 42);
  CHECK(*static_cast<unsigned char*>(add.memory) == 0xCC);  // here it still stands
}

TEST_CASE("breakpoints outside of code made at run time are refused, and memory that is not there is an error") {
  Client client;
  Stub stub(client.ends[0]);
  client.ask("?");
  CHECK(client.ask("Z0," + to_hex_number(reinterpret_cast<std::uintptr_t>(&::getpid)) + ",1") == "E01");
  CHECK(client.ask("m10,4") == "E08");
  CHECK(client.ask("M10,1:00") == "E01");
  CHECK(client.ask("no such packet").empty());
}

#endif
