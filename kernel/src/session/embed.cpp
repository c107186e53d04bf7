// A kernel inside of a program: its main shell runs on a thread of ours instead of the program's own.
#include <caller/kernel/embed.hpp>

#include <cxxabi.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <stdexcept>
#include <thread>
#include <utility>

#include "interpreter/factory.hpp"
#include "interpreter/interrupt.hpp"
#ifdef CALLER_HAVE_TASK
#include "jit_tasks/known_sources.hpp"
#endif
#include "protocol/log.hpp"
#include "protocol/paths.hpp"
#include "protocol/wire.hpp"
#include "session/kernel.hpp"

namespace caller {
namespace {

using namespace kernel;

std::atomic<bool> embedded{false};

// The program's signals are for the program's threads. What a thread's own fault raises, and what ends a blocked call
// of an interrupted cell (two real-time signals), stays.
class KernelSignals {
public:
  KernelSignals() {
    sigset_t mask;
    sigfillset(&mask);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) sigdelset(&mask, fault);
    for (const int signal : interrupt::signals()) sigdelset(&mask, signal);
    pthread_sigmask(SIG_SETMASK, &mask, &before_);
  }
  ~KernelSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  KernelSignals(const KernelSignals&) = delete;
  KernelSignals& operator=(const KernelSignals&) = delete;

private:
  sigset_t before_{};
};

bool is_identifier(const std::string& name) {
  if (name.empty() || (name[0] >= '0' && name[0] <= '9')) return false;
  for (const char c : name)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_')) return false;
  return true;
}

std::string spelling(const std::type_info& type) {
  int status = 0;
  char* readable = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  const std::string out = status == 0 && readable ? readable : "";
  std::free(readable);
  if (out.empty() || out.find('{') != std::string::npos || out.find("(anonymous") != std::string::npos ||
      out.find("'lambda") != std::string::npos)
    throw std::invalid_argument("expose: the type " + std::string(out.empty() ? type.name() : out) +
                                " has no name that a cell could use");
  return out;
}

}  // namespace

struct EmbeddedKernel::State {
  std::filesystem::path file;
  std::thread thread;
  std::mutex mutex;
  Kernel* kernel = nullptr;  // while it runs
  std::atomic<int> exposed{0};
  std::atomic<bool> running{false};

  void serve(const KernelOptions& options, const ConnectionInfo& connection, std::promise<void> ready) {
    pthread_setname_np(pthread_self(), "caller-shell");
    bool told = false;
    try {
      CallerOptions shell;
      shell.name = "Shell";
      shell.protect = true;
      const auto report = std::make_shared<std::atomic<Kernel*>>(nullptr);
      shell.error_handler = [report](const std::string& where, const std::exception_ptr& error) {
        if (Kernel* k = report->load()) k->report_unseen(where, error);
      };
      Caller main(manual, shell);
      Kernel kernel_here(options, connection, main);
      report->store(&kernel_here);
      write_connection_file(kernel_here.session().connection(), file.string());
      kernel_here.start();
      {
        const std::lock_guard lock(mutex);
        kernel = &kernel_here;
      }
      running = true;
      told = true;
      ready.set_value();
      main.run();
      running = false;
      report->store(nullptr);
      const std::lock_guard lock(mutex);  // whoever uses the kernel is through
      kernel = nullptr;
    } catch (...) {
      if (!told) ready.set_exception(std::current_exception());
    }
    if (told) ::unlink(file.c_str());
    embedded = false;
  }

  template <class F>
  void with_kernel(const char* what, F fn) {
    const std::lock_guard lock(mutex);
    if (!kernel) throw std::runtime_error(std::string(what) + ": the kernel has stopped");
    fn(*kernel);
  }

  void stop() {
    {
      const std::lock_guard lock(mutex);
      if (kernel) kernel->end_session();
    }
    if (thread.joinable() && thread.get_id() != std::this_thread::get_id()) thread.join();
  }
};

EmbeddedKernel::EmbeddedKernel(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
EmbeddedKernel::EmbeddedKernel(EmbeddedKernel&&) noexcept = default;
EmbeddedKernel& EmbeddedKernel::operator=(EmbeddedKernel&& other) noexcept {
  if (this != &other) {
    if (state_) state_->stop();
    state_ = std::move(other.state_);
  }
  return *this;
}
EmbeddedKernel::~EmbeddedKernel() {
  if (state_) state_->stop();
}

const std::filesystem::path& EmbeddedKernel::connection_file() const noexcept { return state_->file; }
bool EmbeddedKernel::running() const noexcept { return state_ && state_->running.load(); }

void EmbeddedKernel::stop() {
  if (state_) state_->stop();
}

void EmbeddedKernel::declare(const std::string& code) {
  state_->with_kernel("declare", [&](Kernel& k) { k.declare(code); });
}

void EmbeddedKernel::expose_address(const std::string& name, const volatile void* address, const std::type_info& type,
                                    bool is_const, std::size_t size, std::size_t alignment,
                                    const std::string& declarations) {
  if (!is_identifier(name)) throw std::invalid_argument("expose: \"" + name + "\" is no identifier");
  const std::string type_name = spelling(type);
  std::string alias = "caller_exposed_";
  alias.append(std::to_string(++state_->exposed)).append("_");
  char place[32];
  std::snprintf(place, sizeof place, "0x%llxull",
                static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(address)));
  std::string code = declarations;
  code.append("\nusing ").append(alias).append(" = ").append(is_const ? "const " : "").append(type_name).append(";\n");
  if (size > 0)
    code.append("static_assert(sizeof(")
        .append(alias)
        .append(") == ")
        .append(std::to_string(size))
        .append(" && alignof(")
        .append(alias)
        .append(") == ")
        .append(std::to_string(alignment))
        .append(", \"cells and the program disagree about this type\");\n");
  code.append(alias)
      .append("& ")
      .append(name)
      .append(" = *reinterpret_cast<")
      .append(alias)
      .append("*>(")
      .append(place)
      .append(");\n");
  state_->with_kernel("expose", [&](Kernel& k) { k.declare(code); });
}

EmbeddedKernel embed_kernel(EmbedOptions options) {
  if (embedded.exchange(true)) throw std::logic_error("embed_kernel: a kernel runs in this process already");
  auto state = std::make_shared<EmbeddedKernel::State>();
  std::promise<void> ready;
  std::future<void> started = ready.get_future();
  try {
    state->file = options.connection_file;
    if (state->file.empty()) {
      const std::string folder = jupyter_runtime_dir();
      if (folder.empty()) throw std::runtime_error("embed_kernel: there is no home for the connection file");
      state->file = std::filesystem::path(folder) / ("kernel-" + std::to_string(::getpid()) + ".json");
    }
    state->file = std::filesystem::absolute(state->file);
    ConnectionInfo connection;
    connection.transport = options.ipc ? "ipc" : "tcp";
    connection.ip = options.address;
    connection.key = new_id() + new_id();
    connection.kernel_name = "caller";
    set_log_level(level_of(options.log_level));

    KernelOptions kernel;
    kernel.embedded = true;
    kernel.capture_output = options.capture_output;
    kernel.clients_may_stop = options.clients_may_stop;
    kernel.history_file = "";  // the program's user is not the one who types
    kernel.interpreter = [language = std::move(options)] {
      InterpreterOptions how;
      how.prelude_directory = language.prelude_directory.string();
      how.flags = language.cxxflags;
      how.isolate = language.isolate;
      how.log = [](const std::string& line) { kernel::log(kernel::LogLevel::warning, line); };
#ifdef CALLER_HAVE_TASK
      how.function_given = kernel::keep_source;
#endif
      return make_clang_interpreter(std::move(how));
    };
    const KernelSignals signals;  // inherited by every thread of the kernel
    state->thread = std::thread([state, kernel, connection, ready = std::move(ready)]() mutable {
      state->serve(kernel, connection, std::move(ready));
    });
  } catch (...) {
    embedded = false;
    throw;
  }
  try {
    started.get();
  } catch (...) {
    state->thread.join();
    throw;
  }
  return EmbeddedKernel(std::move(state));
}

}  // namespace caller
