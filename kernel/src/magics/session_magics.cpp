// Magics about the session: its Callers, shells, names, interrupts, environment, and commands of the system.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <sstream>

#include <caller/caller.hpp>

#include "magics/command.hpp"
#include "magics/functions.hpp"
#include "protocol/connection.hpp"
#include "protocol/error.hpp"
#include "session/kernel.hpp"
#include "session/shell.hpp"

extern char** environ;

namespace caller::kernel::magics {

Coro<void> callers(MagicContext& c, const MagicLine&) {
  std::vector<std::vector<std::string>> rows = {{"Name", "Running", "Protected", "Thread", "Caller"}};
  const Caller current;
  for (const Caller& caller : Caller::all_callers()) {
    std::ostringstream handle;
    handle << caller;
    rows.push_back({caller.name(), caller.running() ? "yes" : "no", caller.is_protected() ? "yes" : "no",
                    caller.thread_name(), handle.str() + (caller == current ? " \u2190 current" : "")});
  }
  print(c, format_table(rows));
  co_return;
}

Coro<void> command(MagicContext& c, const MagicLine& line) {
  const std::string text = line.name == "bash" ? line.body : line.arguments;
  const Request request = c.work->request;
  Session& session = c.kernel.session();
  // In a worker, so that the shell serves comms and other tasks meanwhile; the token stops the command with the cell.
  auto run = Caller::current().to_thread([text, request, &session](std::stop_token stop) {
    return run_command(
        text,
        [&](int fd, std::string_view bytes) {
          session.iopub().stream(request, fd == 1 ? StreamName::out : StreamName::err, bytes);
        },
        stop);
  });
  const int code = co_await run;
  if (code != 0) usage("the command ended with exit code " + std::to_string(code));
}

Coro<void> cd(MagicContext& c, const MagicLine& line) {
  const std::string target = expand_home(line.arguments.empty() ? "~" : line.arguments);
  std::error_code error;
  std::filesystem::current_path(target, error);
  if (error) usage("%cd " + target + ": " + error.message());
  print(c, std::filesystem::current_path().string() + "\n");
  co_return;
}

Coro<void> pwd(MagicContext& c, const MagicLine&) {
  print(c, std::filesystem::current_path().string() + "\n");
  co_return;
}

Coro<void> env(MagicContext& c, const MagicLine& line) {
  const std::string& text = line.arguments;
  if (text.empty()) {
    std::vector<std::string> all;
    for (char** e = environ; *e; ++e) all.emplace_back(*e);
    std::sort(all.begin(), all.end());
    for (const auto& e : all) print(c, e + "\n");
    co_return;
  }
  const std::size_t at = text.find_first_of("= ");
  const std::string name = text.substr(0, at);
  if (at != std::string::npos) {
    ::setenv(name.c_str(), text.substr(at + 1).c_str(), 1);
  } else {
    const char* value = std::getenv(name.c_str());
    if (!value) usage("%env: " + name + " is not set");
    print(c, std::string(value) + "\n");
  }
}

Coro<void> who(MagicContext& c, const MagicLine&) {
  auto pending = c.kernel.with_interpreter([](Interpreter& i) { return i.symbols(); });
  const std::vector<Interpreter::Symbol> symbols = co_await pending;
  if (symbols.empty()) {
    print(c, "Nothing is defined yet.\n");
    co_return;
  }
  std::vector<std::vector<std::string>> rows = {{"Name", "Kind", "Type"}};
  for (const auto& s : symbols) rows.push_back({s.name, s.kind, s.type.substr(0, s.type.find('\n'))});
  print(c, format_table(rows));
}

Coro<void> reset(MagicContext& c, const MagicLine& line) {
  const Arguments arguments = read_arguments(line, "f");
  if (!arguments.words.empty()) usage("%reset forgets all names; it takes no others");
  if (!arguments.has('f') && !confirm(c, "Once deleted, variables cannot be recovered. Proceed (y/[n])? ")) {
    print(c, "Nothing done.\n");
    co_return;
  }
  auto pending = c.kernel.with_interpreter([&kernel = c.kernel](Interpreter& i) { kernel.reset_names(i); });
  co_await pending;
}

Coro<void> interrupts(MagicContext& c, const MagicLine&) {
  std::vector<std::vector<std::string>> rows = {{"When", "Why", "Reached", "Ended after"}};
  for (const StopRecord& r : c.kernel.cells().records()) {
    const std::time_t t = std::chrono::system_clock::to_time_t(r.at);
    std::tm parts{};
    ::localtime_r(&t, &parts);
    char when[32], took[32] = "not yet";
    std::strftime(when, sizeof when, "%H:%M:%S", &parts);
    if (r.reached.empty())
      took[0] = '\0';
    else if (r.took)
      std::snprintf(took, sizeof took, "%.1f ms", std::chrono::duration<double, std::milli>(*r.took).count());
    const char* why = r.why == ActiveCell::Stop::timeout    ? "time-out"
                      : r.why == ActiveCell::Stop::shutdown ? "shutdown"
                                                            : "interrupt";
    rows.push_back({when, why, r.reached.empty() ? "nothing was running" : r.reached, took});
  }
  std::string text = rows.size() > 1 ? format_table(rows) : "No cell was interrupted yet.\n";
  text += "Running now:";
  for (const std::string& label : c.kernel.cells().labels()) text += " " + label + ";";
  text.back() = '\n';
  print(c, text);
  co_return;
}

Coro<void> connect_info(MagicContext& c, const MagicLine&) {
  print(c, connection_text(c.kernel.session().connection()));
  co_return;
}

Coro<void> subshell(MagicContext& c, const MagicLine&) {
  std::string text = "subshell id: " + (c.shell.id().empty() ? "none (the main shell)" : c.shell.id()) + "\n";
  text += "subshells: ";
  const auto ids = c.kernel.subshells();
  for (std::size_t i = 0; i < ids.size(); ++i) text += (i ? ", " : "") + ids[i];
  print(c, text + (ids.empty() ? "none\n" : "\n"));
  co_return;
}

Coro<void> question(MagicContext& c, const MagicLine& line) {
  if (line.arguments.starts_with('%') || line.arguments == "!") {
    const std::string help = magic_help(line.arguments);
    if (help.empty()) usage("there is no magic " + line.arguments + " (%lsmagic lists all)");
    page(c, {{"text/plain", help}});
    co_return;
  }
  const int detail = line.name == "??" ? 1 : 0;
  auto pending = c.kernel.with_interpreter(
      [name = line.arguments, detail](Interpreter& i) { return i.inspect(name, name.size(), detail); });
  const std::map<std::string, std::string> found = co_await pending;
  if (found.empty()) usage("nothing is known about " + line.arguments);
  page(c, found);
}

}  // namespace caller::kernel::magics
