#include "debugger.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <system_error>
#include <utility>

#include "adapter.hpp"
#include "debugger_session.hpp"
#include "find_adapter.hpp"
#include "murmur2.hpp"
#include "names.hpp"
#include "stub.hpp"

namespace caller::kernel::debugger {
namespace fs = std::filesystem;
namespace {

using namespace std::chrono_literals;

constexpr auto kStartLimit = 30s;     // for lldb to start and to attach
constexpr auto kLetGoLimit = 2s;      // then an interrupt ends the debugging
constexpr auto kStopLimit = 5s;       // for lldb to notice that the process stands, or runs
constexpr auto kAnnounceLimit = 10s;  // then the cell runs, breakpoints or not

// Commands of a file run one after the other; those of a request return before the process has stopped, and then
// lldb-dap finds no process.
json attach_arguments(const std::string& directory) {
  const std::string file = directory + "attach.lldb";
  std::ofstream(file) << "process connect --plugin gdb-remote fd://" << Adapter::kSocket << "\n";
  const std::string program = fs::read_symlink("/proc/self/exe").string();
  return {{"program", program},
          {"stopOnEntry", false},
          {"timeout", 30},
          {"initCommands",
           {"settings set auto-confirm true", "settings set target.preload-symbols false",
            "settings set symbols.enable-external-lookup false", "settings set plugin.jit-loader.gdb.enable off"}},
          {"attachCommands",
           {"target create \"" + program + "\"", "command source --stop-on-continue false \"" + file + "\""}}};
}

}  // namespace

Coro<Debugger::Turn> Debugger::take_turn(SessionPtr session) {
  Turn mine{Pending<void>()};
  std::optional<Pending<void>> before;
  {
    const std::lock_guard lock(mutex_);
    before = std::exchange(session->last_turn, mine.end());
  }
  if (before) {
    try {
      co_await before->async_wait_done();
    } catch (...) {  // given up: whoever comes next still waits for the one before
      mine.follow(*before);
      throw;
    }
  }
  co_return std::move(mine);
}

Debugger::Debugger(Host host) : host_(std::move(host)) {}
Debugger::~Debugger() { stop(); }

bool Debugger::available() { return Stub::supported() && find_adapter().has_value(); }

Debugger::SessionPtr Debugger::session() {
  const std::lock_guard lock(mutex_);
  return session_;
}

Debugger::SessionPtr Debugger::take_session() {
  const std::lock_guard lock(mutex_);
  attached_ = false;
  breakpoints_.clear();
  stopped_.clear();
  return std::exchange(session_, nullptr);
}

const std::string& Debugger::directory() {
  const std::lock_guard lock(mutex_);
  return directory_.path();
}

std::string Debugger::cell_path(const std::string& code) {
  return directory() + std::to_string(murmur2(code, kSeed)) + kSuffix;
}

// ---- what lldb-dap says by itself ----

void Debugger::event(const std::weak_ptr<Session>& from, json message) {
  const std::string name = text_of(message, "event");
  const auto current = from.lock();
  if (!current) return;
  if (name == "initialized") {
    current->initialized.set_result();
    return;  // told when the attaching is done
  }
  if (name == "output" || name == "module" || name == "process") return;
  if (!message.contains("body") || !message["body"].is_object()) message["body"] = json::object();
  json& body = message["body"];
  {
    const std::lock_guard lock(mutex_);
    if (session_ != current) return;
    if (name == "stopped") {
      const int thread = body.value("threadId", 0);
      current->running = false;
      current->quiet = thread == current->stub->quiet_thread();
      if (auto waiting = std::exchange(current->on_stop, std::nullopt)) waiting->set_result();
      if (current->quiet) return;
      stopped_.insert(thread);
      body["allThreadsStopped"] = false;  // the others run
    } else if (name == "continued") {
      current->running = true;
      if (auto waiting = std::exchange(current->on_go, std::nullopt)) waiting->set_result();
      if (std::exchange(current->quiet, false) || stopped_.empty()) return;
      stopped_.clear();
    } else if (name == "thread" && text_of(body, "reason") == "exited") {
      return;  // it only went out of sight
    }
  }
  clean_field(body, "description");
  clean_field(body, "text");
  message["seq"] = ++sequence_;
  host_.publish(message);
}

void Debugger::ended(const std::weak_ptr<Session>& from) {
  SessionPtr gone;
  {
    const auto current = from.lock();
    const std::lock_guard lock(mutex_);
    if (!current || session_ != current) return;
    gone = std::exchange(session_, nullptr);
    attached_ = false;
    stopped_.clear();
    breakpoints_.clear();
  }
  gone->stub->release();
  host_.publish({{"type", "event"}, {"event", "terminated"}, {"seq", ++sequence_}, {"body", json::object()}});
  host_.elsewhere([gone = std::move(gone)]() mutable { gone.reset(); });
}

// ---- talking to lldb; what clients ask: debugger_requests.cpp ----

Coro<json> Debugger::ask(SessionPtr session, std::string command, json arguments, std::chrono::milliseconds limit) {
  Pending<json> answer;
  session->adapter->request(command, std::move(arguments), [answer](json r) { answer.set_result(std::move(r)); });
  if (!co_await answer.async_wait_done({.timeout = limit}))
    co_return failure("lldb-dap did not answer \"" + command + "\" in time");
  json response = answer.result();
  if (!response.is_object()) co_return failure("lldb-dap has ended");
  co_return response;
}

// Makes lldb believe that the process stands. lldb can take a breakpoint or a module while it runs, too, but may then
// block itself when a thread stops in that moment. True: it is to be resumed.
Coro<bool> Debugger::quiet(SessionPtr session) {
  Pending<void> stop;
  {
    const std::lock_guard lock(mutex_);
    if (!session->running) co_return false;
    session->on_stop = stop;
  }
  session->stub->stop_quietly();
  if (!co_await stop.async_wait_done({.timeout = kStopLimit})) co_return false;
  const std::lock_guard lock(mutex_);
  co_return session->quiet;
}

// In its turn. Until lldb has said that the process runs nothing else may be asked.
Coro<json> Debugger::resume(SessionPtr session, std::string command, json arguments) {
  Pending<void> go;
  {
    const std::lock_guard lock(mutex_);
    session->on_go = go;
  }
  json response = co_await ask(session, std::move(command), std::move(arguments), kRequestLimit);
  if (response.value("success", false)) (void)co_await go.async_wait_done({.timeout = kStopLimit});
  co_return response;
}

Coro<json> Debugger::ask_quietly(SessionPtr session, std::string command, json arguments) {
  const Turn turn = co_await take_turn(session);
  const bool go_on = co_await quiet(session);
  json response = co_await ask(session, std::move(command), std::move(arguments), kRequestLimit);
  if (go_on) {
    json thread = {{"threadId", session->stub->quiet_thread()}};
    (void)co_await resume(session, "continue", std::move(thread));
  }
  co_return response;
}

Coro<json> Debugger::start(json arguments) {
  if (const SessionPtr running = session()) co_return success(running->capabilities);
  const auto program = find_adapter();
  if (!program) co_return failure("lldb-dap is not installed");
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) co_return failure("a socket could not be made");
  auto made = std::make_shared<Session>();
  const std::weak_ptr<Session> weak = made;
  std::string error;
  try {
    made->stub = std::make_unique<Stub>(ends[0]);
    made->adapter =
        std::make_unique<Adapter>(*program, ends[1],
                                  Adapter::Handlers{[this, weak](json message) { event(weak, std::move(message)); },
                                                    [this, weak] { ended(weak); }});
  } catch (const std::exception& e) {
    error = e.what();
    if (!made->stub) ::close(ends[0]);
  }
  ::close(ends[1]);
  if (!error.empty()) co_return failure("lldb-dap does not start: " + error);
  {
    const std::lock_guard lock(mutex_);
    session_ = made;
  }
  json response = co_await ask(made, "initialize", std::move(arguments), kStartLimit);
  if (response.value("success", false)) {
    json& can = response["body"];
    // What lldb-dap could do, but not here: the process is not its own, and breakpoints in libraries would stop the
    // kernel.
    for (const char* no : {"supportTerminateDebuggee", "supportsDataBreakpoints", "supportsRestartRequest",
                           "supportsRunInTerminalRequest", "supportsExceptionInfoRequest", "supportsExceptionOptions"})
      can[no] = false;
    can["exceptionBreakpointFilters"] = json::array();
    made->capabilities = can;
  } else if (SessionPtr failed = take_session()) {
    made.reset();
    host_.elsewhere([failed = std::move(failed)]() mutable { failed.reset(); });
  }
  co_return response;
}

Coro<json> Debugger::attach(SessionPtr session) {
  if (std::exchange(session->attaching, true)) co_return success();
  Pending<json> attached;
  session->adapter->request("attach", attach_arguments(directory()),
                            [attached](json r) { attached.set_result(std::move(r)); });
  // lldb-dap answers, says that it is initialized, and lets the process run when the configuration is done.
  if (!co_await attached.async_wait_done({.timeout = kStartLimit})) co_return failure("lldb does not attach");
  json response = attached.result();
  if (!response.is_object()) co_return failure("lldb-dap has ended");
  if (!response.value("success", false)) co_return response;
  if (!co_await session->initialized.async_wait_done({.timeout = kStartLimit}))
    co_return failure("lldb does not attach");
  json done = co_await ask(session, "configurationDone", nullptr, kStartLimit);
  if (!done.value("success", false)) co_return done;
  {
    const std::lock_guard lock(mutex_);
    session->running = true;
  }
  attached_ = true;
  host_.publish({{"type", "event"}, {"event", "initialized"}, {"seq", ++sequence_}});
  co_return response;
}

// ---- cells ----

Coro<void> Debugger::announce(std::vector<Object> objects) {
  const SessionPtr to = session();
  if (!to || !attached_) co_return;
  const Turn turn = co_await take_turn(to);
  const bool go_on = co_await quiet(to);
  const auto command = [&](const std::string& text, const std::function<void(json)>& done) {
    to->adapter->request("evaluate", {{"expression", "`" + text}, {"context", "repl"}}, done);
  };
  Pending<json> last;
  bool any = false;
  for (const Object& object : objects) {
    const std::string file = directory() + "object_" + std::to_string(++to->objects) + ".o";
    std::ofstream out(file, std::ios::binary | std::ios::trunc);
    out << object.elf;
    out.close();
    if (!out) continue;
    // lldb gives the sections of an object addresses of its own choice: it is told where each one lies.
    std::string load = "target modules load --file \"" + file + "\"";
    for (const auto& [name, address] : object.sections) {
      char number[24];
      std::snprintf(number, sizeof number, " 0x%llx", static_cast<unsigned long long>(address));
      load += " " + name + number;
    }
    last = Pending<json>();
    any = true;
    command("target modules add \"" + file + "\"", [](json) {});
    const auto done = [last](json r) { last.set_result(std::move(r)); };
    command(load, done);
  }
  if (any) (void)co_await last.async_wait_done({.timeout = kAnnounceLimit});
  if (go_on) {
    json thread = {{"threadId", to->stub->quiet_thread()}};
    (void)co_await resume(to, "continue", std::move(thread));
  }
}

void Debugger::let_go() {
  const SessionPtr current = session();
  if (!current || current->stub->let_pass() == 0) return;
  host_.start([this, current]() -> Coro<void> { return let_go_now(current); });
}

Coro<void> Debugger::let_go_now(SessionPtr session) {
  // Whoever has the turn may wait for the very thread that is to go on.
  Pending<void> in_time;
  host_.start([this, session, in_time]() -> Coro<void> { return give_up_later(session, in_time); });
  const Turn turn = co_await take_turn(session);
  int thread = 0;
  {
    const std::lock_guard lock(mutex_);
    if (!stopped_.empty()) thread = *stopped_.begin();
  }
  if (session->stub->standing() > 0) {
    json arguments = {{"threadId", thread}};
    (void)co_await resume(session, "continue", std::move(arguments));
  }
  in_time.set_result();
}

Coro<void> Debugger::give_up_later(SessionPtr session, Pending<void> in_time) {
  // Of the two in one statement g++ 12 makes an invalid instruction.
  const bool done = co_await in_time.async_wait_done({.timeout = kLetGoLimit});
  if (!done) session->stub->release();
  co_return;
}

void Debugger::release() {
  if (SessionPtr last = take_session()) {
    last->stub->release();
    host_.elsewhere([last = std::move(last)]() mutable { last.reset(); });
  }
}

void Debugger::stop() {
  if (SessionPtr last = take_session()) {
    last->stub->release();
    last.reset();
  }
  const std::lock_guard lock(mutex_);
  directory_.remove();
}

}  // namespace caller::kernel::debugger
