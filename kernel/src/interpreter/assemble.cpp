#include "assemble.hpp"

#include <algorithm>
#include <set>

#include "edits.hpp"
#include "string_literal.hpp"

namespace caller::kernel {
namespace {

constexpr const char* kDetail = "::caller::kernel::detail::";

class Assembler {
public:
  Assembler(const std::string& code, const AssembleOptions& options)
      : code_(code), options_(options), list_(tokenize(code)), ts_(list_.tokens), values_(names_of_values(ts_)) {
    lines_.push_back(0);
    for (std::size_t i = 0; i < code.size(); ++i)
      if (code[i] == '\n') lines_.push_back(i + 1);
    space_ = "__cell_" + std::to_string(options.unit);
  }

  Assembly run() {
    const IsValue is_value = [this](std::string_view name) {
      return values_.count(std::string(name)) || (options_.is_value && options_.is_value(name));
    };
    auto chunks = split(list_, code_, is_value);
    if (options_.ambiguous_is_expression)
      for (auto& c : chunks)
        if (c.ambiguous) {
          c.kind = Chunk::Kind::statement;
          c.expression = true;
        }
    begin_stage();
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      Chunk& c = chunks[i];
      out_.ambiguous |= c.ambiguous;
      const bool last = i + 1 == chunks.size();
      if (options_.cursor != std::string::npos && last && (!c.terminated || options_.cursor <= c.end))
        c.end = std::max(c.end, options_.cursor);
      // A documentation comment belongs to the declaration it stands before.
      if (c.kind == Chunk::Kind::declaration && !c.awaits)
        c.begin = comment_before(i == 0 ? 0 : chunks[i - 1].end, c.begin);
      if (options_.cursor == std::string::npos) ask(c);
      const std::size_t stage = out_.stages.size();
      const std::size_t at = text().size();
      if (c.kind == Chunk::Kind::directive)
        directive(c);
      else if (c.kind == Chunk::Kind::statement)
        statement(c, last);
      else if (c.awaits)
        late(c);
      else
        declaration(c);
      if (c.kind != Chunk::Kind::statement)
        out_.stages.back().pieces.push_back({stage == out_.stages.size() ? at : 0, text().size(), ts_[c.first].begin,
                                             c.end, c.kind == Chunk::Kind::directive, !c.terminated});
    }
    if (options_.cursor != std::string::npos && out_.cursor == std::string::npos) empty_statement();
    end_stage();
    return std::move(out_);
  }

private:
  std::string& text() { return out_.stages.back().text; }
  std::string tag() const { return std::to_string(options_.unit) + "_" + std::to_string(out_.stages.size()); }

  void begin_stage() {
    out_.stages.emplace_back();
    out_.stages.back().entry = "caller_entry_" + tag();
    open_ = Open::nothing;
  }
  void end_stage() {
    close();
    // A stage without any text would only cost time.
    if (out_.stages.back().text.empty() && out_.stages.size() > 1 && out_.cursor_stage + 1 < out_.stages.size())
      out_.stages.pop_back();
  }

  // What the piece gives to `app.task(`. A stage of its own, so that all before it is known by then.
  void ask(const Chunk& c) {
    std::vector<FunctionAsk> asks;
    for (std::size_t i = c.first; i < c.last; ++i) {
      const FunctionName f = function_given(ts_, i, c.last);
      if (f.name.empty()) continue;
      const auto [line, column] = place(f.begin);
      if (std::none_of(asks.begin(), asks.end(), [&](const FunctionAsk& a) { return a.name == f.name; }))
        asks.push_back({f.name, std::to_string(options_.unit) + ":" + std::to_string(++asked_), line, column + 1,
                        column + 1 + f.end - f.begin});
    }
    if (asks.empty()) return;
    close();
    if (!text().empty()) begin_stage();
    auto& all = out_.stages.back().asks;
    all.insert(all.end(), asks.begin(), asks.end());
  }

  std::size_t comment_before(std::size_t from, std::size_t begin) const {
    const auto at = code_.find_first_not_of(" \t\r\n;", from);
    if (at >= begin) return begin;
    for (const char* mark : {"///", "/**", "//!", "/*!"})
      if (const auto doc = code_.find(mark, at); doc < begin) return doc;
    return begin;
  }

  // ---- functions around statements ----
  enum class Open { nothing, function, coroutine };

  void open(Open what) {
    if (open_ == what || (open_ == Open::coroutine && what == Open::function)) return;
    close();
    if (what == Open::function) {
      const std::string name = "__caller_s" + std::to_string(options_.unit) + "_" + std::to_string(++functions_);
      text() += "# 1 \"<cell>\"\nvoid " + name + "() {\n";
      after_ = "}\nextern bool " + name + "r; bool " + name + "r = (" + name + "(), true);\n";
    } else {
      auto& stage = out_.stages.back();
      stage.coroutine = "caller_coro_" + tag();
      text() += "# 1 \"<cell>\"\nextern \"C\" ::caller::Coro<void> " + stage.coroutine + "();\n::caller::Coro<void> " +
                stage.coroutine + "() {\n";
      after_ = "co_return;\n}\n";
    }
    open_ = what;
  }

  void close() {
    if (open_ == Open::nothing) return;
    const bool coroutine = open_ == Open::coroutine;
    text() += "# 1 \"<cell>\"\n" + after_;
    open_ = Open::nothing;
    if (coroutine) begin_stage();
  }

  // ---- text with its place ----
  std::pair<std::size_t, std::size_t> place(std::size_t byte) const {
    const auto it = std::upper_bound(lines_.begin(), lines_.end(), byte) - 1;
    return {static_cast<std::size_t>(it - lines_.begin()) + 1, byte - *it};
  }

  // The code of [begin, end) with the edits that fall into it, on a line of its own that the compiler takes for the
  // cell's.
  void copy(std::size_t begin, std::size_t end, const Edits& edits) {
    const auto [line, column] = place(begin);
    text() += "# " + std::to_string(line) + " \"Cell [" + std::to_string(options_.number) + "]\"\n";
    // Tabs stay tabs, so that carets stand where they should.
    for (std::size_t i = begin - column; i < begin; ++i) text() += code_[i] == '\t' ? '\t' : ' ';
    std::size_t at = begin;
    auto take = [&](std::size_t to) {
      if (options_.cursor != std::string::npos && options_.cursor >= at && options_.cursor <= to &&
          out_.cursor == std::string::npos && options_.cursor <= end) {
        out_.cursor = text().size() + (options_.cursor - at);
        out_.cursor_stage = out_.stages.size() - 1;
      }
      text().append(code_, at, to - at);
      at = to;
    };
    for (const auto& e : edits) {
      if (e.begin < at || e.end > end) continue;
      take(e.begin);
      text() += e.text;
      at = e.end;
    }
    take(end);
    text() += '\n';
  }

  void empty_statement() {
    open(Open::function);
    out_.cursor_stage = out_.stages.size() - 1;
    text() +=
        "# " + std::to_string(place(code_.size()).first) + " \"Cell [" + std::to_string(options_.number) + "]\"\n";
    out_.cursor = text().size();
    text() += "\n";
  }

  // ---- pieces ----
  void directive(const Chunk& c) {
    close();
    copy(c.begin, c.end, {});
  }

  void statement(const Chunk& c, bool last) {
    open(c.awaits ? Open::coroutine : Open::function);
    const bool bare = c.expression && !c.terminated;
    const bool show = bare && last && options_.show_result && options_.cursor == std::string::npos;
    if (show) text() += std::string(kDetail) + "Show<" + std::to_string(options_.unit) + ">{} , (\n";
    copy(c.begin, c.end, capture_edits(ts_, c.first, c.last, false));
    if (show)
      text() += "# " + std::to_string(place(c.end - 1).first) + " \"Cell [" + std::to_string(options_.number) +
                "]\"\n" + std::string(place(c.end - 1).second + 1, ' ') + ");\n";
    else if (!c.terminated)
      text() += ";\n";
  }

  void declaration(const Chunk& c) {
    if (open_ != Open::nothing) close();
    if (c.names_space) return name_space(c);
    const bool outside = belongs_outside(ts_, c);
    Edits edits = static_edits(ts_, c);
    if (!c.function) edits = merged(std::move(edits), capture_edits(ts_, c.first, c.last, true));
    if (c.function) edits = merged(std::move(edits), main_edits(ts_, c));
    if (!outside) text() += "inline namespace " + space_ + " {\n";
    if (needs_extern(ts_, c)) text() += "extern\n";
    copy(c.begin, c.end, edits);
    if (!c.terminated) text() += ";\n";
    if (!outside) text() += "}\n";
  }

  // Named namespaces can be added to by later cells, so the cell's own is inside; unnamed ones would hide their content
  // from every later cell.
  void name_space(const Chunk& c) {
    std::size_t open = c.first;
    while (!ts_[open].is("{")) ++open;
    const bool closed = ts_[open].match != Token::kUnmatched;
    const bool inlined = ts_[c.first].is("inline");
    if (inlined) {
      text() += "inline namespace " + space_ + " {\n";
      copy(c.begin, c.end, {});
      text() += "}\n";
      return;
    }
    const bool unnamed = open == c.first + 1;
    if (!unnamed) copy(c.begin, ts_[open].end, {});
    const auto inner = split(list_, code_, options_.is_value, open + 1, closed ? ts_[open].match : c.last, true);
    for (auto p : inner) {
      if (&p == &inner.back() && !closed) p.end = c.end;
      if (p.kind == Chunk::Kind::directive)
        copy(p.begin, p.end, {});
      else
        declaration(p);
    }
    if (!closed) {
      if (options_.cursor != std::string::npos && out_.cursor == std::string::npos && !inner.empty()) return;
      if (options_.cursor == std::string::npos)
        copy(ts_[open].begin, ts_[open].end, {});  // clang shows which one is open
      return;
    }
    if (!unnamed) copy(ts_[ts_[open].match].begin, ts_[ts_[open].match].end, {});
  }

  void late(const Chunk& c) {
    const LateParts p = late_parts(ts_, c);
    if (!p.ok) {  // several variables, or something else: the compiler explains why co_await cannot stand here
      declaration(c);
      return;
    }
    if (open_ == Open::coroutine || open_ == Open::function) close();
    auto& stage = out_.stages.back();
    const Edits edits = capture_edits(ts_, c.first, c.last, false);
    const std::string type_of = unevaluated(p.init_first, p.init_last);
    const std::string name =
        p.bindings ? "__bound_" + tag() + "_" + std::to_string(++functions_) : std::string(ts_[p.name].text);
    const std::string storage = "caller_late_" + std::to_string(options_.unit) + "_" + name;
    stage.late.push_back({name, storage});
    const auto line = place(c.begin).first;
    text() += "inline namespace " + space_ + " {\nextern\n# " + std::to_string(line) + " \"Cell [" +
              std::to_string(options_.number) + "]\"\n";
    text() += late_type(code_, ts_, c, p, type_of) + " " + name + ";\n";
    text() += "extern unsigned char " + name + "_storage[] __asm__(\"" + storage + "\");\n";
    if (p.bindings) text() += late_bindings(code_, ts_, p) + " = " + name + ";\n";
    text() += "}\n";
    open(Open::coroutine);
    text() += "# " + std::to_string(line) + " \"Cell [" + std::to_string(options_.number) +
              "]\"\n::new (static_cast<void*>(" + name + "_storage)) ";
    const char bracket = p.init_open;
    if (bracket == '=')
      text() += std::string(kDetail) + "Late<decltype(" + name + ")>(\n";
    else
      text() += "decltype(" + name + ")" + bracket + "\n";
    copy(ts_[p.init_first].begin, ts_[p.init_last - 1].end, edits);
    text() += bracket == '{' ? "};\n" : ");\n";
  }

  // The initialiser with each co_await replaced by an operator that has the type of its result.
  std::string unevaluated(std::size_t first, std::size_t last) const {
    Edits edits = capture_edits(ts_, first, last, false);
    Edits awaits;
    visit_own_tokens(ts_, first, last, [&](std::size_t i) {
      if (ts_[i].is("co_await")) awaits.push_back({ts_[i].begin, ts_[i].end, std::string(kDetail) + "awaited ->*"});
    });
    return apply(code_, ts_[first].begin, ts_[last - 1].end, merged(std::move(edits), std::move(awaits)));
  }

  const std::string& code_;
  const AssembleOptions& options_;
  TokenList list_;
  const std::vector<Token>& ts_;
  std::set<std::string> values_;
  std::vector<std::size_t> lines_;
  std::string space_, after_;
  Assembly out_;
  Open open_ = Open::nothing;
  unsigned functions_ = 0, asked_ = 0;
};

}  // namespace

std::string known_text(unsigned unit, const FunctionAsk& ask, const Declared& found) {
  const std::string detail = "::caller::task::detail::";
  const std::string function = found.kind == Declared::Kind::lambda ? found.name : found.expression;
  std::string fault = found.call.fault, params;
  bool defaults = false;
  for (std::size_t i = 0, n = 0; i < found.call.parameters.size(); ++i) {
    const Parameter& p = found.call.parameters[i];
    if (i == 0 && p.class_name == "std::stop_token") continue;
    if (p.name.empty() && fault.empty()) fault = "has a parameter without a name, its " + std::to_string(i + 1) + ".";
    params += std::string(n++ ? ", {" : "{") + string_literal(p.name);
    if (!p.default_text.empty()) {
      defaults = true;
      params +=
          ", " + detail + "default_of<decltype(" + function + "), " + std::to_string(i) + ">(" + p.default_text + "\n)";
    }
    params += "}";
  }
  if (!fault.empty()) params.clear(), defaults = false;
  const std::string name = "__caller_known" + std::to_string(unit) + "_" + ask.key.substr(ask.key.find(':') + 1);
  std::string open, close;
  // Default arguments mean what they mean where they are written.
  for (std::string rest = defaults ? found.scope : ""; !rest.empty();) {
    const std::size_t at = rest.find("::");
    open += "namespace " + rest.substr(0, at) + " { ";
    close += " }";
    rest = at == std::string::npos ? "" : rest.substr(at + 2);
  }
  return "# 1 \"<cell>\"\n" + open + "inline namespace __cell_" + std::to_string(unit) + " { extern bool " + name +
         "; bool " + name + " = " + detail + "know_function(" + detail + "address_of(" + function + "), " +
         string_literal(ask.key) + ", {" + params + "}, " +
         string_literal(fault.empty() ? "" : ask.name + " " + fault) + "); }" + close + "\n";
}

Assembly assemble(const std::string& code, const AssembleOptions& options) { return Assembler(code, options).run(); }

}  // namespace caller::kernel
