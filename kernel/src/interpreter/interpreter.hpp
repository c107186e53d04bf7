// The language behind the kernel, as the session sees it. Knows nothing of messages or sockets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <caller/coro.hpp>

#include "function_source.hpp"

namespace caller::kernel {

/// A failed cell as Jupyter shows it; the same three fields stand in `error` on iopub and in the reply.
struct CellError {
  std::string ename;
  std::string evalue;
  std::vector<std::string> traceback;  ///< lines, ANSI colours allowed, with the cell's own line numbers
};

/// One piece of a compiled cell, run in order. Exactly one of the two is set.
struct Segment {
  std::function<void()> run;                  ///< plain statements or the initialisers of declarations
  std::function<caller::Coro<void>()> start;  ///< statements with a top-level co_await
};

/// Linked code with debug information: an ELF object, and the addresses its sections were given.
struct DebugObject {
  std::string elf;
  std::vector<std::pair<std::string, std::uint64_t>> sections;
};

/// A cell ready to run. Running a segment is allowed on any thread; the cell must outlive its run.
struct CompiledCell {
  std::vector<Segment> segments;
  std::string warnings;                    ///< text for stderr, empty when there is none
  std::vector<DebugObject> debug_objects;  ///< when it was compiled for a debugger
  std::shared_ptr<void> keep;
};

struct CompileOptions {
  int number = 0;           ///< the execution count shown as `Cell [number]` in diagnostics
  bool show_result = true;  ///< show the last expression unless it ends in `;`
  int optimisation = -1;    ///< 0..3 for this cell; -1 = the kernel's default
  /// Ends a compile that nobody waits for any more, as long as nothing of it is in the session; later it only goes on.
  std::stop_token stop;
  std::string debug_path;  ///< not empty: compile for a debugger, which knows the cell's text as this file
};

struct CompletionItem {
  std::string text;       ///< what replaces [start, end)
  std::string type;       ///< function, class, variable, keyword, module, magic, …
  std::string signature;  ///< may be empty
  std::string brief{};    ///< what its documentation comment says in short; may be empty
};

struct Completions {
  std::vector<CompletionItem> items;
  std::size_t start = 0;  ///< byte offsets into the code
  std::size_t end = 0;
};

struct Completeness {
  enum class Status { complete, incomplete, invalid, unknown } status = Status::unknown;
  std::string indent;
};

/// A parameter, as it was declared.
struct Parameter {
  std::string name;          ///< empty if it has none
  std::string type;          ///< as C++ text that names it from anywhere
  std::string class_name;    ///< of a class, or a reference to one: its qualified name
  std::string default_text;  ///< the expression of its default argument; empty if it has none
};
/// What can be called, and how; `fault` says why it cannot: "is overloaded".
struct Callable {
  std::string fault;
  std::vector<Parameter> parameters;
  std::vector<std::string> signals;  ///< the words of `[[clang::annotate("signals", "low", "high")]]`
};
/// What the newest cells, and all they include, mean by a name.
struct Declared {
  enum class Kind { nothing, function, lambda, record, other } kind = Kind::nothing;
  std::string name;                         ///< qualified, from the global namespace on: `::mine::Filter`
  std::string scope;                        ///< the namespace it is in; empty: the global one
  std::string place;                        ///< `Cell [3], line 2`
  std::string what;                         ///< of what cannot be called: `a variable of type int`
  std::string expression;                   ///< of a function or lambda: what stands for it in an expression
  const void* identity = nullptr;           ///< another one after each new declaration
  Callable call;                            ///< of a function or lambda; of a class: its one constructor
  std::map<std::string, Callable> methods;  ///< of a class: those asked for that there are
};

/// The C++ language of a kernel process.
///
/// Thread-safety: every function that is not marked otherwise must be called by one thread at a time (the kernel's
/// compile thread); the segments of a compiled cell may run meanwhile on other threads.
class Interpreter {
public:
  virtual ~Interpreter() = default;

  /// Compiles all segments of a cell; on failure the cell leaves no trace in later look-ups.
  virtual std::variant<CompiledCell, CellError> compile(const std::string& code, const CompileOptions& options) = 0;

  /// Turns the exception in flight (called inside a catch block) into what Jupyter shows. Thread-safety: any thread.
  virtual CellError describe_current_exception(int cell_number) = 0;

  virtual Completions complete(const std::string& code, std::size_t cursor_byte) = 0;

  /// mime type → text; empty when nothing is known about the name at the cursor. detail 1 adds the source.
  virtual std::map<std::string, std::string> inspect(const std::string& code, std::size_t cursor_byte, int detail) = 0;

  virtual Completeness is_complete(const std::string& code) = 0;

  /// Adds an include directory, or loads a shared library. Throws std::runtime_error naming what was tried and where.
  virtual void add_include_path(const std::string& dir) = 0;
  virtual void load_library(const std::string& name) = 0;

  /// Takes compiler flags for the cells from here on: -D, -U, -I, -isystem, -L, -l, -O, -W and -w. Returns those that
  /// mean nothing to code linked into a running process (-pthread, -Wl,…). Throws std::runtime_error, with nothing
  /// taken, for one that is unknown or cannot change any more; with `lenient` those are returned, too.
  virtual std::vector<std::string> add_flags(const std::vector<std::string>& flags, bool lenient) = 0;
  /// The flags in force, without those of the kernel's own prelude.
  virtual std::vector<std::string> flags() = 0;

  /// Hides everything cells have declared and undefines their macros. Objects live on: running work may use them.
  virtual void reset() = 0;
  /// Begins to load what nearly every cell and completion needs; takes some hundred milliseconds of another thread.
  virtual void warm_up() {}
  /// Makes ready what the next compile needs; to be called when nobody waits for anything.
  virtual void prepare() {}

  /// Names the user has defined and that are still visible, with kind and type, newest last (for %who).
  struct Symbol {
    std::string name, kind, type;
  };
  virtual std::vector<Symbol> symbols() = 0;

  /// What a name means now; `methods` are looked at if it is a class. Names are separated by `::`.
  virtual Declared declared(const std::string& name, const std::vector<std::string>& methods) {
    (void)name, (void)methods;
    return {};
  }

  /// What other processes need in order to compile all that these names mean, together. `fault` says why they cannot.
  /// The libraries that were loaded are among the flags.
  virtual FunctionSource source_of(const std::vector<std::string>& names) {
    (void)names;
    return {};
  }

  /// The values of expressions as a cell would show them, by mime type, computed in a copy of the process: nothing they
  /// do hurts the session. What fails, or takes too long, is missing.
  virtual std::map<std::string, std::map<std::string, std::string>> values(
      const std::vector<std::string>& expressions) {
    (void)expressions;
    return {};
  }
};

}  // namespace caller::kernel
