// A cell as the text that clang compiles: its pieces inside namespaces, functions and coroutines.
//
// A cell becomes one or more stages, each a translation unit of its own: the static initialisers of a stage run first
// (plain statements are among them), then its coroutine, if it has one. Every piece keeps its line and column.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "interpreter.hpp"
#include "splitter.hpp"

namespace caller::kernel {

/// A global that a coroutine initialises: `auto x = co_await f();`.
struct LateVariable {
  std::string name;
  std::string storage;  ///< the symbol of its memory; the kernel gives it the size and alignment of `name`
};

/// Where a function is handed to something that wants to know more of it than its type: `app.task(f`.
struct FunctionAsk {
  std::string name;              ///< as it is written, `mine::f`
  std::string key;               ///< unique
  std::size_t line, column, to;  ///< of the name in the cell; `to` is the column behind it
};

/// A directive or declaration of the cell, and what became of it in the stage's text.
struct PiecePlace {
  std::size_t text_begin = 0, text_end = 0;  ///< bytes of the stage's text
  std::size_t begin = 0, end = 0;            ///< bytes of the cell
  bool directive = false;
  bool open = false;  ///< without its `;`
};

struct Stage {
  std::string text;
  std::string entry;      ///< symbol for the function of the static initialisers
  std::string coroutine;  ///< symbol of the coroutine, empty without one
  std::vector<LateVariable> late;
  std::vector<FunctionAsk> asks;  ///< what is known of these stands at the beginning of the text
  std::vector<PiecePlace> pieces;
};

/// The text that stands for what is known of a function: see caller::task::detail::know_function.
std::string known_text(unsigned unit, const FunctionAsk& ask, const Declared& found);

struct Assembly {
  std::vector<Stage> stages;
  bool ambiguous = false;        ///< some piece was taken for a declaration by its look
  std::size_t cursor_stage = 0;  ///< where AssembleOptions::cursor came to lie
  std::size_t cursor = std::string::npos;
  std::vector<std::pair<std::string, std::size_t>> functions;  ///< for tests and tools: kind of each piece, its offset
};

struct AssembleOptions {
  unsigned unit = 0;  ///< unique; names the cell's namespace
  int number = 0;     ///< shown in diagnostics
  bool show_result = true;
  bool ambiguous_is_expression = false;
  IsValue is_value;
  std::size_t cursor = std::string::npos;  ///< byte to find again in the result; the code must end there
};

Assembly assemble(const std::string& code, const AssembleOptions& options);

}  // namespace caller::kernel
