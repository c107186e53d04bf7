// A language for tests of the kernel's protocol: one command a line, no compiler.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>

#include <caller/all.hpp>
#include <caller/kernel/display.hpp>
#include <caller/kernel/interrupted.hpp>

#include "interpreter/interpreter.hpp"
#include "interpreter/interrupt.hpp"

namespace caller::kernel::fake {

/// Commands: `print T`, `error T`, `printf T`, `write T`, `result T`, `display T`, `throw T`, `await MS`, `awaitspin`,
/// `spin`, `count N`, `ask PROMPT`, `getline`, `later MS T` (printed by a task after the cell), `thread T` (printed by
/// a raw thread), `compile MS` (compiling takes that long), `bad T` (does not compile), `warn T`.
class FakeInterpreter final : public Interpreter {
public:
  std::variant<CompiledCell, CellError> compile(const std::string& code, const CompileOptions&) override {
    CompiledCell cell;
    std::istringstream lines(code);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string command, rest;
      words >> command;
      std::getline(words >> std::ws, rest);
      if (command.empty() || command.starts_with("//")) continue;
      if (command == "compile") std::this_thread::sleep_for(std::chrono::milliseconds(std::stoi(rest)));
      if (command == "bad") return CellError{"CompileError", rest, {"CompileError", rest}};
      if (command == "warn") cell.warnings += rest + "\n";
      if (command == "await")
        cell.segments.push_back({nullptr, [rest]() -> Coro<void> { return await(std::stoi(rest)); }});
      else if (command == "awaitspin")
        cell.segments.push_back({nullptr, []() -> Coro<void> { return await_then_spin(); }});
      else
        cell.segments.push_back({[command, rest] { run(command, rest); }, nullptr});
    }
    return cell;
  }

  CellError describe_current_exception(int) override {
    try {
      throw;
    } catch (const Interrupted&) {
      return {"Interrupted", "interrupted", {"Interrupted"}};
    } catch (const std::exception& e) {
      return {"Exception", e.what(), {"Exception", e.what()}};
    } catch (...) {
      return {"Unknown", "", {"Unknown"}};
    }
  }

  Completions complete(const std::string& code, std::size_t cursor) override {
    if (code.find("throw") != std::string::npos) throw std::runtime_error("completion failed");
    std::size_t start = cursor;
    while (start > 0 && std::isalnum(static_cast<unsigned char>(code[start - 1]))) --start;
    return {{{code.substr(start, cursor - start) + "_done", "function", "()"}}, start, cursor};
  }
  std::map<std::string, std::string> inspect(const std::string& code, std::size_t, int detail) override {
    if (code.find("known") == std::string::npos) return {};
    return {{"text/plain", detail ? "known, with source" : "known"}};
  }
  Completeness is_complete(const std::string& code) override {
    if (code.ends_with("{")) return {Completeness::Status::incomplete, "  "};
    return {Completeness::Status::complete, ""};
  }
  void add_include_path(const std::string&) override {}
  void load_library(const std::string& name) override { throw std::runtime_error("no library " + name); }
  std::vector<std::string> add_flags(const std::vector<std::string>&, bool) override { return {}; }
  std::vector<std::string> flags() override { return {}; }
  void reset() override {}
  std::vector<Symbol> symbols() override { return {{"x", "variable", "int"}}; }

private:
  static Coro<void> await(int ms) { co_await sleep_for(std::chrono::milliseconds(ms)); }
  static Coro<void> await_then_spin() {
    co_await sleep_for(std::chrono::milliseconds(1));
    for (;;) interrupt::check();
  }
  static void run(const std::string& command, const std::string& rest) {
    if (command == "print") std::cout << rest << std::endl;
    if (command == "error") std::cerr << rest << std::endl;
    if (command == "printf") std::printf("%s\n", rest.c_str());
    if (command == "write" && ::write(1, (rest + "\n").data(), rest.size() + 1) < 0) std::abort();
    if (command == "result") detail::publish_result({{"text/plain", rest}}, {});
    if (command == "display") caller::display(html{rest});
    if (command == "throw") throw std::runtime_error(rest);
    if (command == "spin")
      for (;;) interrupt::check();
    if (command == "hang")
      for (;;) ::pause();
    if (command == "sleep") std::this_thread::sleep_for(std::chrono::milliseconds(std::stoi(rest)));
    if (command == "count")
      for (int i = 0; i < std::stoi(rest); ++i) std::cout << i << '\n';
    if (command == "ask") std::cout << "got " << caller::input(rest) << std::endl;
    if (command == "getline") {
      std::string line;
      std::getline(std::cin, line);
      std::cout << "line " << line << std::endl;
    }
    if (command == "later") {
      const int ms = std::stoi(rest);
      (void)Caller::current().call_later(std::chrono::milliseconds(ms),
                                         [rest] { std::cout << "late " << rest << std::endl; });
    }
    if (command == "thread") std::thread([rest] { std::cout << rest << std::endl; }).join();
  }
};

}  // namespace caller::kernel::fake
