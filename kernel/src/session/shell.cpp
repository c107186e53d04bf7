#include "session/shell.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>
#include <vector>

#include <caller/error.hpp>

#include "interpreter/faults.hpp"
#include "magics/magics.hpp"
#include "magics/split.hpp"
#include "protocol/error.hpp"
#include "protocol/log.hpp"

namespace caller::kernel {
namespace {

constexpr int kDeepestRun = 16;

// The lane of the queued cells; its identity is its type and value.
enum class Lane { cells };

Backend backend_of(const std::string& name) {
  for (const Backend backend : {Backend::asio, Backend::manual, Backend::uv})
    if (name == to_string(backend)) return backend;
  throw KernelError(KernelErrc::magic, "there is no backend " + name);
}

Coro<void> nothing() { co_return; }

void publish_error(Session& session, const Request& request, const CellError& error) {
  session.iopub().publish("error", request,
                          {{"ename", error.ename}, {"evalue", error.evalue}, {"traceback", error.traceback}});
}

}  // namespace

void Shell::submit(Request request) {
  CellRequest cell = read_cell(request->content, request->metadata);
  // Whatever drops the call before it runs (a subshell that is deleted, the end of the kernel) answers the request.
  auto ticket = std::make_shared<Ticket>(shared_from_this(), request);
  const auto waiting = ticket;
  auto job = [self = shared_from_this(), ticket = std::move(ticket)](Request r, CellRequest c) {
    return ticket->take() ? self->execute(std::move(r), std::move(c)) : nothing();
  };
  try {
    switch (cell.mode) {
      case RunMode::queue:
        (void)caller_.queue_call(Lane::cells, std::move(job), request, std::move(cell));
        break;
      case RunMode::task:
        (void)caller_.call_soon(std::move(job), request, std::move(cell));
        break;
      case RunMode::thread:
        if (cell.thread_name.empty() && cell.backend.empty()) {
          (void)caller_.to_thread(std::move(job), request, std::move(cell));
        } else {
          CallerOptions options;
          options.name = cell.thread_name;
          if (!cell.backend.empty()) options.backend = backend_of(cell.backend);
          (void)caller_.get(options).call_soon(std::move(job), request, std::move(cell));
        }
        break;
    }
  } catch (...) {  // a backend that is not there, another backend than the thread of that name has, a stopped Caller
    if (waiting->take()) refuse(request, error_content_of_current());
  }
}

Shell::Ticket::Ticket(std::shared_ptr<Shell> s, Request r) : shell(std::move(s)), request(std::move(r)) {
  const std::lock_guard lock(shell->abort_mutex_);
  shell->waiting_.push_back(this);
}

bool Shell::Ticket::take() {
  const std::lock_guard lock(shell->abort_mutex_);
  const auto at = std::find(shell->waiting_.begin(), shell->waiting_.end(), this);
  if (at == shell->waiting_.end()) return false;
  shell->waiting_.erase(at);
  return true;
}

Shell::Ticket::~Ticket() {
  if (!take()) return;
  try {
    shell->refuse(request, error_content("ShellStopped", "the shell ended before this cell could run",
                                         {"ShellStopped: the shell ended before this cell could run"}));
  } catch (...) {
    log(LogLevel::error, "refusing a cell failed");
  }
}

void Shell::refuse(Request request, json content) {
  RequestScope scope(kernel_.session(), std::move(request));
  publish_error(kernel_.session(), scope.request(), {content["ename"], content["evalue"], content["traceback"]});
  content["execution_count"] = count_.load();
  scope.reply(content);
}

json Shell::aborted() const {
  json content =
      error_content("ExecutionAborted", "an earlier cell failed", {"ExecutionAborted: an earlier cell failed"});
  content["execution_count"] = count_.load();
  return content;
}

void Shell::stop_before(Moment failed) {
  const std::lock_guard lock(abort_mutex_);
  abort_before_ = std::move(failed);
}

// Whoever waits behind a cell that goes on for long is told now, too.
void Shell::abort_waiting() {
  std::vector<Request> refused;
  {
    const std::lock_guard lock(abort_mutex_);
    std::erase_if(waiting_, [&](const Ticket* t) {
      if (!abort_before_.comes_after(*t->request)) return false;
      refused.push_back(t->request);
      return true;
    });
  }
  for (Request& request : refused) RequestScope(kernel_.session(), std::move(request)).reply(aborted());
}

CellError Shell::describe(const std::exception_ptr& error, const Run& run) const {
  try {
    std::rethrow_exception(error);
  } catch (...) {
    return describe_fault(run);
  }
}

CellError Shell::describe_fault(const Run& run) const {
  CellError error = kernel_.describe_current(run.work->number);
  // What leaves the frames of a cell behind does not know why the cell is stopped.
  if (error.ename != "Interrupted" || run.active->stop.load() != ActiveCell::Stop::timeout) return error;
  CellError timed = stop_error(run);
  error.ename = timed.ename;
  error.evalue = timed.evalue;
  for (std::string& line : error.traceback)
    if (line.starts_with("\x1b[") && line.find("mInterrupted\x1b[0m: ") < 8) line = timed.traceback.front();
  return error;
}

CellError Shell::stop_error(const Run& run) const {
  if (run.active->stop.load() == ActiveCell::Stop::timeout) {
    char text[80];
    std::snprintf(text, sizeof text, "the cell was stopped after %g s",
                  std::chrono::duration<double>(*run.cell.timeout).count());
    return {"TimedOut", text, {std::string("\x1b[31mTimedOut\x1b[0m: ") + text}};
  }
  return {"Interrupted", "the cell was interrupted", {"\x1b[31mInterrupted\x1b[0m: the cell was interrupted"}};
}

bool Shell::aborts(const Message& request) {
  const std::lock_guard lock(abort_mutex_);
  return abort_before_.comes_after(request);
}

Coro<void> Shell::execute(Request request, CellRequest cell) {
  Session& session = kernel_.session();
  auto run = std::make_shared<Run>();
  run->cell = std::move(cell);
  const CellRequest& c = run->cell;
  struct Leave {
    Kernel& kernel;
    ActiveCellPtr cell{};
    Pending<void> timer{};
    void now() {
      if (!cell) return;
      timer.cancel();
      kernel.cells().remove(std::exchange(cell, nullptr));
    }
    ~Leave() { now(); }
  } leave{kernel_};
  struct AbortWaiting {  // when this one is answered and idle
    Shell& shell;
    bool due = false;
    ~AbortWaiting() {
      try {
        if (due) shell.abort_waiting();
      } catch (const std::exception& e) {
        log(LogLevel::error, std::string("refusing cells: ") + e.what());
      }
    }
  } abort_waiting{*this};
  const bool is_aborted = aborts(*request);
  const int number = c.store_history && !is_aborted ? ++count_ : count_.load();
  if (!is_aborted) {  // before any client is told that it runs: what stops it then finds it
    std::optional<std::string> lane;
    if (c.mode == RunMode::queue) lane = id_;
    leave.cell = run->active = kernel_.cells().add(
        request, "Cell [" + std::to_string(number) + "]" + (id_.empty() ? "" : ", subshell " + id_.substr(0, 8)),
        std::move(lane));
  }
  RequestScope scope(session, request, [this] { kernel_.settle(); });
  const auto started = utc_now();
  if (is_aborted) {
    scope.reply(aborted());
    co_return;
  }
  run->work = scope.work();
  run->work->silent = c.silent;
  run->work->number = number;
  if (c.store_history) {
    run->work->history_session = history_session_;
    session.history()->store(history_session_, number, field<std::string>(request->content, "code", ""));
  }
  session.set_newest(run->work);
  kernel_.renew_input();
  if (!c.silent)
    session.iopub().publish("execute_input", request,
                            {{"code", field<std::string>(request->content, "code", "")}, {"execution_count", number}});
  if (c.timeout)
    leave.timer = kernel_.control().call_later(
        *c.timeout, [this, active = run->active] { kernel_.cells().stop(active, ActiveCell::Stop::timeout); });

  try {
    // A Pending of its own, so that a stop ends the cell and not the lane that serves it.
    auto pending = Caller::current().call_soon(
        [self = shared_from_this()](RunPtr r) { return self->run_cell(std::move(r)); }, run);
    kernel_.cells().set_run(run->active, pending);
    co_await pending.async_wait_done();
    if (pending.cancelled()) {
      if (!run->error) run->error = std::make_shared<CellError>(stop_error(*run));
    } else if (const auto fault = pending.exception()) {
      // A fault in a coroutine of the cell: what ran the cell is lost with it.
      run->error = std::make_shared<CellError>(describe(fault, *run));
    }
  } catch (...) {  // this very coroutine is cancelled: its shell stops
    if (!run->error) run->error = std::make_shared<CellError>(stop_error(*run));
  }
  leave.now();  // whoever wants to stop something from now on means what comes next

  {
    const std::lock_guard lock(run->work->mutex);
    if (!run->error) run->error = run->work->thread_error;
  }
  json content;
  if (run->error) {
    const CellError& error = *run->error;
    kernel_.settle();
    publish_error(session, request, error);
    content = error_content(error.ename, error.evalue, error.traceback);
    if (c.stop_on_error && !c.raises_exception && !c.silent) {  // nobody has seen a silent one fail
      const bool interrupted = run->active->stop.load() == ActiveCell::Stop::interrupt;
      stop_before(interrupted ? kernel_.cells().asked(*run->active) : Moment::now());
      abort_waiting.due = true;
    }
  } else {
    content = {{"status", "ok"}};
  }
  content["execution_count"] = number;
  content["user_expressions"] = run->error ? json::object() : run->expressions;
  {
    const std::lock_guard lock(run->work->mutex);
    content["payload"] = run->work->payload;
  }
  const json status = content["status"];
  scope.reply(content,
              {{"started", started}, {"dependencies_met", true}, {"engine", session.id()}, {"status", status}});
}

// While a client debugs, the name of the file by which it knows this cell.
std::string Shell::debug_path(const Run& run) const {
  if (!kernel_.debugger().attached()) return {};
  return kernel_.debugger().cell_path(field<std::string>(run.work->request->content, "code", ""));
}

Coro<void> Shell::run_text(RunPtr run, std::string text, int depth) {
  if (depth > kDeepestRun)
    throw KernelError(KernelErrc::magic, "%run within %run, more than " + std::to_string(kDeepestRun) + " deep");
  const SplitCell split = split_magics(text);
  MagicContext magic{kernel_, *this, run->work, run->active, split.code, -1, {}, {}, {}, {}};
  magic.run_code = [this, run](std::string code, bool show) { return run_code(run, std::move(code), show, -1); };
  magic.run_cell = [this, run, depth](const std::string& cell) {
    return run_text(run, read_cell({{"code", cell}}, json::object()).code,
                    depth + 1);  // it runs here, whatever it says
  };
  magic.error = [run] { return run->error.get(); };
  magic.fail = [run](CellError error) { run->error = std::make_shared<CellError>(std::move(error)); };
  for (const MagicLine& line : split.magics) {
    if (run->error) co_return;
    co_await run_magic(magic, line);
  }
  if (run->error || magic.code.find_first_not_of(" \t\r\n") == std::string::npos) co_return;
  std::string path;  // not in the awaiting statement: g++ 12 destroys both sides of a condition there
  if (depth == 0) path = debug_path(*run);
  co_await run_code(run, magic.code, !run->cell.silent, magic.optimisation, std::move(path));
}

Coro<void> Shell::run_cell(RunPtr run) {
  try {
    co_await run_text(run, run->cell.code, 0);
    if (!run->error) co_await user_expressions(run);
  } catch (const KernelError& e) {
    if (run->active->stop.load() != ActiveCell::Stop::none)
      run->error = std::make_shared<CellError>(stop_error(*run));
    else
      run->error = std::make_shared<CellError>(
          CellError{"UsageError", e.what(), {std::string("\x1b[31mUsageError\x1b[0m: ") + e.what()}});
  } catch (...) {
    run->error = std::make_shared<CellError>(run->active->stop.load() != ActiveCell::Stop::none
                                                 ? stop_error(*run)
                                                 : kernel_.describe_current(run->work->number));
  }
}

Coro<void> Shell::run_code(RunPtr run, std::string code, bool show_result, int optimisation, std::string debug_path) {
  CompileOptions options;
  options.debug_path = std::move(debug_path);
  options.number = run->work->number;
  options.show_result = show_result;
  options.optimisation = optimisation;
  auto compiled = co_await kernel_.compile(std::move(code), std::move(options));
  if (auto* error = std::get_if<CellError>(&compiled)) {
    run->error = std::make_shared<CellError>(std::move(*error));
    (void)kernel_.with_interpreter([](Interpreter& i) { i.prepare(); });  // while the user reads
    co_return;
  }
  CompiledCell cell = std::get<CompiledCell>(std::move(compiled));
  if (!cell.debug_objects.empty()) {
    std::vector<debugger::Debugger::Object> objects;
    for (DebugObject& o : cell.debug_objects) objects.push_back({std::move(o.elf), std::move(o.sections)});
    co_await kernel_.debugger().announce(std::move(objects));
  }
  if (!cell.warnings.empty()) kernel_.session().write(StreamName::err, cell.warnings);
  try {
    for (Segment& segment : cell.segments) {
      if (segment.run) {
        const Interrupts::Plain interruptible(run->active->thread);
        if (run->active->stop.load() != ActiveCell::Stop::none) throw PendingCancelled("interrupted");
        faults::guarded(segment.run);
      } else {
        co_await segment.start();
      }
    }
  } catch (const faults::CellFault&) {
    run->error = std::make_shared<CellError>(describe_fault(*run));
  } catch (...) {
    // What is thrown after a stop is the stop, whatever shape it took on its way.
    run->error = std::make_shared<CellError>(run->active->stop.load() != ActiveCell::Stop::none
                                                 ? stop_error(*run)
                                                 : kernel_.describe_current(run->work->number));
  }
}

Coro<void> Shell::user_expressions(RunPtr run) {
  const json wanted = field<json>(run->work->request->content, "user_expressions", json::object());
  if (!wanted.is_object()) co_return;
  for (auto it = wanted.begin(); it != wanted.end(); ++it) {
    json result = error_content("TypeError", "a user expression must be text");
    if (it->is_string()) result = co_await user_expression(run, it->get<std::string>());
    run->expressions[it.key()] = std::move(result);
  }
}

Coro<json> Shell::user_expression(RunPtr run, std::string expression) {
  auto inner = std::make_shared<Run>();
  inner->cell = run->cell;
  inner->active = run->active;
  inner->work = std::make_shared<Work>();
  inner->work->request = run->work->request;
  inner->work->number = run->work->number;
  inner->work->capture = std::make_shared<Capture>();
  const ContextVar<WorkPtr>::Scope context(work_var(), inner->work);
  co_await run_code(inner, std::move(expression), true, -1);
  if (inner->error) co_return error_content(inner->error->ename, inner->error->evalue, inner->error->traceback);
  co_return json{{"status", "ok"}, {"data", inner->work->capture->data}, {"metadata", inner->work->capture->metadata}};
}

}  // namespace caller::kernel
