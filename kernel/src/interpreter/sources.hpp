// Which text of which cells a function needs, so that another process can compile it. Internal to this folder.
#pragma once

#include <clang/AST/Decl.h>
#include <clang/Basic/SourceLocation.h>

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "assemble.hpp"
#include "compilation.hpp"
#include "engine.hpp"

namespace caller::kernel {

/// The pieces of all cells so far, and what they declare.
///
/// Thread-safety: that of the engine. Errors: none.
class Sources {
public:
  /// One stage that was parsed.
  void add(Engine& engine, const CompileRequest& request, const Engine::Parsed& parsed,
           const std::vector<PiecePlace>& places);

  /// What `function` needs: what it and all it uses declare, their includes, macros and using directives. Operators and
  /// customisations of a type that is needed are, too, as nothing says who finds them.
  FunctionSource source_of(Engine& engine, const clang::NamedDecl* function) const;
  /// What all of these need, together. The name is that of the first one.
  FunctionSource source_of(Engine& engine, const std::vector<const clang::NamedDecl*>& declarations) const;

private:
  friend class Closure;
  struct Cell {
    int number = 0;
    std::string code;
    bool conditional = false;  // has an #if among its pieces
  };
  struct Piece {
    std::shared_ptr<const Cell> cell;
    std::size_t begin = 0, end = 0;  // bytes of the cell
    bool directive = false, open = false;
    clang::FileID file;
    std::size_t text_begin = 0, text_end = 0;  // bytes of the file
    std::vector<clang::Decl*> declarations;
  };
  std::optional<std::size_t> at(const clang::SourceManager& sources, clang::SourceLocation place) const;
  void collect(clang::DeclContext* context, const clang::SourceManager& sources, clang::FileID file);

  unsigned unit_ = 0;
  std::shared_ptr<Cell> cell_;
  std::vector<Piece> pieces_;  // in the order in which they were compiled
  struct Span {
    std::size_t first = 0, last = 0;
  };
  std::map<clang::FileID, Span> files_;
};

}  // namespace caller::kernel
