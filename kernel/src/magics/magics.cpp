#include "magics/magics.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <map>
#include <numeric>
#include <sstream>

#include <caller/caller.hpp>

#include "magics/command.hpp"
#include "protocol/error.hpp"
#include "session/kernel.hpp"
#include "session/shell.hpp"

extern char** environ;

namespace caller::kernel {
namespace {

using Function = Coro<void> (*)(MagicContext&, const MagicLine&);

struct Magic {
  Function line = nullptr;  // %name
  Function cell = nullptr;  // %%name
  const char* help = "";
};
const std::map<std::string, Magic>& table();

[[noreturn]] void usage(const std::string& text) { throw KernelError(KernelErrc::magic, text); }

void print(MagicContext& c, const std::string& text) {
  c.kernel.session().iopub().stream(c.work->request, StreamName::out, text);
}

// Columns padded to their widest entry; widths in characters of ASCII text.
std::string format_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i == widths.size()) widths.push_back(0);
      widths[i] = std::max(widths[i], row[i].size());
    }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) line += row[i] + std::string(widths[i] - row[i].size() + 2, ' ');
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

Coro<void> lsmagic(MagicContext& c, const MagicLine&) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, magic] : table()) {
    if (magic.line) rows.push_back({(name == "!" || name[0] == '?' ? "" : "%") + name, magic.help});
    if (magic.cell) rows.push_back({"%%" + name, magic.help});
  }
  print(c, format_table(rows));
  co_return;
}

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
  std::string target = line.arguments;
  const char* home = std::getenv("HOME");
  if (target.empty() || target == "~" || target.starts_with("~/"))
    target = (home ? home : "/") + (target.empty() ? "" : target.substr(1));
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

std::string duration(double seconds) {
  char text[64];
  if (seconds >= 1)
    std::snprintf(text, sizeof text, "%.3g s", seconds);
  else if (seconds >= 1e-3)
    std::snprintf(text, sizeof text, "%.3g ms", seconds * 1e3);
  else if (seconds >= 1e-6)
    std::snprintf(text, sizeof text, "%.3g us", seconds * 1e6);
  else
    std::snprintf(text, sizeof text, "%.3g ns", seconds * 1e9);
  return text;
}

Coro<void> time_code(MagicContext& c, const MagicLine& line) {
  std::string code = line.whole_cell ? line.body : line.arguments;
  if (code.empty()) code = std::exchange(c.code, "");
  const auto wall = std::chrono::steady_clock::now();
  const std::clock_t cpu = std::clock();
  co_await c.run_code(std::move(code), true);
  const double processor = static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC;
  const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - wall).count();
  print(c, "CPU time: " + duration(processor) + ", wall time: " + duration(elapsed) + " (compiling included)\n");
}

Coro<void> timeit(MagicContext& c, const MagicLine& line) {
  std::string code = line.whole_cell ? line.body : line.arguments;
  if (code.empty()) code = std::exchange(c.code, "");
  // The loop is C++ too, so that only the code itself is measured: the best of five runs of at least 50 ms.
  std::string text =
      "#include <chrono>\n#include <cstdio>\n{ double caller_best_ = 1e300; long caller_n_ = 1;\n"
      "for (int caller_run_ = 0; caller_run_ < 5;) { auto caller_t_ = std::chrono::steady_clock::now();\n"
      "for (long caller_i_ = 0; caller_i_ < caller_n_; ++caller_i_) {\n" +
      code +
      ";\n}\n"
      "double caller_s_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - caller_t_).count();\n"
      "if (caller_s_ < 0.05 && caller_n_ < 1000000000) { caller_n_ *= 10; continue; }\n"
      "if (caller_s_ / caller_n_ < caller_best_) caller_best_ = caller_s_ / caller_n_; ++caller_run_; }\n"
      "std::printf(\"%.4g ns per loop (best of 5 runs, %ld loops each)\\n\", caller_best_ * 1e9, caller_n_); }\n";
  co_await c.run_code(std::move(text), false);
}

Coro<void> include_path(MagicContext& c, const MagicLine& line) {
  if (line.arguments.empty()) usage("%include_path needs a folder");
  co_await c.kernel.with_interpreter([dir = line.arguments](Interpreter& i) { i.add_include_path(dir); });
}

Coro<void> lib(MagicContext& c, const MagicLine& line) {
  if (line.arguments.empty()) usage("%lib needs the name of a library");
  co_await c.kernel.with_interpreter([name = line.arguments](Interpreter& i) { i.load_library(name); });
}

Coro<void> opt(MagicContext& c, const MagicLine& line) {
  const std::string& level = line.arguments;
  if (level.size() != 1 || level[0] < '0' || level[0] > '3') usage("%opt needs a level from 0 to 3");
  c.optimisation = level[0] - '0';
  if (line.whole_cell) c.code = "\n" + line.body;
  co_return;
}

Coro<void> connect_info(MagicContext& c, const MagicLine&) {
  const ConnectionInfo& i = c.kernel.session().connection();
  json info = {{"transport", i.transport},
               {"ip", i.ip},
               {"shell_port", i.shell_port},
               {"control_port", i.control_port},
               {"stdin_port", i.stdin_port},
               {"iopub_port", i.iopub_port},
               {"hb_port", i.hb_port},
               {"signature_scheme", i.signature_scheme},
               {"key", i.key}};
  print(c, info.dump(2) + "\n");
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
  const int detail = line.name == "??" ? 1 : 0;
  auto pending = c.kernel.with_interpreter(
      [name = line.arguments, detail](Interpreter& i) { return i.inspect(name, name.size(), detail); });
  const std::map<std::string, std::string> found = co_await pending;
  if (found.empty()) usage("nothing is known about " + line.arguments);
  const std::lock_guard lock(c.work->mutex);
  c.work->payload.push_back({{"source", "page"}, {"data", found}, {"start", 0}});
}

Coro<void> load(MagicContext& c, const MagicLine& line) {
  std::error_code error;
  const auto size = std::filesystem::file_size(line.arguments, error);
  std::FILE* file = error ? nullptr : std::fopen(line.arguments.c_str(), "re");
  if (!file) usage("%load " + line.arguments + ": cannot be read");
  std::string text(size, '\0');
  text.resize(std::fread(text.data(), 1, size, file));
  std::fclose(file);
  const std::lock_guard lock(c.work->mutex);
  c.work->payload.push_back(
      {{"source", "set_next_input"}, {"text", "// %load " + line.arguments + "\n" + text}, {"replace", true}});
  co_return;
}

const std::map<std::string, Magic>& table() {
  static const std::map<std::string, Magic> magics = {
      {"!", {command, nullptr, "run a shell command"}},
      {"?", {question, nullptr, "what is known about a name"}},
      {"??", {question, nullptr, "the same with its source"}},
      {"bash", {nullptr, command, "run the cell as a shell script"}},
      {"callers", {callers, nullptr, "all Callers of the process"}},
      {"cd", {cd, nullptr, "change the working folder"}},
      {"connect_info", {connect_info, nullptr, "how to connect another client"}},
      {"env", {env, nullptr, "show or set environment variables"}},
      {"include_path", {include_path, nullptr, "add a folder for includes"}},
      {"lib", {lib, nullptr, "load a shared library"}},
      {"load", {load, nullptr, "put a file into the cell"}},
      {"lsmagic", {lsmagic, nullptr, "this list"}},
      {"opt", {opt, opt, "optimise the cell at level 0 to 3"}},
      {"pwd", {pwd, nullptr, "the working folder"}},
      {"subshell", {subshell, nullptr, "this cell's subshell, and all of them"}},
      {"time", {time_code, time_code, "run code once and show how long it took"}},
      {"timeit", {timeit, timeit, "run code many times and show the best time"}},
      {"who", {who, nullptr, "what the cells have defined"}},
  };
  return magics;
}

// Edit distance, for suggestions.
std::size_t distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substitute = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row.back();
}

[[noreturn]] void unknown(const MagicLine& line) {
  std::vector<std::pair<std::size_t, std::string>> near;
  for (const auto& [name, magic] : table())
    if ((line.whole_cell ? magic.cell : magic.line) && std::isalpha(static_cast<unsigned char>(name[0])))
      near.emplace_back(distance(line.name, name), name);
  std::sort(near.begin(), near.end());
  const std::string sign = line.whole_cell ? "%%" : "%";
  std::string text = "there is no magic " + sign + line.name + "; the nearest are";
  for (std::size_t i = 0; i < std::min<std::size_t>(3, near.size()); ++i)
    text += (i ? ", " : " ") + sign + near[i].second;
  usage(text + " (%lsmagic lists all)");
}

}  // namespace

Coro<void> run_magic(MagicContext& context, const MagicLine& line) {
  const auto it = table().find(line.name);
  const Function function = it == table().end() ? nullptr : line.whole_cell ? it->second.cell : it->second.line;
  if (!function) unknown(line);
  return function(context, line);
}

std::vector<std::string> magic_names() {
  std::vector<std::string> out;
  for (const auto& [name, magic] : table()) {
    if (!std::isalpha(static_cast<unsigned char>(name[0]))) continue;
    if (magic.line) out.push_back("%" + name);
    if (magic.cell) out.push_back("%%" + name);
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace caller::kernel
