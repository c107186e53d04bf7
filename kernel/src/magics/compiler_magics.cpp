// Magics about code: how long it takes, how it is optimised, and what the compiler and linker are told.
#include <chrono>
#include <cstdio>
#include <ctime>
#include <utility>

#include <caller/caller.hpp>

#include "magics/command.hpp"
#include "magics/functions.hpp"
#include "protocol/words.hpp"
#include "session/kernel.hpp"

namespace caller::kernel::magics {
namespace {

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

std::string join(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& w : words) out += (out.empty() ? "" : " ") + w;
  return out;
}

// A word as a shell would need it.
std::string quoted(const std::string& word) {
  std::string out = "'";
  for (const char c : word)
    if (c == '\'')
      out += "'\\''";
    else
      out += c;
  out += '\'';
  return out;
}

// What a command prints, and its exit code.
struct Printed {
  int code = 0;
  std::string out, err;
};

Coro<Printed> output_of(std::string text) {
  auto run = Caller::current().to_thread([text = std::move(text)](std::stop_token stop) {
    Printed p;
    p.code = run_command(text, [&](int fd, std::string_view bytes) { (fd == 1 ? p.out : p.err) += bytes; }, stop);
    return p;
  });
  co_return co_await run;
}

}  // namespace

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
  auto pending = c.kernel.with_interpreter([dir = line.arguments](Interpreter& i) { i.add_include_path(dir); });
  co_await pending;
}

Coro<void> lib(MagicContext& c, const MagicLine& line) {
  if (line.arguments.empty()) usage("%lib needs the name of a library");
  auto pending = c.kernel.with_interpreter([name = line.arguments](Interpreter& i) { i.load_library(name); });
  co_await pending;
}

Coro<void> opt(MagicContext& c, const MagicLine& line) {
  const std::string& level = line.arguments;
  if (level.size() != 1 || level[0] < '0' || level[0] > '3') usage("%opt needs a level from 0 to 3");
  c.optimisation = level[0] - '0';
  if (line.whole_cell) c.code = "\n" + line.body;
  co_return;
}

Coro<void> cxxflags(MagicContext& c, const MagicLine& line) {
  if (line.arguments.empty()) {
    auto pending = c.kernel.with_interpreter([](Interpreter& i) { return i.flags(); });
    const std::vector<std::string> flags = co_await pending;
    print(c, flags.empty() ? "No flags were added.\n" : join(flags) + "\n");
    co_return;
  }
  auto pending = c.kernel.with_interpreter(
      [flags = split_words(line.arguments)](Interpreter& i) { return i.add_flags(flags, false); });
  const std::vector<std::string> unused = co_await pending;
  if (!unused.empty()) print(c, "of no use in a running process: " + join(unused) + "\n");
}

Coro<void> pkg_config(MagicContext& c, const MagicLine& line) {
  const std::vector<std::string> names = split_words(line.arguments);
  if (names.empty()) usage("%pkg_config needs the name of a package");
  std::string ask = "pkg-config --cflags --libs --";
  for (const auto& name : names) ask.append(" ").append(quoted(name));
  Printed found = co_await output_of(ask);
  if (found.code == 127) usage("%pkg_config: the program pkg-config is not installed");
  if (found.code != 0) {
    Printed path =
        co_await output_of("echo \"${PKG_CONFIG_PATH:+$PKG_CONFIG_PATH:}$(pkg-config --variable pc_path pkg-config)\"");
    usage("%pkg_config " + line.arguments + ": " + found.err + "looked in " + path.out);
  }
  const std::vector<std::string> flags = split_words(found.out);
  auto pending = c.kernel.with_interpreter([flags](Interpreter& i) { return i.add_flags(flags, true); });
  const std::vector<std::string> unused = co_await pending;
  print(c, join(flags) + "\n");
  if (!unused.empty()) print(c, "not applied: " + join(unused) + "\n");
}

}  // namespace caller::kernel::magics
