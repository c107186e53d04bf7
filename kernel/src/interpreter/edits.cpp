#include "edits.hpp"

#include <algorithm>

namespace caller::kernel {
namespace {

bool one_of(std::string_view t, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), t) != words.end();
}

std::size_t past(const std::vector<Token>& ts, std::size_t i, std::size_t to) {
  return ts[i].match == Token::kUnmatched || ts[i].match < i ? to : std::min(ts[i].match + 1, to);
}

bool is_word(const Token& t) { return t.kind == Token::Kind::identifier && !t.alternative; }

std::size_t skip_head(const std::vector<Token>& ts, const Chunk& c) {
  std::size_t i = c.first;
  while (i + 1 < c.last && ts[i].is("template") && ts[i + 1].is("<")) {
    const auto e = after_angles(ts, i + 1, c.last);
    if (e == i + 1) break;
    i = e;
  }
  while (i + 1 < c.last && ts[i].is("[") && ts[i + 1].is("[")) i = past(ts, i, c.last);
  return i;
}

// Looks like the declarator of a local of this name, before token `to`.
bool declared_locally(const std::vector<Token>& ts, std::size_t first, std::size_t to, std::string_view name) {
  for (std::size_t i = first + 1; i < to; ++i) {
    if (!ts[i].is(name) || !is_word(ts[i])) continue;
    const Token& p = ts[i - 1];
    const std::string_view n = i + 1 < ts.size() ? ts[i + 1].text : std::string_view();
    const bool before = (is_word(p) && !one_of(p.text, {"return", "co_await", "co_return", "co_yield", "throw", "case",
                                                        "new", "delete", "goto", "else", "do"})) ||
                        p.is("*") || p.is("&") || p.is("&&") || p.is(">") || p.is("]");
    if (before && one_of(n, {"=", ";", ":", "{", "(", ",", ")", "["})) return true;
    // Structured bindings: auto [a, name].
    for (std::size_t k = i; k > first && (is_word(ts[k]) || ts[k].is(",")); --k)
      if (ts[k - 1].is("[") && k >= 2 && (ts[k - 2].is("auto") || ts[k - 2].is("&") || ts[k - 2].is("&&")) &&
          one_of(n, {",", "]"}))
        return true;
  }
  return false;
}

}  // namespace

Edits merged(Edits a, Edits b) {
  a.insert(a.end(), std::make_move_iterator(b.begin()), std::make_move_iterator(b.end()));
  std::stable_sort(a.begin(), a.end(), [](const Edit& x, const Edit& y) { return x.begin < y.begin; });
  return a;
}

std::string apply(const std::string& code, std::size_t begin, std::size_t end, const Edits& edits) {
  std::string out;
  std::size_t at = begin;
  for (const auto& e : edits) {
    if (e.begin < at || e.end > end) continue;
    out.append(code, at, e.begin - at);
    out += e.text;
    at = e.end;
  }
  out.append(code, at, end - at);
  return out;
}

std::set<std::string> names_of_values(const std::vector<Token>& ts) {
  std::set<std::string> out;
  for (std::size_t i = 0; i < ts.size(); ++i) {
    const Token& t = ts[i];
    if (t.is("typedef") || t.is("using")) {
      while (i < ts.size() && !ts[i].is(";")) ++i;
      continue;
    }
    if ((t.is("(") || t.is("{") || t.is("[")) && t.match != Token::kUnmatched && t.kind == Token::Kind::punctuator) {
      i = t.match;
      continue;
    }
    if (i == 0 || !is_word(t) || i + 1 >= ts.size()) continue;
    const Token& p = ts[i - 1];
    if (one_of(p.text, {"class", "struct", "union", "enum", "namespace", "typename", "concept", "return", "throw",
                        "new", "delete", "goto", "co_await", "::"}))
      continue;
    if ((is_word(p) || p.is(">") || p.is("*") || p.is("&")) && one_of(ts[i + 1].text, {"=", ";", "{", ",", "("})) {
      // `a * b;` may be an expression; a declarator's name only follows a type.
      if ((p.is("*") || p.is("&")) && !ts[i + 1].is("=")) continue;
      out.emplace(t.text);
    }
  }
  return out;
}

std::size_t declared_name(const std::vector<Token>& ts, const Chunk& c) {
  std::size_t i = skip_head(ts, c);
  for (; i < c.last; ++i) {
    const Token& t = ts[i];
    if (t.is("operator") && is_word(t)) return i;
    if (t.is("<") && i > c.first && is_word(ts[i - 1])) {
      const auto e = after_angles(ts, i, c.last);
      if (e != i) i = e - 1;
      continue;
    }
    if (is_word(t) && one_of(t.text, {"decltype", "alignas", "__attribute__", "explicit", "requires"}) &&
        i + 1 < c.last && ts[i + 1].is("(")) {
      i = past(ts, i + 1, c.last) - 1;
      continue;
    }
    if (t.is("(") && i + 1 < c.last && (ts[i + 1].is("*") || ts[i + 1].is("&"))) {  // T (*name)(…)
      std::size_t k = i + 1;
      while (k < c.last && !is_word(ts[k])) ++k;
      return k;
    }
    if (t.kind == Token::Kind::punctuator && one_of(t.text, {"=", "(", "{", ";", "[", ":"}) && i > c.first) {
      if (t.is("[") && i + 1 < c.last && ts[i + 1].is("[")) {
        i = past(ts, i, c.last) - 1;
        continue;
      }
      return is_word(ts[i - 1]) ? i - 1 : c.last;
    }
  }
  return c.last > c.first && is_word(ts[c.last - 1]) ? c.last - 1 : c.last;
}

bool belongs_outside(const std::vector<Token>& ts, const Chunk& c) {
  const Token& first = ts[c.first];
  if (first.is("using")) {
    for (std::size_t i = c.first; i < c.last; ++i)
      if (ts[i].is("=")) return false;
    return true;
  }
  if (first.is("extern") && c.first + 1 < c.last && ts[c.first + 1].is("template")) return true;
  if (first.is("template")) {
    if (c.first + 1 >= c.last || !ts[c.first + 1].is("<")) return true;  // explicit instantiation
    if (c.first + 2 < c.last && ts[c.first + 2].is(">")) return true;    // explicit specialisation
  }
  const std::size_t head = skip_head(ts, c);
  if (c.class_like) {  // template <class T> struct X<T*> {…}, struct A::B {…}
    for (std::size_t i = head; i < c.last && !ts[i].is("{") && !ts[i].is(";") && !ts[i].is(":"); ++i) {
      if (ts[i].is("<") && head != c.first) return true;
      if (ts[i].is("::")) return true;
    }
    return false;
  }
  const std::size_t n = declared_name(ts, c);
  if (n >= c.last || n < c.first + 1) return false;
  std::size_t k = n;
  if (k > c.first && ts[k - 1].is("~")) --k;
  return k >= c.first + 2 && ts[k - 1].is("::") && (is_word(ts[k - 2]) || ts[k - 2].is(">"));
}

Edits static_edits(const std::vector<Token>& ts, const Chunk& c) {
  Edits out;
  for (std::size_t i = skip_head(ts, c); i < c.last; ++i) {
    if (ts[i].is("static") && is_word(ts[i])) out.push_back({ts[i].begin, ts[i].end, std::string(6, ' ')});
    if (one_of(ts[i].text, {"(", "=", "{", ";"})) break;
  }
  return out;
}

Edits main_edits(const std::vector<Token>& ts, const Chunk& c) {
  const std::size_t n = declared_name(ts, c);
  if (n >= c.last || n == c.first || !ts[n].is("main") || !ts[n - 1].is("int") || !ts[c.last - 1].is("}")) return {};
  return {{ts[c.last - 1].begin, ts[c.last - 1].begin, "return 0;"}};
}

FunctionName function_given(const std::vector<Token>& ts, std::size_t i, std::size_t last) {
  FunctionName out;
  if (!ts[i].is("task") || !is_word(ts[i]) || i < 2 || i + 3 >= last || !ts[i + 1].is("(")) return out;
  if (!ts[i - 1].is(".") && !ts[i - 1].is("->")) return out;
  std::size_t k = i + 2;
  if (ts[k].is("&")) ++k;
  if (k < last && ts[k].is("::")) ++k;
  const std::size_t first = k;
  std::string name;
  for (; k + 1 < last && is_word(ts[k]); k += 2) {
    name += ts[k].text;
    if (!ts[k + 1].is("::")) break;
    name += "::";
  }
  if (k + 1 >= last || !is_word(ts[k]) || (!ts[k + 1].is(",") && !ts[k + 1].is(")"))) return out;
  return {std::move(name), ts[first].begin, ts[k].end, ts[i + 2].begin};
}

bool needs_extern(const std::vector<Token>& ts, const Chunk& c) {
  if (c.function || c.class_like || c.names_space) return false;
  if (one_of(ts[c.first].text, {"template", "typedef", "using", "friend", "static_assert", "extern", "inline",
                                "concept", "asm", "namespace"}))
    return false;
  const std::size_t n = declared_name(ts, c);
  if (n >= c.last || n + 1 >= c.last || ts[n].is("operator") || ts[n].is("auto")) return false;
  if (!one_of(ts[n + 1].text, {"=", "{", "("})) return false;
  if (n > c.first && ts[n - 1].is("::")) return false;
  bool is_const = false;
  for (std::size_t i = c.first; i < n; ++i) {
    if (ts[i].is("inline") || ts[i].is("extern")) return false;
    if (ts[i].is("const") || ts[i].is("constexpr")) is_const = true;
    if (ts[i].is("[")) return false;
  }
  return is_const;
}

Edits capture_edits(const std::vector<Token>& ts, std::size_t first, std::size_t last, bool namespace_scope) {
  Edits out;
  visit_own_tokens(ts, first, last, [&](std::size_t i) {
    if (!ts[i].is("[") || !begins_lambda(ts, i)) return;
    const std::size_t close = ts[i].match;
    bool only_defaults = true;
    Edits here;
    for (std::size_t k = i + 1; k < close;) {
      std::size_t e = k;  // the end of this capture
      while (e < close && !ts[e].is(",")) e = one_of(ts[e].text, {"(", "{", "["}) ? past(ts, e, close) : e + 1;
      const bool reference = ts[k].is("&");
      const std::size_t name = reference ? k + 1 : k;
      if (e == k + 1 && (ts[k].is("&") || ts[k].is("="))) {
        if (namespace_scope)
          here.push_back({ts[k].begin, e < close ? ts[e].end : ts[k].end,
                          std::string((e < close ? ts[e].end : ts[k].end) - ts[k].begin, ' ')});
      } else if (e == name + 1 && is_word(ts[name]) && !ts[name].is("this")) {
        only_defaults = false;
        if (namespace_scope || !declared_locally(ts, first, i, ts[name].text))
          here.push_back({ts[name].end, ts[name].end, " = " + std::string(ts[name].text)});
      } else {
        only_defaults = false;
      }
      k = e < close ? e + 1 : close;
    }
    (void)only_defaults;
    out.insert(out.end(), here.begin(), here.end());
  });
  return out;
}

LateParts late_parts(const std::vector<Token>& ts, const Chunk& c) {
  LateParts p;
  if (c.class_like || c.function) return p;
  std::size_t last = c.last;
  if (last > c.first && ts[last - 1].is(";")) --last;
  // auto [a, b] = …
  for (std::size_t i = c.first; i + 1 < last && !ts[i].is("=") && !ts[i].is("("); ++i)
    if (ts[i].is("[") && i > c.first && (ts[i - 1].is("auto") || ts[i - 1].is("&") || ts[i - 1].is("&&"))) {
      const std::size_t e = past(ts, i, last);
      if (e >= last || !ts[e].is("=")) return p;
      p = {true, true, i, e + 1, last, '='};
      return p;
    }
  const std::size_t n = declared_name(ts, c);
  if (n + 2 >= last || n == c.first) return p;
  p.name = n;
  if (ts[n + 1].is("=")) {
    p.init_first = n + 2;
    p.init_last = last;
    for (std::size_t i = n + 2; i < last; ++i) {  // a second declarator
      if (ts[i].is(",")) return p;
      if (ts[i].is("<") && i > 0 && is_word(ts[i - 1])) {
        const auto e = after_angles(ts, i, last);
        if (e != i) i = e - 1;
      } else if (one_of(ts[i].text, {"(", "{", "["})) {
        i = past(ts, i, last) - 1;
      }
    }
  } else if (ts[n + 1].is("(") || ts[n + 1].is("{")) {
    if (past(ts, n + 1, last) != last) return p;
    p.init_open = ts[n + 1].text[0];
    p.init_first = n + 2;
    p.init_last = last - 1;
  } else {
    return p;
  }
  p.ok = p.init_first < p.init_last;
  return p;
}

std::string late_type(const std::string& code, const std::vector<Token>& ts, const Chunk& c, const LateParts& p,
                      const std::string& init) {
  std::string out;
  std::size_t at = ts[c.first].begin;
  for (std::size_t i = c.first; i < p.name; ++i) {
    if (ts[i].is("static") || ts[i].is("inline")) {
      out.append(code, at, ts[i].begin - at);
      at = ts[i].end;
    }
    if (!ts[i].is("auto")) continue;
    out.append(code, at, ts[i].begin - at);
    at = ts[i].end;
    std::string how = "auto_value";
    for (std::size_t k = i + 1; k < p.name; ++k) {
      if (ts[k].is("&&")) {
        how = "auto_forward";
        out += "::caller::kernel::detail::auto_forward<decltype((" + init + "))>";
        out.append(code, at, ts[k].begin - at);
        at = ts[k].end;
        how.clear();
        break;
      }
      if (ts[k].is("&")) how = "auto_reference";
      if (ts[k].is("*")) how = "auto_pointer";
    }
    if (how.empty()) continue;
    if (p.bindings) how = "auto_value";
    out += "::caller::kernel::detail::" + how + "<decltype((" + init + "))>";
  }
  out.append(code, at, ts[p.name].begin - at);
  if (p.bindings)  // the bindings bring their own reference
    out.erase(
        std::remove(out.begin() + static_cast<std::ptrdiff_t>(out.rfind('>') == std::string::npos ? 0 : out.rfind('>')),
                    out.end(), '&'),
        out.end());
  return out;
}

std::string late_bindings(const std::string& code, const std::vector<Token>& ts, const LateParts& p) {
  return "auto& " + code.substr(ts[p.name].begin, ts[ts[p.name].match].end - ts[p.name].begin);
}

}  // namespace caller::kernel
