#include "splitter.hpp"

#include <algorithm>
#include <array>

namespace caller::kernel {
namespace {

template <std::size_t N>
bool any_of(std::string_view t, const std::array<std::string_view, N>& words) {
  return std::find(words.begin(), words.end(), t) != words.end();
}

constexpr std::array<std::string_view, 27> kDeclares{
    "template",     "namespace",     "using",    "typedef", "class",     "struct",    "union",
    "enum",         "static",        "extern",   "inline",  "constexpr", "consteval", "constinit",
    "thread_local", "static_assert", "concept",  "asm",     "__asm__",   "auto",      "const",
    "volatile",     "mutable",       "register", "friend",  "alignas",   "typename"};
constexpr std::array<std::string_view, 17> kBuiltin{
    "void",     "bool",    "char",    "short",    "int",      "long",     "float",    "double",  "signed",
    "unsigned", "wchar_t", "char8_t", "char16_t", "char32_t", "__int128", "decltype", "_Float16"};
constexpr std::array<std::string_view, 20> kExpression{
    "new",      "delete",           "throw",        "this",    "co_await",
    "co_yield", "co_return",        "return",       "sizeof",  "alignof",
    "typeid",   "static_cast",      "dynamic_cast", "goto",    "true",
    "false",    "reinterpret_cast", "const_cast",   "nullptr", "noexcept"};
constexpr std::array<std::string_view, 4> kJumps{"break", "continue", "return", "co_return"};
constexpr std::array<std::string_view, 8> kControl{"if", "for", "while", "do", "switch", "try", "case", "default"};
constexpr std::array<std::string_view, 4> kClassKeys{"class", "struct", "union", "enum"};
constexpr std::array<std::string_view, 9> kNoParameters{"decltype", "sizeof", "alignas",  "alignof",      "noexcept",
                                                        "requires", "typeid", "explicit", "__attribute__"};

bool keyword_like(std::string_view t) {
  return any_of(t, kDeclares) || any_of(t, kBuiltin) || any_of(t, kExpression) || any_of(t, kControl) || t == "else" ||
         t == "operator" || t == "requires" || t == "catch" || t == "goto" || any_of(t, kJumps);
}

bool conditional(std::string_view directive) {
  const auto word = directive.find_first_not_of("#% \t:");
  const auto name = word == std::string_view::npos ? std::string_view() : directive.substr(word);
  return name.substr(0, 2) == "if" || name.substr(0, 2) == "el" || name.substr(0, 5) == "endif";
}

class Splitter {
public:
  Splitter(const TokenList& list, const IsValue& is_value, std::size_t to, bool declarations_only)
      : ts_(list.tokens),
        is_value_(is_value),
        to_(std::min(to, list.tokens.size())),
        declarations_only_(declarations_only) {}

  std::vector<Chunk> run(std::size_t from) {
    std::vector<Chunk> out;
    std::size_t i = from;
    while (i < to_) {
      Chunk c;
      c.first = i;
      if (ts_[i].kind == Token::Kind::directive) {
        c.kind = Chunk::Kind::directive;
        c.terminated = true;
        c.last = i + 1;
      } else if (ts_[i].is(";")) {  // `struct X {…};` has eaten its own; this one ends the piece before
        if (!out.empty()) out.back().terminated = true;
        ++i;
        continue;
      } else if (word(i) && ts_[i].text.starts_with("CALLER_") && at(i + 1, "(")) {
        // Macros of this library that declare something, and look like a call: CALLER_TASK_FIELDS(Point, x, y).
        c.kind = Chunk::Kind::declaration;
        c.function = c.terminated = true;
        c.last = past(i + 1);
      } else {
        cut(c);
      }
      c.last = std::min(c.last, to_);
      c.begin = ts_[c.first].begin;
      c.end = ts_[c.last - 1].end;
      i = c.last;
      out.push_back(c);
    }
    return out;
  }

private:
  bool at(std::size_t i, std::string_view t) const {
    return i < to_ && ts_[i].text == t && ts_[i].kind != Token::Kind::string;
  }
  bool word(std::size_t i) const { return i < to_ && ts_[i].kind == Token::Kind::identifier && !ts_[i].alternative; }
  bool name(std::size_t i) const { return word(i) && !keyword_like(ts_[i].text); }
  std::size_t past(std::size_t i) const {  // after the bracket that opens at i
    return i < to_ && ts_[i].match != Token::kUnmatched && ts_[i].match > i ? std::min(ts_[i].match + 1, to_) : to_;
  }

  void cut(Chunk& c) {
    std::size_t i = skip_attributes(c.first);
    if (!declarations_only_ && i < to_ && (any_of(ts_[i].text, kControl) || at(i, "{")) &&
        ts_[i].kind != Token::Kind::string) {
      c.last = statement(c.first);
      c.terminated = true;
    } else if (!declarations_only_ && name(i) && at(i + 1, ":")) {
      c.last = statement(c.first);
      c.terminated = true;
    } else {
      std::size_t n = i;
      if (at(n, "inline")) ++n;
      if (at(n, "namespace")) {
        std::size_t j = n + 1;
        while (j < to_ && !at(j, "{") && !at(j, ";") && !at(j, "=")) ++j;
        if (at(j, "{")) {
          c.kind = Chunk::Kind::declaration;
          c.names_space = true;
          c.terminated = true;
          c.last = past(j);
          return;
        }
      }
      simple(c);
      c.kind = declarations_only_ || declares(c) ? Chunk::Kind::declaration : Chunk::Kind::statement;
      if (c.kind == Chunk::Kind::statement && !any_of(ts_[i].text, kJumps) && !at(i, "goto")) c.expression = true;
    }
    if (c.kind == Chunk::Kind::statement || !c.function)
      visit_own_tokens(ts_, c.first, c.last, [&](std::size_t k) {
        if (ts_[k].kind == Token::Kind::identifier && ts_[k].is("co_await")) c.awaits = true;
      });
  }

  std::size_t skip_attributes(std::size_t i) const {
    while (at(i, "[") && at(i + 1, "[")) i = past(i);
    while (at(i, "__attribute__") && at(i + 1, "(")) i = past(i + 1);
    if (at(i, "__extension__")) ++i;
    return i;
  }

  // The token after the statement that begins at i.
  std::size_t statement(std::size_t i) const {
    i = skip_attributes(i);
    if (i >= to_) return to_;
    if (ts_[i].kind == Token::Kind::directive) return statement(i + 1);
    if (at(i, "{")) return past(i);
    if (at(i, "if") || at(i, "for") || at(i, "while") || at(i, "switch")) {
      const bool branch = at(i, "if");
      ++i;
      while (at(i, "constexpr") || at(i, "consteval") || at(i, "!") || at(i, "not") || at(i, "co_await")) ++i;
      if (at(i, "(")) i = past(i);
      i = statement(i);
      std::size_t e = i;
      while (e < to_ && ts_[e].kind == Token::Kind::directive) ++e;
      return branch && at(e, "else") ? statement(e + 1) : i;
    }
    if (at(i, "do")) {
      i = statement(i + 1);
      while (i < to_ && !at(i, ";")) i = at(i, "(") ? past(i) : i + 1;
      return std::min(i + 1, to_);
    }
    if (at(i, "try")) {
      i = statement(i + 1);
      while (at(i, "catch")) {
        ++i;
        if (at(i, "(")) i = past(i);
        i = statement(i);
      }
      return i;
    }
    if (at(i, "case") || at(i, "default") || (name(i) && at(i + 1, ":"))) {
      while (i < to_ && !at(i, ":")) ++i;
      return statement(i + 1);
    }
    while (i < to_ && !at(i, ";")) i = at(i, "(") || at(i, "{") || at(i, "[") ? past(i) : i + 1;
    return std::min(i + 1, to_);
  }

  // A declaration or expression statement: to its `;`, or to the end of a function body.
  void simple(Chunk& c) const {
    std::size_t i = skip_attributes(c.first);
    while (at(i, "template") && at(i + 1, "<")) i = after_angles(ts_, i + 1, to_);
    std::size_t k = i;
    while (k < to_ && (at(k, "typedef") || at(k, "static") || at(k, "inline") || at(k, "constexpr") || at(k, "const") ||
                       at(k, "extern") || at(k, "export")))
      ++k;
    const bool class_key = k < to_ && word(k) && any_of(ts_[k].text, kClassKeys);
    c.class_like = class_key;
    bool assign = false, parameters = false, lambda = false, arrow = false, initialisers = false, constraint = false;
    while (i < to_) {
      const Token& t = ts_[i];
      const std::string_view previous = i > c.first ? ts_[i - 1].text : std::string_view();
      if (t.kind == Token::Kind::directive && i > c.first && !conditional(t.text)) {
        c.last = i;  // the `;` was forgotten, or left out for the value to be shown
        return;
      }
      if (t.kind == Token::Kind::directive || t.kind == Token::Kind::string || t.kind == Token::Kind::character) {
        ++i;
      } else if (t.is(";")) {
        c.last = i + 1;
        c.terminated = true;
        return;
      } else if (t.is(")") || t.is("]") || t.is("}")) {
        c.last = i + 1;  // a stray one: the compiler will say so
        return;
      } else if (t.is("operator") && word(i)) {
        ++i;
        if (at(i, "(") || at(i, "["))
          i = past(i);
        else if (i < to_ && ts_[i].kind == Token::Kind::punctuator)
          ++i;
      } else if (t.is("requires") && word(i)) {
        constraint = true;
        ++i;
      } else if (t.is("(")) {
        if (!any_of(previous, kNoParameters) && !lambda && i > c.first) parameters = true;
        i = past(i);
      } else if (t.is("[")) {
        if (begins_lambda(ts_, i)) lambda = true;
        i = past(i);
      } else if (t.is("{")) {
        const std::size_t close = past(i);
        const bool requires_body =
            previous == "requires" || (previous == ")" && ts_[i - 1].match != Token::kUnmatched &&
                                       ts_[i - 1].match > 0 && ts_[ts_[i - 1].match - 1].is("requires"));
        bool body = false;
        if (!assign && !lambda && !requires_body) {
          if (previous == "\"C\"" || previous == "\"C++\"") {
            body = true;  // extern "C" { … }
          } else if (parameters) {
            static constexpr std::array<std::string_view, 9> qualifiers{
                "const", "volatile", "noexcept", "override", "final", "&", "&&", "try", "mutable"};
            if (initialisers)
              body = previous == ")" || previous == "}" || previous == "...";
            else
              body = previous == ")" || any_of(previous, qualifiers) || arrow || constraint;
          }
        }
        if (body) {
          c.function = parameters;
          std::size_t e = close;
          while (at(e, "catch") && at(e + 1, "(")) {
            e = past(e + 1);
            if (at(e, "{")) e = past(e);
          }
          c.last = e;
          c.terminated = true;
          return;
        }
        i = close;
      } else {
        if (t.is("=")) assign = true;
        if (t.is("->") && parameters) arrow = true;
        if (t.is(":") && parameters) initialisers = true;
        ++i;
      }
    }
    c.last = to_;
  }

  bool declares(Chunk& c) const {
    std::size_t i = skip_attributes(c.first);
    if (i >= c.last) return true;
    const Token& t = ts_[i];
    if (c.class_like) return true;
    if (t.kind == Token::Kind::identifier && !t.alternative) {
      if (any_of(t.text, kExpression) && !(t.is("noexcept"))) return false;
      if (any_of(t.text, kJumps)) return false;
      if (t.is("auto") && at(i + 1, "(")) return false;  // auto(x)
      if (t.is("auto") && at(i + 1, "{")) return false;
      if (any_of(t.text, kDeclares)) return true;
      if (any_of(t.text, kBuiltin)) return builtin_declares(c, i);
      if (t.is("operator")) return true;
    }
    if (t.kind == Token::Kind::identifier || t.is("::")) return named_declares(c, i);
    return false;
  }

  bool builtin_declares(const Chunk& c, std::size_t i) const {
    while (i < c.last && word(i) && (any_of(ts_[i].text, kBuiltin) || at(i, "const") || at(i, "volatile"))) {
      const bool type_of = at(i, "decltype");
      ++i;
      if (type_of && at(i, "(")) i = past(i);
    }
    if (at(i, "::")) return named_tail(const_cast<Chunk&>(c), i, {});
    if (at(i, "(")) return c.function || at(i + 1, "*") || at(i + 1, "&") || at(i + 1, "&&");
    return !at(i, "{");
  }

  bool named_declares(Chunk& c, std::size_t i) const { return named_tail(c, i, ts_[i].text); }

  // After a name that may be a type: what follows tells a declaration.
  bool named_tail(Chunk& c, std::size_t i, std::string_view first) const {
    std::size_t components = 0;
    std::string_view last_name, before_last;
    bool angles = false;
    if (at(i, "::")) ++i;
    for (;;) {
      if (at(i, "template")) ++i;
      if (at(i, "~") && c.function) return true;                   // A::~A() {…}
      if (at(i, "operator")) return c.function || c.last > i + 3;  // A::operator…
      if (!name(i)) return components > 0 && c.function;
      before_last = last_name;
      last_name = ts_[i].text;
      ++components;
      ++i;
      if (at(i, "<")) {
        const auto e = after_angles(ts_, i, c.last);
        if (e == i) return false;
        i = e;
        angles = true;
      }
      if (!at(i, "::")) break;
      ++i;
    }
    if (i >= c.last) return false;
    const Token& t = ts_[i];
    if (t.alternative) return false;
    if (word(i)) return true;  // two names in a row
    if (t.is("...")) return true;
    if (t.is("*") || t.is("&") || t.is("&&")) {
      while (at(i, "*") || at(i, "&") || at(i, "&&") || at(i, "const") || at(i, "volatile")) ++i;
      if (at(i, "operator")) return true;
      if (!name(i)) return false;
      ++i;
      while (at(i, "::") && name(i + 1)) i += 2;
      if (components == 1 && !angles && is_value_ && is_value_(first)) return false;
      if (i >= c.last) return false;  // `a * b` at the end of a cell is to be shown
      if (at(i, ";") || at(i, "=") || at(i, ",") || at(i, "(") || at(i, "[") || at(i, "{")) {
        c.ambiguous = true;
        return true;
      }
      return false;
    }
    if (t.is("(")) {
      if (c.function) return true;  // a constructor's definition, or a macro with a body
      const auto close = past(i);
      if (at(close, "->") && at(close + 1, last_name)) return true;  // a deduction guide
      if (at(i + 1, "*") && name(i + 2) && at(i + 3, ")") && at(i + 4, "(")) {
        const auto e = past(i + 4);
        return at(e, "=") || (at(e, ";") && !(is_value_ && is_value_(first)));
      }
    }
    return false;
  }

  const std::vector<Token>& ts_;
  const IsValue& is_value_;
  std::size_t to_;
  bool declarations_only_;
};

}  // namespace

std::vector<Chunk> split(const TokenList& list, std::string_view, const IsValue& is_value, std::size_t from,
                         std::size_t to, bool declarations_only) {
  return Splitter(list, is_value, to, declarations_only).run(from);
}

bool begins_lambda(const std::vector<Token>& ts, std::size_t i) {
  if (ts[i].text != "[" || ts[i].kind != Token::Kind::punctuator) return false;
  if (i + 1 < ts.size() && ts[i + 1].is("[") && ts[i].match != Token::kUnmatched && ts[i + 1].match == ts[i].match - 1)
    return false;
  if (ts[i].match == Token::kUnmatched) return false;
  if (i == 0) return true;
  const Token& p = ts[i - 1];
  if (p.kind == Token::Kind::identifier) {
    if (p.is("auto") || p.is("delete") || p.is("operator") || p.is("this")) return false;
    return p.alternative || p.is("return") || p.is("co_await") || p.is("co_return") || p.is("co_yield") ||
           p.is("throw") || p.is("case") || p.is("else") || p.is("do");
  }
  if (p.kind == Token::Kind::directive) return true;
  if (p.kind != Token::Kind::punctuator) return false;
  if ((p.is("&") || p.is("&&")) && i >= 2 && ts[i - 2].is("auto")) return false;
  if (p.is(")")) {  // `if (x) [] {…}();`: too rare; `f(x)[i]` is not
    return false;
  }
  if (p.is(">")) {  // `a<b>[…]` never begins a lambda, `x > []{}()` may
    return ts[i].match + 1 < ts.size() && (ts[ts[i].match + 1].is("{") || ts[ts[i].match + 1].is("("));
  }
  return !p.is("]");
}

std::size_t after_lambda(const std::vector<Token>& ts, std::size_t i, std::size_t to) {
  std::size_t k = ts[i].match + 1;
  while (k < to && !ts[k].is("{")) {
    if (ts[k].is(";") || ts[k].is(")") || ts[k].is("}") || ts[k].is("]")) return k;
    if ((ts[k].is("(") || ts[k].is("[")) && ts[k].match != Token::kUnmatched)
      k = ts[k].match + 1;
    else
      ++k;
  }
  if (k >= to) return to;
  return ts[k].match == Token::kUnmatched ? to : std::min(ts[k].match + 1, to);
}

std::size_t after_angles(const std::vector<Token>& ts, std::size_t i, std::size_t to) {
  int depth = 0;
  for (std::size_t k = i; k < to; ++k) {
    const Token& t = ts[k];
    if (t.is("<")) {
      ++depth;
    } else if (t.is(">")) {
      if (--depth == 0) return k + 1;
    } else if (t.is(">>") && depth > 0) {
      depth -= 2;
      if (depth <= 0) return k + 1;
    } else if (t.is("(") || t.is("[") || t.is("{")) {
      if (t.match == Token::kUnmatched || t.match < k) return i;
      k = t.match;
    } else if (t.is(";") || t.is("<<") || t.is("]") || t.is(")") || t.is("}")) {
      return i;
    }
  }
  return i;
}

void visit_own_tokens(const std::vector<Token>& ts, std::size_t from, std::size_t to,
                      const std::function<void(std::size_t)>& visit) {
  bool class_head = false;
  for (std::size_t i = from; i < to; ++i) {
    const Token& t = ts[i];
    if (t.kind == Token::Kind::identifier && any_of(t.text, kClassKeys)) class_head = true;
    if (t.kind == Token::Kind::punctuator) {
      if (t.is(";") || t.is("(") || t.is("=")) class_head = false;
      if (t.is("{") && class_head && t.match != Token::kUnmatched) {
        class_head = false;
        i = t.match;
        continue;
      }
      if (t.is("[") && begins_lambda(ts, i)) {
        visit(i);
        const auto e = after_lambda(ts, i, to);
        i = e > i ? e - 1 : i;
        continue;
      }
    }
    visit(i);
  }
}

}  // namespace caller::kernel
