#include "jit_tasks/jit_tasks.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <stdexcept>
#include <utility>
#include <variant>
#include <vector>

#include <caller/caller.hpp>

#include "interpreter/colour.hpp"
#include "interpreter/faults.hpp"
#include "interpreter/interpreter.hpp"
#include "jit_tasks/cell_guard.hpp"
#include "jit_tasks/known_sources.hpp"
#include "jit_tasks/source_json.hpp"

namespace caller::kernel {
namespace {

using nlohmann::json;
using task::App;

// A name of an exception as later cells write it.
std::string without_cells(const std::string& text) {
  static const std::regex space("__cell_[0-9]+::");
  return std::regex_replace(text, space, "");
}

std::string raw_literal(const std::string& text) {
  std::string mark = "json";
  while (text.find(")" + mark + "\"") != std::string::npos) mark += '_';
  return "R\"" + mark + "(" + text + ")" + mark + "\"";
}

}  // namespace

class JitTasks::Session : public faults::Host {
public:
  explicit Session(Options with) : options(std::move(with)) {
    faults::install(this, STDERR_FILENO);
    guard_cell_tasks();
  }
  ~Session() override {
    for (const std::string& id : shared) task::detail::share_app(id, nullptr);
    cells.clear();
    interpreter.reset();
    faults::install(nullptr, STDERR_FILENO);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  std::shared_ptr<void> origin() override { return nullptr; }
  void thread_failed(const std::shared_ptr<void>&, const std::exception_ptr& error) noexcept override {
    try {
      log("a thread that a task had started was ended: " + task::ExceptionRecord::of(error).message);
    } catch (const std::exception&) {
    }
  }
  void dying(const std::string&) noexcept override {}  // the log has it

  void log(const std::string& line) const {
    if (options.log) options.log(line);
  }

  Interpreter& language() {
    if (!interpreter) {
      InterpreterOptions with = options.interpreter;
      if (!with.log) with.log = options.log;
      with.function_given = [this](const std::string& key, const FunctionSource& source) {
        if (registering)
          task::detail::keep_source(key, {registering->name, registering->hash, source_to_json(*registering), wanted});
        else
          keep_source(key, source);
      };
      interpreter = make_clang_interpreter(std::move(with));
    }
    return *interpreter;
  }

  /// Compiles one cell and runs its initialisers; `registers`: it gives that function to `app.task`.
  void run(const std::string& id, const SourceCell& text, const FunctionSource* registers) {
    registering = registers;
    wanted = id;
    CompileOptions how;
    how.number = text.number;
    how.show_result = false;
    auto compiled = language().compile(text.text, how);
    if (auto* error = std::get_if<CellError>(&compiled)) {
      std::string words = "task " + id + " cannot be compiled here: " + error->ename + ": " + error->evalue;
      for (const std::string& line : error->traceback) words += "\n" + without_colour(line);
      throw task::UnknownTaskError(id, words);
    }
    cells.push_back(std::get<CompiledCell>(std::move(compiled)));
    const CompiledCell& cell = cells.back();
    if (!cell.warnings.empty()) log(without_colour(cell.warnings));
    for (const Segment& segment : cell.segments) {
      if (segment.run)
        faults::guarded(segment.run);
      else
        call_async_from_sync(segment.start);
    }
  }

  void take_flags(const std::vector<std::string>& flags) {
    std::vector<std::string> fresh;
    for (const std::string& f : flags)
      if (std::find(taken.begin(), taken.end(), f) == taken.end()) fresh.push_back(f);
    if (fresh.empty()) return;
    for (const std::string& f : language().add_flags(fresh, /*lenient=*/true))
      log("the flag " + f + " of a notebook means nothing here");
    taken.insert(taken.end(), fresh.begin(), fresh.end());
  }

  const Options options;
  std::mutex mutex;
  std::unique_ptr<Interpreter> interpreter;
  std::vector<CompiledCell> cells;
  std::vector<std::string> shared;              // applications
  std::vector<std::string> taken;               // flags
  const FunctionSource* registering = nullptr;  // by the cell that is compiled, as the task `wanted`; null: none
  std::string wanted;
};

JitTasks::JitTasks(Options options) : session_(std::make_unique<Session>(std::move(options))) {}
JitTasks::~JitTasks() = default;

void JitTasks::find(const App& app, const std::string& task_id) {
  const std::optional<std::string> stored = task::detail::stored_source(app.store(), task_id);
  if (!stored) return;
  Session& session = *session_;
  const std::lock_guard lock(session.mutex);
  const auto begin = std::chrono::steady_clock::now();
  FunctionSource source;
  std::string options, retry_for;
  try {
    source = source_from_json(*stored);
    const json document = json::parse(*stored).at("options");
    options = document.dump();
    for (const json& name : document.at("retry_for"))
      retry_for += (retry_for.empty() ? "" : ", ") + without_cells(name.get<std::string>());
  } catch (const std::exception& e) {
    throw task::UnknownTaskError(task_id, "the source of task " + task_id + " in the store: " + e.what());
  }
  session.take_flags(source.flags);
  const task::detail::AppPtr core = app.core();
  task::detail::share_app(app.app_id(), core);
  session.shared.push_back(app.app_id());
  session.language().reset();  // what other functions' cells have declared
  for (const SourceCell& cell : source.cells) session.run(task_id, cell, nullptr);
  char address[32];
  std::snprintf(address, sizeof address, "%p", static_cast<const void*>(&core));
  SourceCell registering;
  registering.text =
      "#include <caller/task/all.hpp>\n{ const ::caller::task::App caller_app(*reinterpret_cast<const "
      "::caller::task::detail::AppPtr*>(" +
      std::string(address) +
      "));\n::caller::task::TaskOptions caller_options = "
      "::caller::task::detail::options_from_json(" +
      raw_literal(options) + ");\n" +
      (retry_for.empty() ? "" : "caller_options.retry_for = ::caller::task::errors<" + retry_for + ">();\n") +
      "(void)caller_app.task(" + source.name + ", std::move(caller_options)); }\n";
  session.run(task_id, registering, &source);
  const auto took =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin).count();
  session.log("compiled " + task_id + " in " + std::to_string(took) + " ms");
}

}  // namespace caller::kernel
