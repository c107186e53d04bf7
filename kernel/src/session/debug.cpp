// The session's side of the debugger: its requests, its events, and what it wants to know of the session.
#include <utility>

#include "protocol/log.hpp"
#include "session/kernel.hpp"

namespace caller::kernel {
namespace {

bool is_variable(const Interpreter::Symbol& s) { return s.kind == "variable"; }

}  // namespace

debugger::Debugger::Host Kernel::debug_host() {
  debugger::Debugger::Host host;
  host.publish = [this](const json& event) {
    Request parent;
    {
      const std::lock_guard lock(debug_mutex_);
      parent = debug_parent_;
    }
    if (parent) session_.iopub().publish("debug_event", parent, event);
  };
  host.variables = [this] {
    return with_interpreter([](Interpreter& interpreter) {
      std::vector<Interpreter::Symbol> found = interpreter.symbols();
      std::vector<std::string> names;
      for (const auto& s : found)
        if (is_variable(s)) names.push_back(s.name);
      const auto values = interpreter.values(names);
      json out = json::array();
      for (const auto& s : found) {
        if (!is_variable(s)) continue;
        const auto it = values.find(s.name);
        std::string value;
        if (it != values.end() && it->second.count("text/plain")) value = it->second.at("text/plain");
        out.push_back({{"name", s.name}, {"type", s.type}, {"value", std::move(value)}});
      }
      return out;
    });
  };
  host.bundle = [this](std::string name) {
    return with_interpreter([name = std::move(name)](Interpreter& interpreter) {
      bool known = false;
      for (const auto& s : interpreter.symbols()) known |= is_variable(s) && s.name == name;
      if (!known) return json();
      json data = json::object();
      for (const auto& [expression, bundle] : interpreter.values({name}))
        for (const auto& [type, text] : bundle) data[type] = text;
      return json{{"data", std::move(data)}, {"metadata", json::object()}};
    });
  };
  host.start = [this](std::function<Coro<void>()> work) { (void)control_.call_soon(std::move(work)); };
  host.elsewhere = [this](std::function<void()> work) { (void)control_.to_thread(std::move(work)); };
  return host;
}

Coro<void> Kernel::debug(Request request) {
  RequestScope scope(session_, request, [this] { settle(); });
  {
    const std::lock_guard lock(debug_mutex_);
    debug_parent_ = request;
  }
  try {
    json reply = co_await debugger_.handle(request->content);
    scope.reply(reply);
  } catch (...) {
    json content = error_content_of_current();
    log(LogLevel::warning, "debug_request: " + content["evalue"].get<std::string>());
    content["success"] = false;
    content["message"] = content["evalue"];
    if (!scope.replied()) scope.reply(content);
  }
}

}  // namespace caller::kernel
