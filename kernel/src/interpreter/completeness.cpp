#include "completeness.hpp"

#include "splitter.hpp"

namespace caller::kernel {

Completeness lexical_completeness(const std::string& code) {
  using Status = Completeness::Status;
  const TokenList list = tokenize(code);
  const auto indent = [&](std::size_t levels) {
    // The last line's own indentation, one level more for each bracket it opened.
    const auto line =
        code.find_last_not_of(" \t\n") == std::string::npos ? 0 : code.rfind('\n', code.find_last_not_of(" \t\n"));
    std::size_t b = line == std::string::npos ? 0 : line + (code[line] == '\n');
    std::size_t e = b;
    while (e < code.size() && (code[e] == ' ' || code[e] == '\t')) ++e;
    return code.substr(b, e - b) + std::string(levels * 4, ' ');
  };
  if (list.stray_bracket || list.bad_string) return {Status::invalid, {}};
  if (list.open_comment || list.open_string) return {Status::incomplete, {}};
  if (list.open_line) return {Status::incomplete, indent(0)};
  const auto& ts = list.tokens;
  if (list.open_bracket) {
    const auto end = code.find_last_not_of(" \t\n");
    const bool opened = end != std::string::npos && (code[end] == '{' || code[end] == '(' || code[end] == '[');
    return {Status::incomplete, indent(opened ? 1 : 0)};
  }
  if (ts.empty()) return {Status::complete, {}};
  int conditionals = 0;
  for (const auto& t : ts) {
    if (t.kind != Token::Kind::directive) continue;
    const auto word = t.text.find_first_not_of("# \t");
    const auto name = word == std::string_view::npos ? std::string_view() : t.text.substr(word);
    if (name.substr(0, 2) == "if") ++conditionals;
    if (name.substr(0, 5) == "endif") --conditionals;
  }
  if (conditionals > 0) return {Status::incomplete, {}};
  const Token& last = ts.back();
  if (last.kind == Token::Kind::directive) return {Status::complete, {}};
  static constexpr std::string_view open_ends[] = {
      "+", "-", "*", "/",  "%",  "=", "==", "<<", ">>", "&&", "||", "&",  "|",
      "^", ",", ".", "->", "::", "?", "!",  "+=", "-=", "<",  "!=", "<=", ">="};
  for (const auto o : open_ends)
    if (last.kind == Token::Kind::punctuator && last.is(o)) return {Status::incomplete, indent(1)};
  for (const auto o : {"else", "do", "return", "co_await", "new", "and", "or", "not", "template", "namespace", "class",
                       "struct", "try", "typename", "using", "throw"})
    if (last.kind == Token::Kind::identifier && last.is(o)) return {Status::incomplete, indent(1)};
  const auto chunks = split(list, code, {});
  if (!chunks.empty()) {
    const auto& c = chunks.back();
    const auto& first = ts[c.first];
    // `if (x)` without what it governs, `template <…>` without what it declares, `do {} ` without its while.
    if ((first.is("if") || first.is("while") || first.is("for") || first.is("switch")) && last.is(")") &&
        last.match == c.first + 1)
      return {Status::incomplete, indent(1)};
    if (first.is("do") && last.is("}")) return {Status::incomplete, indent(0)};
    if (first.is("try") && last.is("}") && c.last - c.first > 1 && ts[c.first + 1].match == c.last - 1)
      return {Status::incomplete, indent(0)};
    if (first.is("template") && c.last > c.first + 1 && ts[c.first + 1].is("<") &&
        after_angles(ts, c.first + 1, c.last) == c.last)
      return {Status::incomplete, indent(0)};
    // int f(int x)⏎ — the body comes on the next line.
    if (c.kind == Chunk::Kind::declaration && !c.terminated && last.is(")") && !c.function)
      return {Status::incomplete, indent(0)};
    if (c.kind == Chunk::Kind::declaration && c.class_like && !c.terminated && !last.is("}"))
      return {Status::incomplete, indent(0)};
  }
  return {Status::complete, {}};
}

std::string unbalanced(const std::string& code, int cell_number) {
  const TokenList list = tokenize(code);
  const auto report = [&](std::size_t at, const std::string& message) {
    std::size_t b = at == 0 ? std::string::npos : code.rfind('\n', at - 1);
    b = b == std::string::npos ? 0 : b + 1;
    const auto e = code.find('\n', at);
    std::size_t line = 1;
    for (std::size_t i = 0; i < b; ++i) line += code[i] == '\n';
    std::string pad;
    for (std::size_t i = b; i < at; ++i) pad += code[i] == '\t' ? '\t' : ' ';
    return "\033[1mCell [" + std::to_string(cell_number) + "]:" + std::to_string(line) + ":" +
           std::to_string(at - b + 1) + ": \033[0m\033[0;1;31merror: \033[0m\033[1m" + message + "\033[0m\n    " +
           code.substr(b, e == std::string::npos ? e : e - b) + "\n    " + pad + "\033[0;1;32m^\033[0m\n";
  };
  if (list.open_comment) return report(code.rfind("/*"), "unterminated /* comment");
  if (list.open_string) return report(list.tokens.back().begin, "unterminated raw string");
  for (const auto& t : list.tokens) {
    if (t.kind == Token::Kind::directive && t.text.find("if") != std::string_view::npos)
      return {};  // each branch may hold one
    if (t.kind != Token::Kind::punctuator || t.match != Token::kUnmatched || t.text.size() != 1) continue;
    const char c = t.text[0];
    if (c == '(' || c == '[' || c == '{') return report(t.begin, std::string("this '") + c + "' is never closed");
    if (c == ')' || c == ']' || c == '}') return report(t.begin, std::string("extraneous closing '") + c + "'");
  }
  return {};
}

}  // namespace caller::kernel
