#include "session/kernel.hpp"

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <regex>
#include <system_error>

#ifdef CALLER_HAVE_TASK
#include <caller/task/error.hpp>
#endif

#include "debugger/stub.hpp"
#ifdef CALLER_HAVE_TASK
#include "jit_tasks/cell_guard.hpp"
#endif
#include "interpreter/faults.hpp"
#include "protocol/log.hpp"
#include "session/shell.hpp"

namespace caller::kernel {
namespace {

// After the start, and without a request that needs the compiler.
constexpr std::chrono::milliseconds kWarmUpDelay{1500};
constexpr unsigned kGraceSeconds = 2;               // clients kill a kernel after five
constexpr std::chrono::milliseconds kClosing{250};  // an embedded kernel lets cells end by themselves

int watch_pid() {
  const char* text = std::getenv("JPY_PARENT_PID");
  return text ? std::atoi(text) : 0;
}

CallerOptions named(const char* name) {
  CallerOptions options;
  options.name = name;
  options.protect = true;  // a cell must not stop what serves it
  return options;
}

}  // namespace

Kernel::Kernel(const KernelOptions& options, ConnectionInfo connection, Caller main)
    : options_(options),
      main_(std::move(main)),
      session_(
          std::move(connection),
          {options.history_file ? *options.history_file : default_history_path(), options.embedded ? 0 : watch_pid()},
          {[this](Request request) { route(std::move(request)); }, [this] { shut_down(); }}),
      display_(session_, [this] { settle(); }),
      control_(new_thread, named("Control")),
      language_(control_.get(named("Language"))),
      interrupts_(control_, options.embedded),
      cells_(session_.input(), interrupts_),
      debugger_(debug_host()),
      comms_([this](const std::string& type, const json& content, const json& metadata,
                    Frames buffers) { session_.publish(type, content, metadata, std::move(buffers)); },
             [this] { return kernel_info(); }),
      cell_comms_(session_, comms_, [this] { settle(); }),
      main_shell_(std::make_shared<Shell>(*this, main_, "", session_.history()->session())) {
  if (options_.capture_output)
    output_.emplace(session_);
  else
    cell_streams_.emplace(session_);
  if (options_.test_comms) comms_.register_echo_target("echo");
  cells_.set_let_go([this] { debugger_.let_go(); });
  for (const Caller& server : {control_, language_})
    (void)server.call_soon([] {
      debugger::exempt_this_thread();
      Interrupts::exempt_this_thread();
    });
}

Kernel::~Kernel() {
  debugger_.stop();
  std::map<std::string, std::shared_ptr<Shell>> shells;
  {
    const std::lock_guard lock(shells_mutex_);
    shells.swap(shells_);
  }
  for (const auto& [id, shell] : shells) Caller(shell->caller()).stop(true);
  for (const auto& [id, shell] : shells) shell->caller().stopped().wait_done();
  settle();
  faults_.reset();
  own_loops_.reset();
  session_.stop();  // before the interpreter ends, which is the one thing here that can go wrong
  language_
      .call_soon([this] {
        // A raw thread that a cell left behind runs in code that now goes away. Nothing is lost any more.
        if (!options_.embedded)
          for (const int fault : {SIGSEGV, SIGBUS, SIGILL}) std::signal(fault, [](int) { ::_exit(0); });
        interpreter_.reset();
      })
      .wait_done();
  control_.stop(true);
  control_.stopped().wait_done();
  if (!options_.embedded) set_error_handler(nullptr);
  const std::lock_guard lock(watch_->mutex);
  watch_->kernel_gone = true;
}

void Kernel::start() {
  if (output_) {
    faults_ = std::make_unique<FaultHost>(*this, output_->log_descriptor());
#ifdef CALLER_HAVE_TASK
    guard_cell_tasks();
#endif
  } else {
    own_loops_ = std::make_unique<OwnLoops>(*this);
  }
  if (!options_.embedded)
    set_error_handler(
        [this](const std::string& where, const std::exception_ptr& error) { report_unseen(where, error); });
  (void)language_.call_soon([this] {
    try {
      interpreter_ = options_.interpreter();
      interpreter_->prepare();
      // Not now: whoever starts a kernel to run a cell need not wait for it.
      warm_up_later();
    } catch (const std::exception& e) {
      interpreter_error_ = e.what();
      log(LogLevel::error, std::string("starting the C++ interpreter: ") + e.what());
    }
  });
  if (can_debug_)  // what killed kernels have left; when the start is through
    (void)control_.call_later(kWarmUpDelay, [this] {
      (void)control_.to_thread([] {
        std::error_code error;
        if (const auto folder = std::filesystem::temp_directory_path(error); !error)
          debugger::remove_left_directories(folder);
      });
    });
  session_.start();
}

void Kernel::warm_up_later() {
  (void)language_.call_later(kWarmUpDelay, [this, before = interpreter_uses_] {
    if (!interpreter_) return;
    if (interpreter_uses_ != before) return warm_up_later();
    interpreter_->warm_up();
  });
}

void Kernel::report_unseen(const std::string& where, const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (...) {
    const json content = error_content_of_current();
    const std::string text = content["traceback"][0].get<std::string>() + " (in " + where + ")\n";
    if (!session_.write(StreamName::err, text)) log(LogLevel::warning, text);
  }
}

void Kernel::end_session() {
  (void)control_.call_soon([this]() -> Coro<void> {
    if (std::exchange(ending_, true)) co_return;
    // Often a cell has just told the program to end, and is about to end by itself.
    const auto end = std::chrono::steady_clock::now() + kClosing;
    while (cells_.size() > 0 && std::chrono::steady_clock::now() < end) co_await sleep_for(kClosing / 50);
    cells_.stop_all(ActiveCell::Stop::shutdown, Moment::now());
    Caller(main_).stop(true);
  });
}

namespace {

void run_declarations(Interpreter& interpreter, const std::string& code) {
  CompileOptions options;
  options.show_result = false;
  auto compiled = interpreter.compile(code, options);
  if (const auto* error = std::get_if<CellError>(&compiled)) {
    std::string text = error->ename + ": " + error->evalue;
    for (const auto& line : error->traceback) text += "\n" + line;
    throw std::runtime_error(text);
  }
  for (const Segment& segment : std::get<CompiledCell>(compiled).segments) {
    if (!segment.run) throw std::runtime_error("declarations cannot await");
    segment.run();
  }
}

}  // namespace

Coro<std::variant<CompiledCell, CellError>> Kernel::compile(std::string code, CompileOptions options) {
  std::stop_source stop;
  options.stop = stop.get_token();
  auto pending = with_interpreter(
      [code = std::move(code), options = std::move(options)](Interpreter& i) { return i.compile(code, options); });
  struct StopCompile {
    std::stop_source source;
    ~StopCompile() { source.request_stop(); }
  } const stop_compile{stop};  // without effect on what is done
  co_await pending.async_wait_done({.protect = true});
  auto compiled = co_await pending.async_wait({.shield = true});
  co_return compiled;
}

void Kernel::declare(const std::string& code) {
  auto pending = with_interpreter([this, code](Interpreter& interpreter) {
    run_declarations(interpreter, code);
    declarations_.push_back(code);
  });
  pending.wait();
}

void Kernel::reset_names(Interpreter& interpreter) {
  interpreter.reset();
  for (const std::string& code : declarations_) run_declarations(interpreter, code);
}

Interpreter& Kernel::require_interpreter() {
  ++interpreter_uses_;
  if (!interpreter_) throw std::runtime_error("the C++ interpreter could not start: " + interpreter_error_);
  return *interpreter_;
}

#ifdef CALLER_HAVE_TASK
namespace {

// A task's exception, whose type is known by its name only: shown as if it had been thrown here.
CellError describe_task(const task::ExceptionRecord& record, int number) {
  static const std::regex cells("__cell_[0-9]+::");
  CellError out;
  out.ename = std::regex_replace(record.type, cells, "");
  out.evalue = record.message;
  out.traceback.push_back("Cell [" + std::to_string(number) + "]: in a task");
  std::string how;
  for (const task::ExceptionRecord* r = &record; r; r = r->cause.get()) {
    out.traceback.push_back(how + "\x1b[0;31m" + std::regex_replace(r->type, cells, "") + "\x1b[0m" +
                            (r->message.empty() ? "" : ": " + r->message));
    how = "caused by ";
  }
  return out;
}

}  // namespace
#endif

CellError Kernel::describe_current(int number) {
#ifdef CALLER_HAVE_TASK
  try {
    throw;
  } catch (const task::TaskFailed& e) {
    return describe_task(e.record(), number);
  } catch (...) {  // any other
  }
#endif
  if (interpreter_) return interpreter_->describe_current_exception(number);
  const json content = error_content_of_current();
  return {content["ename"], content["evalue"], content["traceback"]};
}

std::shared_ptr<Shell> Kernel::shell_of(const Message& request) {
  const std::string id = request.subshell();
  if (id.empty()) return main_shell_;
  const std::lock_guard lock(shells_mutex_);
  const auto it = shells_.find(id);
  return it == shells_.end() ? nullptr : it->second;
}

std::string Kernel::create_subshell() {
  const std::string id = new_id();
  const std::string name = "Subshell " + id.substr(0, 8);
  const int history_session = session_.history()->begin_session();
  std::optional<Caller> caller;  // goes after the lock: the last handle waits for the thread
  const std::lock_guard lock(shells_mutex_);
  // Held since before there is the thread, which asks in its first turn, and never again, whether it is one of ours.
  caller.emplace(new_thread, named(name.c_str()));
  shells_.emplace(id, std::make_shared<Shell>(*this, *caller, id, history_session));
  return id;
}

bool Kernel::delete_subshell(const std::string& id) {
  std::shared_ptr<Shell> shell;
  {
    const std::lock_guard lock(shells_mutex_);
    const auto it = shells_.find(id);
    if (it == shells_.end()) return false;
    shell = std::move(it->second);
    shells_.erase(it);
  }
  cells_.stop_subshell(id);
  Caller(shell->caller()).stop(true);
  drop_comms(id);
  // The last handle joins the thread, so it goes where waiting harms nobody.
  (void)control_.to_thread([this, shell = std::move(shell), id]() mutable {
    shell->caller().stopped().wait_done();
    shell.reset();
    session_.forget_shell(id);  // not before: a cell may just have begun
    cells_.forget_subshell(id);
  });
  return true;
}

std::vector<std::string> Kernel::subshells() {
  const std::lock_guard lock(shells_mutex_);
  std::vector<std::string> out;
  for (const auto& [id, shell] : shells_) out.push_back(id);
  return out;
}

void Kernel::serve(const Caller& where, Request request, Handler handler) {
  (void)where.call_soon([this, request = std::move(request), handler] { run_handler(request, handler); });
}

void Kernel::run_handler(const Request& request, Handler handler) {
  RequestScope scope(session_, request, [this] { settle(); });
  try {
    (this->*handler)(scope);
  } catch (...) {
    const json content = error_content_of_current();
    log(LogLevel::warning, request->type() + ": " + content["evalue"].get<std::string>());
    if (!scope.replied()) scope.reply(content);
  }
}

void Kernel::route(Request request) {
  struct Route {
    bool language;
    Handler handler;
  };
  static const std::map<std::string, Route> kRoutes = {
      {"kernel_info_request", {false, &Kernel::on_kernel_info}},
      {"connect_request", {false, &Kernel::on_connect}},
      {"interrupt_request", {false, &Kernel::on_interrupt}},
      {"shutdown_request", {false, &Kernel::on_shutdown}},
      {"history_request", {false, &Kernel::on_history}},
      {"usage_request", {false, &Kernel::on_usage}},
      {"create_subshell_request", {false, &Kernel::on_create_subshell}},
      {"delete_subshell_request", {false, &Kernel::on_delete_subshell}},
      {"list_subshell_request", {false, &Kernel::on_list_subshell}},
      {"complete_request", {true, &Kernel::on_complete}},
      {"inspect_request", {true, &Kernel::on_inspect}},
      {"is_complete_request", {true, &Kernel::on_is_complete}},
  };
  const std::string type = request->type();
  if (!request->fault.empty()) return serve(control_, std::move(request), &Kernel::on_faulty);
  if (type == "execute_request") {
    if (const auto shell = shell_of(*request)) return shell->submit(std::move(request));
    return serve(control_, std::move(request), &Kernel::on_unknown_subshell);
  }
  if (type == "comm_open" || type == "comm_msg" || type == "comm_close") return route_comm(std::move(request));
  if (type == "debug_request" && can_debug_) {
    (void)control_.call_soon([this](Request r) { return debug(std::move(r)); }, std::move(request));
    return;
  }
  if (type == "comm_info_request") {  // waits for handlers of xeus, which Control must not
    (void)control_.to_thread([this, request] { run_handler(request, &Kernel::on_comm_info); });
    return;
  }
  const auto it = kRoutes.find(type);
  if (it == kRoutes.end()) return serve(control_, std::move(request), &Kernel::on_unknown);
  serve(it->second.language ? language_ : control_, std::move(request), it->second.handler);
}

void Kernel::route_comm(Request request) {
  const auto shell = shell_of(*request);
  if (!shell) return serve(control_, std::move(request), &Kernel::on_unknown_subshell);
  // One queue per comm: its messages stay in order, and a handler that waits holds up no other comm.
  const CommKey key{shell->id(), field<std::string>(request->content, "comm_id", "")};
  {
    const std::lock_guard lock(comms_mutex_);
    CommQueue& queue = comm_queues_[key];
    queue.waiting.push_back(std::move(request));
    if (queue.serving || queue.waiting.size() > 1) return;  // it comes after the one before
  }
  post_comm(shell->caller(), key);
}

void Kernel::post_comm(Caller where, const CommKey& key) {
  auto turn = std::make_shared<CommTurn>(*this, key.first);
  try {
    (void)where.call_soon([this, where, key, turn = std::move(turn)]() mutable {
      turn->kernel = nullptr;
      return serve_next_comm(std::move(where), std::move(key));
    });
  } catch (const std::exception&) {  // it has stopped: the turn is lost
  }
}

Coro<void> Kernel::serve_next_comm(Caller where, CommKey key) {
  Request request;
  {
    const std::lock_guard lock(comms_mutex_);
    const auto it = comm_queues_.find(key);
    if (it == comm_queues_.end()) co_return;  // its subshell was deleted
    request = std::move(it->second.waiting.front());
    it->second.waiting.pop_front();
    it->second.serving = true;
  }
  CommTurn turn(*this, key.first);
  co_await serve_comm(std::move(request));
  turn.kernel = nullptr;
  {
    const std::lock_guard lock(comms_mutex_);
    const auto it = comm_queues_.find(key);
    if (it == comm_queues_.end()) co_return;
    it->second.serving = false;
    if (it->second.waiting.empty()) {
      comm_queues_.erase(it);
      co_return;
    }
  }
  post_comm(std::move(where), key);
}

Coro<void> Kernel::serve_comm(Request request) {
  RequestScope scope(session_, request, [this] { settle(); });
  scope.expect_no_reply();
  struct Active {
    ActiveCells& cells;
    ActiveCellPtr cell;
    ~Active() { cells.remove(cell); }
  } active{cells_, cells_.add_handler(request)};
  std::exception_ptr error;
  std::optional<Pending<void>> running;
  try {
    const std::optional<CommCall> own = cell_comms_.call(*request);
    if (own && own->awaiting) {
      running = Caller::current().call_soon(own->awaiting);
      cells_.set_run(active.cell, *running);
    } else {
      Interrupts::Plain interruptible(active.cell->thread);
      if (active.cell->stop.load() != ActiveCell::Stop::none) interruptible.request();  // it came before this was there
      if (!own)
        on_comm(scope);
      else if (own->plain)
        faults::guarded(own->plain);
    }
  } catch (...) {
    error = std::current_exception();
  }
  if (running) {
    co_await running->async_wait_done();
    if (!running->cancelled()) error = running->exception();
  }
  if (!error) co_return;
  try {
    std::rethrow_exception(error);
  } catch (...) {
    const CellError text = describe_current(0);
    session_.iopub().stream(request, StreamName::err, text.ename + ": " + text.evalue + "\n");
    log(LogLevel::warning, request->type() + ": " + text.ename + ": " + text.evalue);
  }
}

void Kernel::drop_comms(const std::string& subshell) {
  std::vector<Request> dropped;
  {
    const std::lock_guard lock(comms_mutex_);
    for (auto it = comm_queues_.begin(); it != comm_queues_.end();)
      if (it->first.first == subshell) {
        dropped.insert(dropped.end(), it->second.waiting.begin(), it->second.waiting.end());
        it = comm_queues_.erase(it);
      } else {
        ++it;
      }
  }
  for (Request& request : dropped) {  // each still gets its busy and idle
    RequestScope scope(session_, std::move(request));
    scope.expect_no_reply();
  }
}

void Kernel::on_comm(RequestScope& scope) {
  const Message& request = *scope.request();
  const std::string type = request.type();
  if (type == "comm_open") {
    if (!comms_.comm_open(request)) log(LogLevel::info, "comm_open: no such target");
  } else if (!(type == "comm_msg" ? comms_.comm_msg(request) : comms_.comm_close(request))) {
    log(LogLevel::warning, type + ": no comm " + field<std::string>(request.content, "comm_id", "(none)"));
  }
}

void Kernel::shut_down() {
  if (shutting_down_.exchange(true)) return;
  if (options_.embedded) return end_session();
  // Whatever the cells do, the process ends: the grace period runs in a thread that needs nothing from them.
  std::thread([this, watch = watch_] {
    ::sleep(kGraceSeconds);
    const std::lock_guard lock(watch->mutex);
    log(LogLevel::warning, "running work did not end: exiting without it");
    if (!watch->kernel_gone) session_.stop();
    ::_exit(0);
  }).detach();
  (void)control_.call_soon([this] {
    cells_.stop_all(ActiveCell::Stop::shutdown, Moment::now());
    debugger_.release();
    Caller(main_).stop(true);
  });
}

}  // namespace caller::kernel
