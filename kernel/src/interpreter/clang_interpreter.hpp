// The Interpreter made of clang and its JIT. Internal to this folder.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "compiler.hpp"
#include "copy.hpp"
#include "factory.hpp"
#include "follower.hpp"
#include "jit.hpp"
#include "sandbox.hpp"

namespace caller::kernel {

class ClangInterpreter final : public Interpreter {
public:
  explicit ClangInterpreter(InterpreterOptions options);
  ~ClangInterpreter() override;

  std::variant<CompiledCell, CellError> compile(const std::string& code, const CompileOptions& options) override;
  CellError describe_current_exception(int cell_number) override;
  Completions complete(const std::string& code, std::size_t cursor) override;
  std::map<std::string, std::string> inspect(const std::string& code, std::size_t cursor, int detail) override;
  Completeness is_complete(const std::string& code) override;
  void add_include_path(const std::string& dir) override;
  void load_library(const std::string& name) override;
  std::vector<std::string> add_flags(const std::vector<std::string>& flags, bool lenient) override;
  std::vector<std::string> flags() override;
  void reset() override;
  std::vector<Symbol> symbols() override;
  void warm_up() override;
  Declared declared(const std::string& name, const std::vector<std::string>& methods) override;
  FunctionSource source_of(const std::vector<std::string>& names) override;
  void prepare() override;
  std::map<std::string, std::map<std::string, std::string>> values(
      const std::vector<std::string>& expressions) override;

private:
  struct Attempt {
    bool ok = false;
    Compilation made;
    std::vector<std::string> missing;  // demangled
  };
  /// How long completion and inspection wait for a compiler that has still to learn what was run: all cells wait with
  /// them.
  static constexpr std::chrono::seconds kBusy{1};

  Compiler& compiler();  // the process's own, knowing every cell
  CompileRequest new_request(const CompileOptions& options);
  Compilation compile_in_copy(const CompileRequest& request, const std::stop_token& stop);
  std::vector<std::string> missing_symbols(const Compilation& made);
  Attempt attempt(CompileRequest& request, const std::stop_token& stop);
  std::variant<CompiledCell, CellError> link(const Compilation& made, const CompileRequest& request);
  void load(const std::string& library);
  void define_late(const LateMemory& late);
  /// in_child() of what uses the compiler, which has to be settled.
  SandboxResult in_copy(const std::function<std::string()>& work, std::chrono::milliseconds limit);
  std::string evaluate_in_child(const std::string& name);

  InterpreterOptions options_;
  std::unique_ptr<Jit> jit_;
  std::unique_ptr<Compiler> compiler_;
  std::unique_ptr<Follower> follower_;  // uses the compiler
  std::unique_ptr<Copy> copy_;          // compiles the cells; ahead of the compiler by what the follower has to do
  bool copy_stays_ = true;
  std::atomic<bool> warm_ = false;  // the compiler is, the copy may not be
  unsigned unit_ = 0;
  std::set<std::string> known_;            // symbols that were found, and stay
  std::vector<std::string> library_dirs_;  // of -L, in the order given
  std::vector<std::string> loaded_;        // libraries that no flag names
};

/// Takes the cells' namespaces and generated names out of the compiler's text, and words its places as
/// `Cell [7], line 3, column 5`.
std::string readable(std::string text);

/// What the compiler's text, or the names that were not found, mean to the user.
CellError error_of(const std::string& text, const std::vector<std::string>& missing, int number);

}  // namespace caller::kernel
