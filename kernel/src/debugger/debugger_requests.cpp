// The requests of Jupyter's debug protocol: what each asks of lldb-dap, or of the kernel.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <system_error>
#include <utility>

#include "debugger.hpp"
#include "debugger_session.hpp"
#include "find_adapter.hpp"
#include "names.hpp"

namespace caller::kernel::debugger {
namespace fs = std::filesystem;

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
  json response = co_await ask(session, "disconnect", std::move(wish), std::chrono::seconds(2));
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

}  // namespace caller::kernel::debugger
