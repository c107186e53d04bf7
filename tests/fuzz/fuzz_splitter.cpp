// Cells cut into pieces and put together for the compiler, without a compiler.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "interpreter/assemble.hpp"
#include "interpreter/completeness.hpp"

using namespace caller::kernel;

namespace {

void require(bool good) {
  if (!good) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string code(reinterpret_cast<const char*>(data), size);
  const TokenList list = tokenize(code);
  std::size_t at = 0;
  for (const Token& token : list.tokens) {
    require(token.begin >= at && token.begin < token.end && token.end <= code.size());
    require(token.match == Token::kUnmatched || token.match < list.tokens.size());
    at = token.end;
  }
  at = 0;
  std::size_t next = 0;
  for (const Chunk& chunk : split(list, code, [](std::string_view name) { return name.size() % 2 == 0; })) {
    require(chunk.first >= next && chunk.first <= chunk.last && chunk.last <= list.tokens.size());
    require(chunk.begin >= at && chunk.begin <= chunk.end && chunk.end <= code.size());
    next = chunk.last;
    at = chunk.end;
  }
  AssembleOptions options;
  options.unit = 1;
  options.number = 1;
  for (const bool expression : {false, true}) {
    options.ambiguous_is_expression = expression;
    require(!assemble(code, options).stages.empty());
  }
  options.cursor = code.size();
  const Assembly with_cursor = assemble(code, options);
  if (with_cursor.cursor != std::string::npos) {
    require(with_cursor.cursor_stage < with_cursor.stages.size());
    require(with_cursor.cursor <= with_cursor.stages[with_cursor.cursor_stage].text.size());
  }
  (void)lexical_completeness(code);
  (void)unbalanced(code, 1);
  return 0;
}
