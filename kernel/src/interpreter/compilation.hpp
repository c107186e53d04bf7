// What is asked of the compiler for a cell, and what it answers: plain data, so that both can cross from one process to
// another.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "assemble.hpp"
#include "function_source.hpp"

namespace caller::kernel {

/// A cell and how it is to be compiled.
struct CompileRequest {
  std::string code;
  unsigned unit = 0;  ///< unique; names the cell's namespace
  int number = 0;     ///< shown in diagnostics
  bool show_result = true;
  bool ambiguous_is_expression = false;
  int optimisation = 2;
  bool quick = true;       ///< library functions that are linked anyway may be left out of code that runs only once
  std::string debug_path;  ///< not empty: for a debugger, which knows the cell's text as this file
  std::string directory;   ///< where relative names of files begin; empty: where the process is
};

/// Memory of a variable that a coroutine initialises.
struct LateMemory {
  std::string storage, symbol;  ///< both name it
  std::size_t size = 0, alignment = 0;
};

/// One stage of a cell as linkable code.
struct CompiledPart {
  std::string text;       ///< what was parsed
  std::string object;     ///< ELF
  std::string entry;      ///< symbol of the function of its initialisers
  bool runs = false;      ///< that function does something
  std::string coroutine;  ///< symbol; empty without one
  std::vector<LateMemory> late;
  std::vector<PiecePlace> pieces;
};

/// What the process's own compiler must see of it.
struct FollowedPart {
  std::string text;
  std::vector<PiecePlace> pieces;
};

/// A function of cells, and all of the cells' text it needs.
struct NeededSource {
  std::string key;  ///< of the FunctionAsk
  FunctionSource source;
};

struct Compilation {
  bool ok = false;
  std::string text;          ///< diagnostics, coloured
  bool parse_issue = false;  ///< an error was of grammar, not of meaning
  bool ambiguous = false;    ///< some piece was taken for a declaration by its look
  std::vector<CompiledPart> parts;
  bool here = false;  ///< it was compiled by this process, which therefore knows it
  std::vector<NeededSource> functions;
  std::vector<std::string> wanted;  ///< symbols (as mangled) that the parts use and none of them defines
};

std::string pack(const CompileRequest& request);
std::string pack(const Compilation& compilation);
CompileRequest unpack_request(const std::string& data);
Compilation unpack_compilation(const std::string& data);

}  // namespace caller::kernel
