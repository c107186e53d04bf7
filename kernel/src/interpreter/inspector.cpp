// Inspection is completion at the beginning of a name, keeping only what is called exactly so: then the compiler has
// found it where the cell would find it, members and overloads included.
#include <clang/AST/ASTContext.h>
#include <clang/AST/DeclTemplate.h>
#include <clang/AST/RawCommentList.h>
#include <clang/Lex/Lexer.h>
#include <llvm/Support/raw_ostream.h>

#include <algorithm>
#include <cctype>

#include <caller/kernel/display_host.hpp>

#include "clang_interpreter.hpp"
#include "completer.hpp"
#include "sandbox.hpp"

namespace caller::kernel {
namespace {

constexpr std::chrono::seconds kLimit{5};

bool part(char c) {
  const auto u = static_cast<unsigned char>(c);
  return std::isalnum(u) || c == '_' || u >= 0x80;
}

std::string signature(const clang::NamedDecl* d, const clang::ASTContext& ast) {
  auto policy = ast.getPrintingPolicy();
  policy.TerseOutput = true;
  policy.PolishForDeclaration = true;
  policy.SuppressInitializers = false;
  policy.FullyQualifiedName = true;
  std::string out;
  llvm::raw_string_ostream stream(out);
  d->print(stream, policy);
  return out;
}

std::string documentation(const clang::NamedDecl* d, clang::ASTContext& ast) {
  const clang::RawComment* comment = ast.getRawCommentForAnyRedecl(d);
  return comment ? comment->getFormattedText(ast.getSourceManager(), ast.getDiagnostics()) : std::string();
}

std::string source(const clang::NamedDecl* d, const clang::ASTContext& ast) {
  const auto& sm = ast.getSourceManager();
  auto range = d->getSourceRange();
  if (const auto* t = llvm::dyn_cast<clang::TemplateDecl>(d)) range = t->getSourceRange();
  return clang::Lexer::getSourceText(clang::CharSourceRange::getTokenRange(sm.getExpansionRange(range).getAsRange()),
                                     sm, ast.getLangOpts())
      .str();
}

std::string place(const clang::NamedDecl* d, const clang::ASTContext& ast) {
  const auto p = ast.getSourceManager().getPresumedLoc(d->getLocation());
  if (!p.isValid()) return {};
  return std::string(p.getFilename()) + (llvm::StringRef(p.getFilename()).starts_with("Cell [") ? ", line " : ":") +
         std::to_string(p.getLine());
}

class Capture final : public DisplayHost {
public:
  void result(const MimeBundle& data, const MimeBundle&) override {
    bundle = data;
    text = data.count("text/plain") ? data.at("text/plain") : std::string();
  }
  void display(const MimeBundle&, const MimeBundle&, const std::string&, bool) override {}
  void clear_output(bool) override {}
  std::string input(const std::string&, bool) override { return {}; }
  std::string text;
  MimeBundle bundle;
};

}  // namespace

// The value as the copied process sees it: nothing it does can hurt the cells.
std::string ClangInterpreter::evaluate_in_child(const std::string& expression) {
  Capture capture;
  Compiler& compiler = this->compiler();
  CompileRequest request = new_request({});
  request.code = expression;
  request.quick = false;
  const auto result = in_copy(
      [&] {
        set_display_host(&capture);
        const Compilation made = compiler.compile(request);
        if (!made.ok) return std::string();
        auto linked = link(made, request);
        if (auto* cell = std::get_if<CompiledCell>(&linked))
          for (auto& s : cell->segments)
            if (s.run) s.run();
        return capture.text;
      },
      std::chrono::seconds(1));
  return result.status == SandboxResult::Status::done ? result.data : std::string();
}

std::map<std::string, std::map<std::string, std::string>> ClangInterpreter::values(
    const std::vector<std::string>& expressions) {
  Compiler& compiler = this->compiler();
  const auto result = in_copy(
      [&] {
        Packer p;
        const auto begin = std::chrono::steady_clock::now();
        for (std::size_t i = 0; i < expressions.size(); ++i) {
          Capture capture;
          set_display_host(&capture);
          if (std::chrono::steady_clock::now() - begin < kLimit / 2) {
            CompileRequest request = new_request({});
            request.code = expressions[i];
            request.quick = false;
            const Compilation made = compiler.compile(request);
            auto linked = made.ok ? link(made, request) : error_of(made.text, {}, 0);
            if (auto* cell = std::get_if<CompiledCell>(&linked)) try {
                for (auto& s : cell->segments)
                  if (s.run) s.run();
              } catch (...) {  // a printer of the user's
              }
          }
          p << capture.bundle.size();
          for (const auto& [type, text] : capture.bundle) p << type << text;
        }
        return p.take();
      },
      kLimit);
  std::map<std::string, std::map<std::string, std::string>> out;
  if (result.status != SandboxResult::Status::done) return out;
  Unpacker u(result.data);
  for (const auto& e : expressions)
    for (auto n = u.number(); n; --n) {
      const std::string type = u.text();
      out[e][type] = u.text();
    }
  return out;
}

std::map<std::string, std::string> ClangInterpreter::inspect(const std::string& code, std::size_t cursor, int detail) {
  cursor = std::min(cursor, code.size());
  std::size_t begin = cursor, end = cursor;
  while (begin > 0 && part(code[begin - 1])) --begin;
  while (end < code.size() && part(code[end])) ++end;
  if (begin == end && begin > 0 && (code[begin - 1] == '(' || code[begin - 1] == '<')) {  // Shift-Tab right after f(
    end = --begin;
    while (begin > 0 && part(code[begin - 1])) --begin;
  }
  const std::string name = code.substr(begin, end - begin);
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name[0]))) return {};

  const std::string head = code.substr(0, begin);
  if (!follower_->settle_within(kBusy)) return {};
  Engine& engine = compiler().engine();
  AssembleOptions how = compiler_->assemble_options(++unit_, 0);
  how.cursor = head.size();
  const Assembly assembly = assemble(head, how);
  if (assembly.cursor == std::string::npos) return {};
  const auto result = in_copy(
      [&] {
        engine.syntax_only();
        for (std::size_t i = 0; i < assembly.cursor_stage; ++i) engine.parse(assembly.stages[i].text, "cell");
        std::string text, docs, sources;
        bool variable = false;
        std::set<std::string> seen;
        find_candidates(
            engine, assembly.stages[assembly.cursor_stage].text, assembly.cursor, name, true, [&](Candidate&& c) {
              if (!c.declaration) {
                if (text.empty()) text += c.signature + "\n";
                return;
              }
              auto& ast = engine.ast();
              const std::string s = readable(signature(c.declaration, ast));
              if (!seen.insert(s).second || seen.size() > 20) return;
              text += s + "\n";
              if (const auto p = place(c.declaration, ast); !p.empty()) text += "  " + p + "\n";
              if (const auto doc = documentation(c.declaration, ast); !doc.empty()) docs += doc + "\n";
              if (detail > 0) sources += source(c.declaration, ast) + "\n";
              for (auto* v : engine.shadow().visible())
                if (v == c.declaration && (llvm::isa<clang::VarDecl>(v) || llvm::isa<clang::BindingDecl>(v)))
                  variable = true;
            });
        Packer p;
        p << text << docs << sources << std::size_t(variable);
        return p.take();
      },
      kLimit);
  if (result.status != SandboxResult::Status::done) return {};
  Unpacker u(result.data);
  std::string text = u.text();
  const std::string docs = u.text(), sources = u.text();
  const bool variable = u.number();
  if (text.empty()) return {};
  if (variable)
    if (const std::string value = evaluate_in_child(name); !value.empty()) text += "value: " + value + "\n";
  if (!docs.empty()) text += "\n" + docs;
  if (!sources.empty()) text += "\n" + sources;
  return {{"text/plain", text}};
}

}  // namespace caller::kernel
