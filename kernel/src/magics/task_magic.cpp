#include "magics/task_magic.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <utility>
#include <variant>
#include <vector>

#include <caller/caller.hpp>
#include <caller/error.hpp>
#include <caller/kernel/display.hpp>

#include "magics/functions.hpp"
#include "magics/long_options.hpp"
#include "magics/nearest.hpp"
#include "magics/task_progress.hpp"
#include "magics/task_run.hpp"
#include "session/kernel.hpp"

namespace caller::kernel::magics {
namespace {

struct Options {
  TaskSession::Place place{"notebook", {}, {}};
  std::string runner = "thread", name;
  int retries = 0, priority = 0;
  std::chrono::milliseconds timeout{0};
};

const std::vector<std::string>& runners() {
  static const std::vector<std::string> names{"thread", "sync"};
  return names;
}

const std::vector<std::string>& option_names() {
  static const std::vector<std::string> names{"--app",    "--name",   "--priority", "--retries",
                                              "--runner", "--sqlite", "--timeout",  "--url"};
  return names;
}

int whole(const std::string& option, const std::string& text, int least) {
  int n = 0;
  const auto [end, wrong] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (wrong != std::errc() || end != text.data() + text.size() || n < least)
    usage("%%task " + option + " needs a number" + (least == 0 ? ", 0 or more" : "") + ", found \"" + text + "\"");
  return n;
}

std::chrono::milliseconds seconds(const std::string& option, const std::string& text) {
  double s = 0;
  const auto [end, wrong] = std::from_chars(text.data(), text.data() + text.size(), s);
  if (wrong != std::errc() || end != text.data() + text.size() || !(s > 0 && s < 1e6))
    usage("%%task " + option + " needs seconds, more than 0, found \"" + text + "\"");
  return std::chrono::milliseconds(static_cast<std::int64_t>(std::ceil(s * 1000)));
}

Options read_options(const MagicLine& line) {
  LongOptions given(line, "%%task");
  Options out;
  while (given.next()) {
    const std::string& option = given.word();
    if (!option.starts_with("-"))
      usage("%%task takes options only, found \"" + option + "\": the code begins in the next line");
    const auto& names = option_names();
    if (std::find(names.begin(), names.end(), option) == names.end()) {
      const std::string near = nearest_word(option, names);
      usage("%%task has no option " + option + (near.empty() ? "" : "; did you mean " + near + "?") + " There are " +
            joined(names));
    }
    const std::string value = given.value().value_or("");
    if (value.empty()) usage("%%task " + option + " needs a value");
    if (option == "--runner") {
      out.runner = value;
      if (std::find(runners().begin(), runners().end(), value) == runners().end()) {
        const std::string near = nearest_word(value, runners());
        usage("%%task --runner: there is no runner \"" + value + "\"" +
              (near.empty() ? "" : "; did you mean \"" + near + "\"?") + " There are " + joined(runners()));
      }
    } else if (option == "--app") {
      out.place.app = value;
    } else if (option == "--sqlite") {
      out.place.sqlite = expand_home(value);
    } else if (option == "--url") {
      out.place.url = value;
    } else if (option == "--name") {
      out.name = value;
    } else if (option == "--retries") {
      out.retries = whole(option, value, 0);
    } else if (option == "--priority") {
      out.priority = whole(option, value, -1'000'000);
    } else {
      out.timeout = seconds(option, value);
    }
  }
  if (!out.place.sqlite.empty() && !out.place.url.empty()) usage("%%task: --sqlite or --url, not both");
  return out;
}

/// The body, compiled with the cell's own line numbers; nothing: it does not compile, and the cell has failed.
Coro<std::optional<CompiledCell>> compile(MagicContext& c, std::string code) {
  CompileOptions options;
  options.number = c.work->number;
  auto compiled = co_await c.kernel.compile(std::move(code), std::move(options));
  std::optional<CompiledCell> out;
  if (auto* error = std::get_if<CellError>(&compiled))
    c.fail(std::move(*error));
  else
    out = std::get<CompiledCell>(std::move(compiled));
  co_return out;
}

task::detail::DefinitionPtr define(const task::App& app, const Options& options, const std::string& queue,
                                   const std::shared_ptr<TaskRun>& run) {
  auto definition = std::make_shared<task::detail::TaskDefinition>();
  definition->id = options.name;
  definition->replaces = true;
  definition->options.queue = queue;
  definition->options.priority = options.priority;
  definition->options.timeout = options.timeout;
  definition->options.max_retries = options.retries;
  if (options.retries > 0)
    definition->options.retry_for = {{"any", [](const std::exception_ptr& error) {
                                        try {
                                          std::rethrow_exception(error);
                                        } catch (const Interrupted&) {
                                          return false;
                                        } catch (...) {
                                          return true;
                                        }
                                      }}};
  definition->plain = [run](task::Format format, std::string_view, std::stop_token stop) {
    // A time-out and a cancellation from elsewhere end it, too.
    const std::stop_callback broken(stop, [run] { run->break_off(); });
    return task::to_bytes(format, run->execute());
  };
  task::detail::add_task(*app.core(), definition);
  return definition;
}

/// Waits for the end of the invocation, also when the cell is stopped meanwhile: that ends it.
Coro<void> wait_for(const task::App& app, const std::shared_ptr<TaskRun>& run, const std::string& id) {
  const Pending<void> ended = app.store().ended(id);
  bool stopped = false;
  try {
    co_await ended.async_wait_done({.protect = true});
  } catch (const PendingCancelled&) {
    stopped = true;
  }
  if (!stopped) co_return;
  const Pending<bool> told = app.store().cancel(id);
  run->break_off();
  co_await told.async_wait_done({.protect = true, .shield = true});
  co_await ended.async_wait_done({.protect = true, .shield = true});
}

std::string result_text(const json& data) {
  const auto it = data.find("text/plain");
  return it != data.end() && it->is_string() ? it->get<std::string>() : std::string();
}

void show(const Capture& result) {
  if (!result.filled) return;
  MimeBundle data, metadata;
  for (const auto& [type, value] : result.data.items())
    data[type] = value.is_string() ? value.get<std::string>() : value.dump();
  for (const auto& [type, value] : result.metadata.items()) metadata[type] = value.dump();
  if (data.empty()) data["text/plain"] = result_text(result.data);
  kernel::detail::publish_result(data, metadata);
}

}  // namespace

Coro<void> run_task(MagicContext& c, const MagicLine& line) {
  Options options = read_options(line);
  if (line.body.find_first_not_of(" \t\r\n") == std::string::npos)
    usage("%%task needs code: C++ in the lines below it");
  if (options.name.empty()) options.name = "cell[" + std::to_string(c.work->number) + "]";
  TaskSession& session = task_session(c.kernel);
  const task::App lives = session.app(options.place);

  std::optional<CompiledCell> compiled =
      co_await compile(c, std::string(static_cast<std::size_t>(line.line), '\n') + line.body);
  if (!compiled) co_return;
  if (!compiled->warnings.empty()) c.kernel.session().write(StreamName::err, compiled->warnings);

  // Its result is shown in the end, whatever thread has computed it.
  const auto work = std::make_shared<Work>();
  work->request = c.work->request;
  work->number = c.work->number;
  work->silent = c.work->silent;
  const bool here = options.runner == "sync";
  const auto run = std::make_shared<TaskRun>(c.active, work, std::move(*compiled), !here);
  const task::App app = here ? task::App(task::detail::inline_app(lives.core())) : lives;
  const auto definition = define(app, options, here ? session.queue() + ", here" : session.queue(), run);
  if (!here) session.serve(app);

  const auto progress =
      std::make_shared<TaskProgress>(app, options.name + " of " + app.app_id() + ", " + options.runner, run);
  Pending<void> looking = c.kernel.control().call_soon([progress] { return TaskProgress::keep_looking(progress); });
  struct StopLooking {
    Pending<void>& looking;
    ~StopLooking() { looking.cancel(); }
  } const stop_looking{looking};

  std::vector<task::detail::CallBytes> calls(1);
  {
    task::Writer writer(app.conf().format, &calls[0].args);
    writer.map(0);
  }
  std::string id;
  {
    std::optional<Interrupts::Plain> interruptible;  // here it executes before the call returns
    if (here) interruptible.emplace(c.active->thread);
    id = task::detail::route_now(app.core(), definition, calls).front().id;
  }
  progress->follow(id);
  if (!here) co_await wait_for(app, run, id);
  looking.cancel();
  const Pending<void> last = c.kernel.control().call_soon([progress] { return progress->look(true); });
  (void)co_await last.async_wait_done({.protect = true, .shield = true});

  if (run->stopped()) throw PendingCancelled("the cell was stopped");
  const Pending<task::InvocationRecord> asked = app.store().get(id);
  const task::InvocationRecord record = co_await asked;
  if (record.status == task::Status::success) {
    show(*work->capture);
    co_return;
  }
  if (record.status == task::Status::failed) {
    const task::ExceptionRecord failure = task::ExceptionRecord::from_json(record.exception);
    // The exception itself has the lines of the cell; a time-out is none of the code's.
    if (const std::exception_ptr thrown = run->error(); thrown && failure.type != "TaskTimeoutError")
      std::rethrow_exception(thrown);
    failure.rethrow();
  }
  throw task::InvocationCancelledError(id);
}

}  // namespace caller::kernel::magics
