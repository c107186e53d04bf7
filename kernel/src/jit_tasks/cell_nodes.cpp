#include "jit_tasks/cell_nodes.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <variant>

#include <caller/caller.hpp>
#include <caller/kernel/display_host.hpp>
#include <caller/tube/cluster.hpp>

#include "interpreter/colour.hpp"
#include "interpreter/factory.hpp"
#include "interpreter/faults.hpp"
#include "interpreter/interpreter.hpp"
#include "jit_tasks/node_types.hpp"

namespace caller::kernel {
namespace {

std::string listed(const std::vector<std::string>& ids) {
  std::string text = ids.size() == 1 ? "the node " : "the nodes ";
  for (std::size_t i = 0; i < ids.size(); ++i) text += (i ? ", \"" : "\"") + ids[i] + "\"";
  return text;
}

/// Flags that a running compiler takes, too: the precompiled prelude does not depend on them.
bool can_come_later(std::string_view flag) {
  for (const std::string_view known :
       {"-D", "-U", "-I", "-isystem", "-L", "-l", "-O", "-W", "-w", "-g", "-pthread", "-rdynamic"})
    if (flag.starts_with(known)) return true;
  return !flag.starts_with("-");  // the value of the one before
}

/// What nodes show goes the way of what they print: as text.
class Shown final : public DisplayHost {
public:
  void result(const MimeBundle&, const MimeBundle&) override {}
  void display(const MimeBundle& data, const MimeBundle&, const std::string&, bool) override {
    const auto text = data.find("text/plain");
    if (text != data.end()) std::cout << text->second + "\n";
  }
  void clear_output(bool) override {}
  std::string input(const std::string&, bool) override {
    throw std::runtime_error("a node in a process of its own cannot ask for input");
  }
};

/// The process's one.
class Host final : public faults::Host {
public:
  Host() {
    faults::install(this, STDERR_FILENO);
    set_display_host(&shown_);
  }
  ~Host() override {
    set_display_host(nullptr);
    cells_.clear();
    interpreter_.reset();
    faults::install(nullptr, STDERR_FILENO);
    std::fflush(stdout);
  }
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  std::shared_ptr<void> origin() override { return nullptr; }
  void thread_failed(const std::shared_ptr<void>&, const std::exception_ptr& error) noexcept override {
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "a thread that a node had started was ended: %s\n", e.what());
    } catch (...) {
      std::fputs("a thread that a node had started was ended\n", stderr);
    }
  }
  void dying(const std::string&) noexcept override {}  // the log has it

  void prepare(const std::string& payload) {
    const CellNodes told = from_payload(payload);
    who_ = listed(told.nodes);
    start(told);
    for (const SourceCell& cell : told.source.cells) run(cell.text, cell.number);
    std::string code = std::string(kRegistrationHeader) + kCrossingHeader;
    for (std::size_t i = 0; i < told.types.size(); ++i) {
      WantedType type{told.types[i].name, told.types[i].asset, {}, "nodes", {}};
      type.found = interpreter_->declared(cxx_name(type.name), node_methods());
      if (type.found.kind == Declared::Kind::nothing)
        fail(quoted(type) + " is not among the cells that were given to its process", {});
      check(type);
      code += registering_function(type, "__caller_tube_node_" + std::to_string(i), true);
    }
    run(code, 0);
  }

  void call(const std::function<void()>& body) {
    // Before the values go out: whoever sees the result has seen what was printed.
    struct Flush {
      ~Flush() { std::fflush(stdout); }
    } const flush;
    try {
      faults::guarded([&] { body(); });
    } catch (const faults::CellFault& e) {  // by the name that cells know it by, and never without its lines
      const auto lines = lines_of(std::current_exception());
      try {
        throw tube::RemoteTrace(lines);
      } catch (const tube::RemoteTrace&) {
        std::throw_with_nested(tube::RemoteError(e.fault().name, e.fault().text));
      }
    }
  }

  std::vector<std::string> lines_of(const std::exception_ptr& error) const {
    std::vector<std::string> out;
    if (!interpreter_) return out;
    try {
      std::rethrow_exception(error);
    } catch (...) {
      for (const std::string& line : interpreter_->describe_current_exception(0).traceback)
        if (line.starts_with("  ")) out.push_back(line.substr(2));
    }
    return out;
  }

private:
  [[noreturn]] void fail(const std::string& why, std::vector<std::string> lines) const {
    const tube::Error error(tube::Errc::invalid_specification, who_ + " cannot run in a process of its own: " + why);
    if (lines.empty()) throw error;
    try {
      throw tube::RemoteTrace(std::move(lines));
    } catch (const tube::RemoteTrace&) {
      std::throw_with_nested(error);
    }
  }

  void start(const CellNodes& told) {
    InterpreterOptions options;
    options.prelude_directory = told.prelude_directory;
    options.for_nodes = true;
    options.isolate = options.keep_copy = options.warm_up = false;  // whatever does not compile ends it anyway
    options.log = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
    std::vector<std::string> later;
    for (const std::string& flag : told.source.flags) (can_come_later(flag) ? later : options.flags).push_back(flag);
    interpreter_ = make_clang_interpreter(std::move(options));
    if (later.empty()) return;
    try {
      (void)interpreter_->add_flags(later, /*lenient=*/true);
    } catch (const std::exception& e) {
      fail(e.what(), {});
    }
  }

  /// Compiles a cell and runs its initialisers.
  void run(const std::string& text, int number) {
    CompileOptions how;
    how.number = number;
    how.show_result = false;
    auto compiled = interpreter_->compile(text, how);
    if (const auto* error = std::get_if<CellError>(&compiled)) {
      std::vector<std::string> lines;
      for (const std::string& line : error->traceback) lines.push_back(without_colour(line));
      fail(
          number > 0 ? "Cell [" + std::to_string(number) + "] does not compile there: " + error->evalue : error->evalue,
          std::move(lines));
    }
    cells_.push_back(std::get<CompiledCell>(std::move(compiled)));
    try {
      for (const Segment& segment : cells_.back().segments) {
        if (segment.run)
          faults::guarded(segment.run);
        else
          call_async_from_sync(segment.start);
      }
    } catch (const std::exception& e) {
      fail("Cell [" + std::to_string(number) + "] failed there: " + e.what(), lines_of(std::current_exception()));
    }
  }

  Shown shown_;
  std::string who_;
  std::unique_ptr<Interpreter> interpreter_;
  std::vector<CompiledCell> cells_;
};

}  // namespace

void cell_node_main(int argc, char** argv) {
  // A pipe would be written to by the page: what nodes print is to be seen while they run.
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const auto hooks = [](const std::shared_ptr<Host>& host) {  // which ends with them, before the process does
    tube::WorkerHooks made;
    made.prepare = [host](const std::string& payload) { host->prepare(payload); };
    made.call = [host](const std::function<void()>& body) { host->call(body); };
    made.where = [host](const std::exception_ptr& error) { return host->lines_of(error); };
    return made;
  };
  tube::cluster_main(argc, argv, hooks(std::make_shared<Host>()));
  std::exit(2);  // not called as it should be
}

}  // namespace caller::kernel
