#include "tokens.hpp"

#include <array>
#include <cctype>
#include <string>

namespace caller::kernel {
namespace {

bool identifier_start(char c) {
  const auto u = static_cast<unsigned char>(c);
  return std::isalpha(u) || c == '_' || c == '$' || u >= 0x80;
}
bool identifier_part(char c) { return identifier_start(c) || std::isdigit(static_cast<unsigned char>(c)); }

class Scanner {
public:
  explicit Scanner(std::string_view code) : code_(code) {}

  TokenList run() {
    while (skip_blank()) {
      const std::size_t begin = at_;
      if (line_start_ && (peek() == '#' || starts("%:"))) {
        directive();
        add(Token::Kind::directive, begin);
        continue;
      }
      line_start_ = false;
      one(begin);
    }
    pair();
    return std::move(out_);
  }

private:
  char peek(std::size_t k = 0) const { return at_ + k < code_.size() ? code_[at_ + k] : '\0'; }
  bool starts(std::string_view s) const { return code_.substr(at_, s.size()) == s; }

  std::size_t splice() const {  // length of a backslash-newline here
    if (peek() != '\\') return 0;
    if (peek(1) == '\n') return 2;
    if (peek(1) == '\r' && peek(2) == '\n') return 3;
    return 0;
  }

  bool block_comment() {
    const auto end = code_.find("*/", at_ + 2);
    if (end == std::string_view::npos) {
      out_.open_comment = true;
      at_ = code_.size();
      return false;
    }
    at_ = end + 2;
    return true;
  }

  void line_comment() {
    while (at_ < code_.size() && peek() != '\n') at_ += splice() ? splice() : 1;
  }

  bool skip_blank() {
    while (at_ < code_.size()) {
      const char c = peek();
      if (c == '\n') {
        line_start_ = true;
        ++at_;
      } else if (std::isspace(static_cast<unsigned char>(c))) {
        ++at_;
      } else if (const auto n = splice()) {
        at_ += n;
        if (at_ >= code_.size()) out_.open_line = true;
      } else if (c == '\\' && at_ + 1 == code_.size()) {
        ++at_;
        out_.open_line = true;
      } else if (starts("//")) {
        line_comment();
      } else if (starts("/*")) {
        block_comment();
      } else {
        return true;
      }
    }
    return false;
  }

  void directive() {
    while (at_ < code_.size() && peek() != '\n') {
      if (const auto n = splice()) {
        at_ += n;
        if (at_ >= code_.size()) out_.open_line = true;
      } else if (peek() == '\\' && at_ + 1 == code_.size()) {
        ++at_;
        out_.open_line = true;
      } else if (starts("//")) {
        line_comment();
      } else if (starts("/*")) {
        if (!block_comment()) return;
      } else if (peek() == '"') {
        ++at_;
        while (at_ < code_.size() && peek() != '\n' && peek() != '"') at_ += peek() == '\\' && !splice() ? 2 : 1;
        if (peek() == '"') ++at_;
      } else {
        ++at_;
      }
    }
    if (at_ > code_.size()) at_ = code_.size();
  }

  void add(Token::Kind kind, std::size_t begin) {
    Token t;
    t.kind = kind;
    t.begin = begin;
    t.end = at_;
    t.text = code_.substr(begin, at_ - begin);
    t.match = Token::kUnmatched;
    out_.tokens.push_back(t);
  }

  void raw_string() {  // at the quote
    const auto open = code_.find('(', at_);
    if (open == std::string_view::npos || open - at_ > 17) {
      out_.open_string = true;
      at_ = code_.size();
      return;
    }
    const std::string close = ")" + std::string(code_.substr(at_ + 1, open - at_ - 1)) + "\"";
    const auto end = code_.find(close, open);
    if (end == std::string_view::npos) {
      out_.open_string = true;
      at_ = code_.size();
      return;
    }
    at_ = end + close.size();
  }

  void quoted(char q) {
    ++at_;
    while (at_ < code_.size() && peek() != q) {
      if (const auto n = splice()) {
        at_ += n;
      } else if (peek() == '\\') {
        at_ += 2;
      } else if (peek() == '\n') {
        out_.bad_string = true;
        return;
      } else {
        ++at_;
      }
    }
    if (at_ >= code_.size()) {
      out_.bad_string = true;
      at_ = code_.size();
      return;
    }
    ++at_;
  }

  void suffix() {
    while (identifier_part(peek())) ++at_;
  }

  void one(std::size_t begin) {
    const char c = peek();
    if (identifier_start(c)) {
      while (identifier_part(peek())) ++at_;
      const auto word = code_.substr(begin, at_ - begin);
      const bool prefix = word == "L" || word == "u" || word == "U" || word == "u8";
      const bool raw = word == "R" || word == "LR" || word == "uR" || word == "UR" || word == "u8R";
      if (peek() == '"' && raw) {
        raw_string();
        suffix();
        return add(Token::Kind::string, begin);
      }
      if (prefix && (peek() == '"' || peek() == '\'')) {
        const bool string = peek() == '"';
        quoted(peek());
        suffix();
        return add(string ? Token::Kind::string : Token::Kind::character, begin);
      }
      add(Token::Kind::identifier, begin);
      static constexpr std::array<std::string_view, 11> words{"and",   "or",     "not",   "xor",    "bitand", "bitor",
                                                              "compl", "and_eq", "or_eq", "xor_eq", "not_eq"};
      for (const auto w : words)
        if (word == w) out_.tokens.back().alternative = true;
      return;
    }
    if (std::isdigit(static_cast<unsigned char>(c)) ||
        (c == '.' && std::isdigit(static_cast<unsigned char>(peek(1))))) {
      ++at_;
      for (;;) {
        const char p = code_[at_ - 1];
        const bool sign = (peek() == '+' || peek() == '-') && (p == 'e' || p == 'E' || p == 'p' || p == 'P');
        const bool hex_e = code_.substr(begin, 2) == "0x" || code_.substr(begin, 2) == "0X";
        if (identifier_part(peek()) || peek() == '.' || (sign && !(hex_e && (p == 'e' || p == 'E'))) ||
            (peek() == '\'' && identifier_part(peek(1))))
          ++at_;
        else
          break;
      }
      return add(Token::Kind::number, begin);
    }
    if (c == '"' || c == '\'') {
      quoted(c);
      suffix();
      return add(c == '"' ? Token::Kind::string : Token::Kind::character, begin);
    }
    static constexpr std::array<std::string_view, 32> operators{
        "<=>", "<<=", ">>=", "...", "->*", "::", "->", "++", "--", "<<", ">>", "<=", ">=", "==", "!=", "&&",
        "||",  "+=",  "-=",  "*=",  "/=",  "%=", "&=", "|=", "^=", "##", ".*", "<:", ":>", "<%", "%>", "%:"};
    std::size_t n = 1;
    for (const auto o : operators)
      if (starts(o)) {
        n = o.size();
        break;
      }
    if (starts("<::") && peek(3) != ':' && peek(3) != '>') n = 1;  // the exception the standard makes for `<::`
    at_ += n;
    add(Token::Kind::punctuator, begin);
    auto& t = out_.tokens.back();
    if (t.is("<:")) t.text = "[";
    if (t.is(":>")) t.text = "]";
    if (t.is("<%")) t.text = "{";
    if (t.is("%>")) t.text = "}";
  }

  void pair() {
    std::vector<std::size_t> open;
    auto& ts = out_.tokens;
    for (std::size_t i = 0; i < ts.size(); ++i) {
      if (ts[i].kind != Token::Kind::punctuator || ts[i].text.size() != 1) continue;
      const char c = ts[i].text[0];
      if (c == '(' || c == '[' || c == '{') {
        open.push_back(i);
      } else if (c == ')' || c == ']' || c == '}') {
        const char want = c == ')' ? '(' : c == ']' ? '[' : '{';
        if (open.empty() || ts[open.back()].text[0] != want) {
          out_.stray_bracket = true;
          continue;
        }
        ts[i].match = open.back();
        ts[open.back()].match = i;
        open.pop_back();
      }
    }
    out_.depth = open.size();
    out_.open_bracket = !open.empty();
  }

  std::string_view code_;
  std::size_t at_ = 0;
  bool line_start_ = true;
  TokenList out_;
};

}  // namespace

TokenList tokenize(std::string_view code) { return Scanner(code).run(); }

}  // namespace caller::kernel
