#include "debugger.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <regex>
#include <system_error>
#include <utility>

#include "adapter.hpp"
#include "find_adapter.hpp"
#include "murmur2.hpp"
#include "stub.hpp"

namespace caller::kernel::debugger {
namespace fs = std::filesystem;
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kSeed = 0xC70F6907;  // any number will do; clients are told
constexpr const char* kSuffix = ".cpp";
constexpr auto kStartLimit = 30s;     // for lldb to start and to attach
constexpr auto kRequestLimit = 60s;   // an expression of the user's may take its time
constexpr auto kLetGoLimit = 2s;      // then an interrupt ends the debugging
constexpr auto kStopLimit = 5s;       // for lldb to notice that the process stands, or runs
constexpr auto kAnnounceLimit = 10s;  // then the cell runs, breakpoints or not

json failure(const std::string& why) { return {{"success", false}, {"message", why}}; }
json success(json body = json::object()) { return {{"success", true}, {"body", std::move(body)}}; }

// The kernel's own names are not the user's.
std::string clean(std::string text) {
  static const std::regex cell("__cell_[0-9]+::");
  static const std::regex wrapper("(__caller_s[0-9]+_[0-9]+|caller_coro_[0-9]+_[0-9]+)(\\(\\))?");
  text = std::regex_replace(text, cell, "");
  return std::regex_replace(text, wrapper, "<cell>");
}

void clean_field(json& object, const char* name) {
  if (const auto it = object.find(name); it != object.end() && it->is_string()) *it = clean(it->get<std::string>());
}

std::string text_of(const json& object, const char* name) {
  const auto it = object.find(name);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

std::string path_of(const json& object) {
  const auto it = object.find("source");
  return it != object.end() && it->is_object() ? text_of(*it, "path") : std::string();
}

// Variables of the text that stands around a cell.
bool is_internal(std::string name) {
  if (name.starts_with("::")) name.erase(0, 2);
  return name.starts_with("__caller_") || name.starts_with("caller_") || name.starts_with("__coro_");
}

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

struct Debugger::Session {
  std::unique_ptr<Stub> stub;  // destroyed after the adapter
  std::unique_ptr<Adapter> adapter;
  json capabilities;
  Pending<void> initialized;
  bool attaching = false;
  std::atomic<unsigned> objects{0};

  // Guarded by the debugger's mutex.
  bool running = false;  // what lldb believes
  bool quiet = false;    // it stands only because we wanted to talk to it
  std::optional<Pending<void>> on_stop, on_go;
  std::optional<Pending<void>> last_turn;
};

/// The right to talk; given on when it goes.
class Debugger::Turn {
public:
  explicit Turn(Pending<void> end) : end_(std::move(end)) {}
  Turn(Turn&& other) noexcept : end_(std::exchange(other.end_, std::nullopt)) {}
  Turn& operator=(Turn&&) = delete;
  ~Turn() {
    if (end_) end_->set_result();
  }

  const Pending<void>& end() const { return *end_; }
  /// Gives it on as soon as that one is done.
  void follow(const Pending<void>& before) {
    before.add_done_callback([end = *std::exchange(end_, std::nullopt)](PendingBase) { end.set_result(); });
  }

private:
  std::optional<Pending<void>> end_;
};

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
  if (directory_.empty()) {
    std::string name = (fs::temp_directory_path() / "caller-cells-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::system_error(errno, std::generic_category(), name);
    directory_ = name + "/";
  }
  return directory_;
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

// ---- requests ----

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

Coro<json> Debugger::set_breakpoints(SessionPtr session, json arguments) {
  const std::string path = path_of(arguments);
  json wanted = arguments.value("breakpoints", json::array());
  {
    const std::lock_guard lock(mutex_);
    if (wanted.empty())
      breakpoints_.erase(path);
    else
      breakpoints_[path] = wanted;
  }
  json response = co_await ask_quietly(session, "setBreakpoints", std::move(arguments));
  if (!response.value("success", false)) co_return response;
  // A cell that has not run since the debugger came has no code yet: its breakpoints hold as soon as it has.
  if (path.starts_with(directory())) {
    json& all = response["body"]["breakpoints"];
    for (std::size_t i = 0; i < all.size() && i < wanted.size(); ++i)
      if (!all[i].value("verified", false)) {
        all[i]["verified"] = true;
        all[i]["line"] = wanted[i].value("line", 1);
        all[i]["source"] = {{"path", path}};
        all[i].erase("message");
      }
  }
  co_return response;
}

// The frames of the cell; below them is the kernel.
Coro<json> Debugger::stack_trace(SessionPtr session, json arguments) {
  json response = co_await ask(session, "stackTrace", std::move(arguments), kRequestLimit);
  if (!response.value("success", false)) co_return response;
  json& frames = response["body"]["stackFrames"];
  std::size_t keep = 0;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    clean_field(frames[i], "name");
    if (path_of(frames[i]).starts_with(directory())) keep = i + 1;
  }
  if (keep > 0 && keep < frames.size()) {
    frames.erase(frames.begin() + static_cast<std::ptrdiff_t>(keep), frames.end());
    response["body"]["totalFrames"] = keep;
  }
  co_return response;
}

Coro<json> Debugger::variables(SessionPtr session, json arguments) {
  json response = co_await ask(session, "variables", std::move(arguments), kRequestLimit);
  if (!response.value("success", false)) co_return response;
  json kept = json::array();
  for (json& v : response["body"]["variables"]) {
    if (is_internal(text_of(v, "name"))) continue;
    for (const char* field : {"name", "type", "value"}) clean_field(v, field);
    kept.push_back(std::move(v));
  }
  response["body"]["variables"] = std::move(kept);
  co_return response;
}

Coro<json> Debugger::inspect_variables() {
  Pending<json> known = host_.variables();
  if (!co_await known.async_wait_done({.timeout = kRequestLimit}))
    co_return failure("the variables did not come in time");
  json list = json::array();
  for (const json& v : known.result())
    list.push_back({{"name", v["name"]},
                    {"type", v["type"]},
                    {"value", v["value"]},
                    {"evaluateName", v["name"]},
                    {"variablesReference", 0}});
  co_return success({{"variables", std::move(list)}});
}

Coro<json> Debugger::rich_inspect(SessionPtr session, json arguments) {
  const std::string name = text_of(arguments, "variableName");
  bool stands = false;
  {
    const std::lock_guard lock(mutex_);
    stands = !stopped_.empty();
  }
  if (session && stands && arguments.contains("frameId")) {
    json question = {{"expression", name}, {"context", "watch"}, {"frameId", arguments["frameId"]}};
    json answer = co_await ask_quietly(session, "evaluate", std::move(question));
    if (answer.value("success", false))
      co_return success(
          {{"data", {{"text/plain", clean(text_of(answer["body"], "result"))}}}, {"metadata", json::object()}});
  }
  Pending<json> shown = host_.bundle(name);
  if (!co_await shown.async_wait_done({.timeout = kRequestLimit})) co_return failure("the value did not come in time");
  json bundle = shown.result();
  if (!bundle.is_object()) {
    json none = failure("there is no variable \"" + name + "\"");
    none["body"] = {{"data", json::object()}, {"metadata", json::object()}};
    co_return none;
  }
  co_return success(std::move(bundle));
}

Coro<json> Debugger::evaluate(SessionPtr session, json arguments) {
  const std::string expression = text_of(arguments, "expression");
  json response = co_await ask_quietly(session, "evaluate", std::move(arguments));
  if (response.contains("body") && response["body"].is_object()) {
    clean_field(response["body"], "result");
    clean_field(response["body"], "type");
  }
  if (response.value("success", false)) co_return response;
  clean_field(response, "message");
  // Of a variable that was made before the debugger came lldb knows nothing but the address.
  Pending<json> known = host_.bundle(expression);
  if (!co_await known.async_wait_done({.timeout = kRequestLimit})) co_return response;
  json bundle = known.result();
  if (!bundle.is_object() || !bundle["data"].contains("text/plain")) co_return response;
  co_return success({{"result", bundle["data"]["text/plain"]}, {"variablesReference", 0}});
}

Coro<json> Debugger::disconnect(SessionPtr session, json arguments) {
  (void)arguments;  // the kernel is never terminated by its debugger
  json wish = {{"restart", false}, {"terminateDebuggee", false}};
  json response = co_await ask(session, "disconnect", std::move(wish), 2s);
  // Whatever lldb-dap made of it.
  session->stub->release();
  SessionPtr last = take_session();
  session.reset();
  if (last) host_.elsewhere([last = std::move(last)]() mutable { last.reset(); });
  co_return success();
}

json Debugger::info() {
  const std::string prefix = directory();
  const std::lock_guard lock(mutex_);
  json breakpoints = json::array();
  for (const auto& [path, list] : breakpoints_) breakpoints.push_back({{"source", path}, {"breakpoints", list}});
  return success({{"isStarted", session_ != nullptr},
                  {"hashMethod", "Murmur2"},
                  {"hashSeed", kSeed},
                  {"tmpFilePrefix", prefix},
                  {"tmpFileSuffix", kSuffix},
                  {"breakpoints", std::move(breakpoints)},
                  {"stoppedThreads", stopped_},
                  {"richRendering", true},
                  {"exceptionPaths", json::array()},
                  {"copyToGlobals", false}});
}

json Debugger::dump_cell(const json& arguments) {
  const std::string code = text_of(arguments, "code"), path = cell_path(code);
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << code;
  out.close();
  if (!out) return failure("the cell could not be written to " + path);
  return success({{"sourcePath", path}});
}

json Debugger::source(const json& arguments) {
  const std::string path = path_of(arguments);
  std::ifstream in(path, std::ios::binary);
  std::error_code error;
  if (!in || !fs::is_regular_file(path, error)) {
    json none = failure("source unavailable");
    none["body"] = json::object();
    return none;
  }
  return success({{"content", std::string(std::istreambuf_iterator<char>(in), {})}, {"mimeType", "text/x-c++src"}});
}

Coro<json> Debugger::handle(json request) {
  const std::string command = text_of(request, "command");
  json arguments = request.value("arguments", json::object());
  if (!arguments.is_object()) arguments = json::object();
  const json number = request.value("seq", json(0));
  const SessionPtr running = session();
  json response;
  if (command == "debugInfo") {
    response = info();
  } else if (command == "initialize") {
    response = co_await start(std::move(arguments));
  } else if (command == "dumpCell") {
    response = dump_cell(arguments);
  } else if (command == "source") {
    response = source(arguments);
  } else if (command == "configurationDone") {
    response = success();  // said to lldb-dap when it attached
  } else if (command == "inspectVariables") {
    response = co_await inspect_variables();
  } else if (command == "richInspectVariables") {
    response = co_await rich_inspect(running, std::move(arguments));
  } else if (command == "copyToGlobals") {
    response = failure("copyToGlobals is not supported");
  } else if (!running && command == "modules") {
    response = success({{"modules", json::array()}, {"totalModules", 0}});
  } else if (!running) {
    response = failure(command == "disconnect" ? "the debugger was not started" : "the debugger is not started");
  } else if (command == "attach") {
    response = co_await attach(running);
  } else if (command == "setBreakpoints") {
    response = co_await set_breakpoints(running, std::move(arguments));
  } else if (command == "stackTrace") {
    response = co_await stack_trace(running, std::move(arguments));
  } else if (command == "variables") {
    response = co_await variables(running, std::move(arguments));
  } else if (command == "disconnect" || command == "terminate") {
    response = co_await disconnect(running, std::move(arguments));
  } else if (command == "evaluate") {
    response = co_await evaluate(running, std::move(arguments));
  } else if (command == "continue" || command == "next" || command == "stepIn" || command == "stepOut") {
    const Turn turn = co_await take_turn(running);
    response = co_await resume(running, command, std::move(arguments));
  } else if (command == "pause") {
    response = failure("a running cell cannot be paused; set a breakpoint in it");
  } else if (command.starts_with("set")) {
    response = co_await ask_quietly(running, command, std::move(arguments));
  } else {
    response = co_await ask(running, command, std::move(arguments), kRequestLimit);
  }
  response["type"] = "response";
  response["command"] = command;
  response["request_seq"] = number;
  response["seq"] = ++sequence_;
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
  std::error_code error;
  if (!directory_.empty()) fs::remove_all(directory_, error);
  directory_.clear();
}

}  // namespace caller::kernel::debugger
