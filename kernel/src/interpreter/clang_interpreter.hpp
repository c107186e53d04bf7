// The Interpreter made of clang and its JIT. Internal to this folder.
#pragma once

#include <map>
#include <optional>
#include <set>

#include "assemble.hpp"
#include "engine.hpp"
#include "factory.hpp"
#include "jit.hpp"

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
  std::map<std::string, std::map<std::string, std::string>> values(
      const std::vector<std::string>& expressions) override;

private:
  struct Check {
    bool ok = false;
    std::string text;
    bool parse_issue = false;
    bool must_optimise = false;  // only then is every symbol found
    std::vector<std::string> missing;
  };
  Check check(const Assembly& assembly, const std::stop_token& stop);
  std::vector<std::string> undefined_symbols(const std::vector<std::unique_ptr<llvm::Module>>& modules);
  Check check_here(const Assembly& assembly);
  std::variant<CompiledCell, CellError> link(const Assembly& assembly, const CompileOptions& options);
  void place_late_variables(const Stage& stage, clang::TranslationUnitDecl* unit, unsigned number);
  CellError error_of(const Check& check, const CompileOptions& options) const;
  AssembleOptions assemble_options(const CompileOptions& options);
  std::string evaluate_in_child(const std::string& name);

  InterpreterOptions options_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Jit> jit_;
  unsigned unit_ = 0;
  std::vector<std::string> library_dirs_;  // of -L, in the order given
};

/// Takes the cells' namespaces and generated names out of the compiler's text, and words its places as
/// `Cell [7], line 3, column 5`.
std::string readable(std::string text);

}  // namespace caller::kernel
