// A session of cells for tests: compiles, runs, and keeps what was shown.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <caller/all.hpp>
#include <caller/kernel/display_host.hpp>

#include "interpreter/factory.hpp"
#include "interpreter/interrupt.hpp"

namespace caller::kernel::test {

class Cells final : DisplayHost {
public:
  explicit Cells(InterpreterOptions options = {}) {
    options.warm_up = false;  // each test is a process of its own: none lives long enough to gain from it
    set_display_host(this);
    if (!options.log) options.log = [this](const std::string& line) { log += line + "\n"; };
    language = make_clang_interpreter(std::move(options));
  }
  ~Cells() override { set_display_host(nullptr); }

  /// What running a cell gave: `ename: evalue` of an error, else the text of the results, one per line.
  std::string operator()(const std::string& code, bool show_result = true) {
    shown.clear();
    error = {};
    CompileOptions options;
    options.number = ++number;
    options.show_result = show_result;
    auto compiled = language->compile(code, options);
    if (auto* e = std::get_if<CellError>(&compiled)) {
      error = *e;
      return error.ename + ": " + error.evalue;
    }
    auto& cell = std::get<CompiledCell>(compiled);
    warnings = cell.warnings;
    try {
      for (auto& s : cell.segments) {
        if (s.run) {
          interrupt::Scope scope;
          s.run();
        } else {
          await(s.start());
        }
      }
    } catch (...) {
      error = language->describe_current_exception(number);
      return error.ename + ": " + error.evalue;
    }
    return shown;
  }

  std::string traceback() const {
    std::string out;
    for (const auto& l : error.traceback) out += l + "\n";
    return out;
  }

  std::unique_ptr<Interpreter> language;
  CellError error;
  std::string shown, warnings, log;
  std::vector<MimeBundle> bundles, metadatas;
  std::vector<std::string> displays;
  std::string answer;
  int number = 0;

private:
  static void await(Coro<void> work) {
    call_async_from_sync([w = std::move(work)]() mutable -> Coro<void> { co_await std::move(w); });
  }

  void result(const MimeBundle& data, const MimeBundle& metadata) override {
    bundles.push_back(data);
    metadatas.push_back(metadata);
    if (!shown.empty()) shown += "\n";
    shown += data.at("text/plain");
  }
  void display(const MimeBundle& data, const MimeBundle& metadata, const std::string& id, bool update) override {
    bundles.push_back(data);
    metadatas.push_back(metadata);
    displays.push_back((update ? "update " : "display ") + id + ": " + data.at("text/plain"));
  }
  void clear_output(bool wait) override { displays.push_back(wait ? "clear later" : "clear"); }
  std::string input(const std::string& prompt, bool password) override { return prompt + (password ? "***" : answer); }
};

}  // namespace caller::kernel::test
