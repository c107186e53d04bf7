// What Control serves: it never waits for a shell.
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>

#include "protocol/log.hpp"
#include "session/kernel.hpp"
#include "session/shell.hpp"

#ifndef CALLER_VERSION
#define CALLER_VERSION "0"
#endif

namespace caller::kernel {
namespace {

json history_json(const std::vector<HistoryEntry>& entries, bool output) {
  json out = json::array();
  for (const auto& e : entries) {
    json text = e.input;
    if (output) text = json::array({e.input, e.output.empty() ? json(nullptr) : json(e.output)});
    out.push_back(json::array({e.session, e.line, std::move(text)}));
  }
  return out;
}

// A figure of /proc/meminfo in bytes.
double meminfo(const std::string& name) {
  std::ifstream in("/proc/meminfo");
  std::string key, unit;
  for (double value = 0; in >> key >> value;) {
    std::getline(in, unit);
    if (key == name + ":") return value * 1024;
  }
  return 0;
}

double resident_bytes() {
  std::ifstream in("/proc/self/statm");
  double total = 0, resident = 0;
  in >> total >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

// Processor seconds of the process, in user and system mode.
double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

json Kernel::kernel_info() const {
  json features = json::array({"kernel subshells"});
  if (can_debug_) features.push_back("debugger");
  return {{"status", "ok"},
          {"protocol_version", "5.5"},
          {"implementation", "caller"},
          {"implementation_version", CALLER_VERSION},
          {"language_info",
           {{"name", "c++"},
            {"version", "20"},
            {"mimetype", "text/x-c++src"},
            {"file_extension", ".cpp"},
            {"codemirror_mode", "text/x-c++src"},
            {"pygments_lexer", "cpp"},
            {"nbconvert_exporter", "script"}}},
          {"banner", "Caller " CALLER_VERSION ": C++20 cells on an asynchronous executor\n"},
          {"help_links", json::array({{{"text", "C++ reference"}, {"url", "https://en.cppreference.com/w/cpp"}},
                                      {{"text", "Jupyter messaging"},
                                       {"url", "https://jupyter-client.readthedocs.io/en/stable/messaging.html"}}})},
          {"debugger", can_debug_},
          {"supported_features", std::move(features)}};
}

void Kernel::on_kernel_info(RequestScope& scope) { scope.reply(kernel_info()); }

void Kernel::on_connect(RequestScope& scope) {
  const ConnectionInfo& c = session_.connection();
  scope.reply({{"status", "ok"},
               {"shell_port", c.shell_port},
               {"iopub_port", c.iopub_port},
               {"stdin_port", c.stdin_port},
               {"hb_port", c.hb_port},
               {"control_port", c.control_port}});
}

void Kernel::on_interrupt(RequestScope& scope) {
  cells_.stop_all(ActiveCell::Stop::interrupt,
                  {scope.request()->received, scope.request()});  // only asks: their end may take a moment
  scope.reply({{"status", "ok"}});  // after it: what the client sends from now on is not meant
}

void Kernel::on_shutdown(RequestScope& scope) {
  if (!options_.clients_may_stop)
    return scope.reply(error_content("ShutdownRefused", "this kernel lives in a program that goes on"));
  const json content = {{"status", "ok"}, {"restart", field<bool>(scope.content(), "restart", false)}};
  scope.reply(content);
  session_.iopub().publish("shutdown_reply", scope.request(), content);
  // After the scope: its idle goes out before the end.
  (void)control_.call_soon([this] { shut_down(); });
}

void Kernel::on_history(RequestScope& scope) {
  const json& c = scope.content();
  const auto kind = field<std::string>(c, "hist_access_type", "tail");
  const bool output = field<bool>(c, "output", false);
  std::vector<HistoryEntry> entries;
  if (kind == "range")
    entries =
        session_.history()->range(field<int>(c, "session", 0), field<int>(c, "start", 0), field<int>(c, "stop", -1));
  else if (kind == "search")
    entries = session_.history()->search(field<std::string>(c, "pattern", "*"), field<int>(c, "n", 0),
                                         field<bool>(c, "unique", false));
  else if (kind == "tail")
    entries = session_.history()->tail(field<int>(c, "n", 10));
  else
    throw std::invalid_argument("hist_access_type must be tail, range or search, found \"" + kind + "\"");
  scope.reply({{"status", "ok"}, {"history", history_json(entries, output)}});
}

void Kernel::on_comm_info(RequestScope& scope) {
  scope.reply({{"status", "ok"}, {"comms", comms_.comm_info(field<std::string>(scope.content(), "target_name", ""))}});
}

void Kernel::on_usage(RequestScope& scope) {
  // Percent of one processor since the request before.
  static double last_cpu = 0;
  static auto last_time = std::chrono::steady_clock::now() - std::chrono::seconds(1);
  const double cpu = cpu_seconds();
  const auto now = std::chrono::steady_clock::now();
  const double elapsed = std::chrono::duration<double>(now - last_time).count();
  const double percent = elapsed > 0 ? 100 * (cpu - last_cpu) / elapsed : 0;
  last_cpu = cpu;
  last_time = now;
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  const double total = meminfo("MemTotal"), available = meminfo("MemAvailable"), free = meminfo("MemFree");
  scope.reply({{"status", "ok"},
               {"hostname", host},
               {"pid", ::getpid()},
               {"kernel_cpu", percent},
               {"kernel_memory", resident_bytes()},
               {"cpu_count", std::thread::hardware_concurrency()},
               {"host_virtual_memory",
                {{"total", total},
                 {"available", available},
                 {"free", free},
                 {"used", total - available},
                 {"percent", total > 0 ? 100 * (total - available) / total : 0}}}});
}

void Kernel::on_create_subshell(RequestScope& scope) {
  scope.reply({{"status", "ok"}, {"subshell_id", create_subshell()}});
}

void Kernel::on_delete_subshell(RequestScope& scope) {
  const auto id = field<std::string>(scope.content(), "subshell_id", "");
  if (!delete_subshell(id)) return scope.reply(error_content("SubshellError", "there is no subshell \"" + id + "\""));
  scope.reply({{"status", "ok"}});
}

void Kernel::on_list_subshell(RequestScope& scope) { scope.reply({{"status", "ok"}, {"subshell_id", subshells()}}); }

void Kernel::on_unknown(RequestScope& scope) {
  scope.expect_no_reply();
  log(LogLevel::info, "unknown message type " + scope.request()->type());
}

void Kernel::on_faulty(RequestScope& scope) {
  const Message& request = *scope.request();
  log(LogLevel::warning, request.type() + ": " + request.fault);
  if (!request.type().ends_with("_request")) return scope.expect_no_reply();
  json content = error_content("MessageError", request.fault, {"MessageError: " + request.fault});
  content["execution_count"] = 0;
  scope.reply(content);
}

void Kernel::on_unknown_subshell(RequestScope& scope) {
  const Message& request = *scope.request();
  log(LogLevel::warning, request.type() + ": there is no subshell " + request.subshell());
  if (!request.type().ends_with("_request")) return scope.expect_no_reply();
  json content = error_content("SubshellError", "there is no subshell \"" + request.subshell() + "\"");
  content["execution_count"] = 0;
  scope.reply(content);
}

}  // namespace caller::kernel
