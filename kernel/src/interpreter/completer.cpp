#include "completer.hpp"

#include <clang/AST/DeclLookups.h>
#include <clang/AST/RawCommentList.h>
#include <clang/Sema/CodeCompleteConsumer.h>

#include <algorithm>
#include <cctype>

#include "clang_interpreter.hpp"
#include "sandbox.hpp"

namespace caller::kernel {
namespace {

constexpr std::size_t kMaxItems = 500;
constexpr std::chrono::seconds kLimit{5};

clang::CodeCompleteOptions completion_options(bool macros) {
  clang::CodeCompleteOptions o;
  o.IncludeMacros = macros;
  o.IncludeCodePatterns = 0;
  o.IncludeGlobals = 1;
  o.IncludeNamespaceLevelDecls = 1;
  o.IncludeBriefComments = 0;
  o.LoadExternal = 1;
  return o;
}

const char* kind_of(const clang::CodeCompletionResult& r) {
  switch (r.CursorKind) {
    case CXCursor_FunctionDecl:
    case CXCursor_CXXMethod:
    case CXCursor_FunctionTemplate:
    case CXCursor_Constructor:
    case CXCursor_ConversionFunction:
      return "function";
    case CXCursor_ClassDecl:
    case CXCursor_StructDecl:
    case CXCursor_UnionDecl:
    case CXCursor_EnumDecl:
    case CXCursor_ClassTemplate:
    case CXCursor_ClassTemplatePartialSpecialization:
    case CXCursor_TypedefDecl:
    case CXCursor_TypeAliasDecl:
    case CXCursor_TypeAliasTemplateDecl:
      return "class";
    case CXCursor_Namespace:
    case CXCursor_NamespaceAlias:
      return "module";
    case CXCursor_FieldDecl:
      return "property";
    case CXCursor_VarDecl:
    case CXCursor_ParmDecl:
    case CXCursor_EnumConstantDecl:
      return "variable";
    case CXCursor_MacroDefinition:
      return "macro";
    default:
      return r.Kind == clang::CodeCompletionResult::RK_Keyword ? "keyword" : "name";
  }
}

class Consumer final : public clang::CodeCompleteConsumer {
public:
  Consumer(const std::string& prefix, bool exact, const std::function<void(Candidate&&)>& found)
      : CodeCompleteConsumer(completion_options(!prefix.empty() && !exact)),
        prefix_(prefix),
        exact_(exact),
        found_(found),
        allocator_(std::make_shared<clang::GlobalCodeCompletionAllocator>()),
        info_(allocator_) {}

  void ProcessCodeCompleteResults(clang::Sema& sema, clang::CodeCompletionContext context,
                                  clang::CodeCompletionResult* results, unsigned n) override {
    for (unsigned i = 0; i < n; ++i) {
      auto& r = results[i];
      if (r.Hidden && r.Kind == clang::CodeCompletionResult::RK_Declaration && !exact_) continue;
      if (r.Kind == clang::CodeCompletionResult::RK_Declaration &&
          r.Declaration) {  // before any text is made: it is the costly part
        const auto* id = r.Declaration->getIdentifier();
        if (!id) continue;  // operators, constructors of other names, destructors
        const auto name = id->getName();
        if (!wanted(name)) continue;
        if (llvm::isa<clang::CXXRecordDecl>(r.Declaration) &&
            llvm::cast<clang::CXXRecordDecl>(r.Declaration)->isInjectedClassName())
          continue;
      } else if (r.Kind == clang::CodeCompletionResult::RK_Keyword || r.Kind == clang::CodeCompletionResult::RK_Macro) {
        const auto name =
            r.Kind == clang::CodeCompletionResult::RK_Keyword ? llvm::StringRef(r.Keyword) : r.Macro->getName();
        if (!wanted(name)) continue;
      }
      auto* string = r.CreateCodeCompletionString(sema, context, *allocator_, info_, false);
      if (!string) continue;
      Candidate c;
      std::string after;
      for (const auto& chunk : *string) {
        switch (chunk.Kind) {
          case clang::CodeCompletionString::CK_ResultType:
            c.signature = std::string(chunk.Text) + " ";
            break;
          case clang::CodeCompletionString::CK_TypedText:
            c.text = chunk.Text;
            break;
          case clang::CodeCompletionString::CK_Optional:
            append(after, *chunk.Optional);
            break;
          case clang::CodeCompletionString::CK_Informative:
            break;
          default:
            if (chunk.Text) after += chunk.Text;
        }
      }
      if (!wanted(c.text)) continue;
      c.signature += c.text + after;
      c.type = kind_of(r);
      c.priority = string->getPriority();
      c.declaration = r.Kind == clang::CodeCompletionResult::RK_Declaration ? r.Declaration : nullptr;
      found_(std::move(c));
    }
  }

  clang::CodeCompletionAllocator& getAllocator() override { return *allocator_; }
  clang::CodeCompletionTUInfo& getCodeCompletionTUInfo() override { return info_; }

private:
  bool wanted(llvm::StringRef name) const {
    if (exact_) return name == prefix_;
    if (!name.starts_with(prefix_)) return false;
    const bool reserved = name.starts_with("__") ||
                          (name.size() > 1 && name[0] == '_' && std::isupper(static_cast<unsigned char>(name[1]))) ||
                          name.starts_with("caller_entry_");
    return !reserved || (!prefix_.empty() && prefix_[0] == '_' && !name.starts_with(kCellNamespace) &&
                         !name.starts_with("__caller_"));
  }
  static void append(std::string& out, const clang::CodeCompletionString& s) {
    for (const auto& chunk : s) {
      if (chunk.Kind == clang::CodeCompletionString::CK_Optional)
        append(out, *chunk.Optional);
      else if (chunk.Text)
        out += chunk.Text;
    }
  }

  const std::string& prefix_;
  bool exact_;
  const std::function<void(Candidate&&)>& found_;
  std::shared_ptr<clang::GlobalCodeCompletionAllocator> allocator_;
  clang::CodeCompletionTUInfo info_;
};

}  // namespace

void find_candidates(Engine& engine, const std::string& text, std::size_t at, const std::string& prefix, bool exact,
                     const std::function<void(Candidate&&)>& found) {
  Consumer consumer(prefix, exact, found);
  unsigned line = 1;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < at && i < text.size(); ++i)
    if (text[i] == '\n') {
      ++line;
      begin = i + 1;
    }
  engine.complete(text, line, static_cast<unsigned>(at - begin) + 1, consumer);
}

namespace {

// Whether all names of the precompiled header have been read, as a completion of a name that stands alone needs them.
bool knows_names(Engine& engine) {
  const auto* space = engine.sema().getStdNamespace();
  return !space || !space->getPrimaryContext()->hasExternalVisibleStorage();
}

// What its documentation comment says in short.
std::string brief(clang::ASTContext& ast, const clang::NamedDecl* declaration) {
  const clang::RawComment* comment = declaration ? clang::getCompletionComment(ast, declaration) : nullptr;
  return comment ? comment->getBriefText(ast) : std::string();
}

void read_names(Engine& engine) {
  if (auto* space = engine.sema().getStdNamespace())
    for (auto names : space->getPrimaryContext()->lookups()) (void)names;
  for (auto names : engine.ast().getTranslationUnitDecl()->getPrimaryContext()->lookups()) (void)names;
}

}  // namespace

Completions ClangInterpreter::complete(const std::string& code, std::size_t cursor) {
  Completions out;
  cursor = std::min(cursor, code.size());
  // In a directive the file name so far is what is replaced; elsewhere the identifier so far.
  const auto line = cursor == 0 ? std::string::npos : code.rfind('\n', cursor - 1);
  const std::string before =
      code.substr(line == std::string::npos ? 0 : line + 1, cursor - (line == std::string::npos ? 0 : line + 1));
  const auto hash = before.find_first_not_of(" \t");
  const bool include = hash != std::string::npos && before[hash] == '#' && before.find("include") != std::string::npos;
  out.start = cursor;
  const auto part = [&](char c) {
    const auto u = static_cast<unsigned char>(c);
    return std::isalnum(u) || c == '_' || u >= 0x80 || (include && (c == '.' || c == '-' || c == '+'));
  };
  while (out.start > 0 && part(code[out.start - 1])) --out.start;
  out.end = cursor;
  const std::string prefix = code.substr(out.start, cursor - out.start);
  if (!prefix.empty() && std::isdigit(static_cast<unsigned char>(prefix[0]))) return out;

  const std::string head = code.substr(0, include ? cursor : out.start);
  if (!follower_->settle_within(kBusy)) return out;
  Engine& engine = compiler().engine();
  AssembleOptions how = compiler_->assemble_options(++unit_, 0);
  how.cursor = head.size();
  const Assembly assembly = assemble(head, how);
  if (assembly.cursor == std::string::npos) return out;
  const bool known = knows_names(engine);
  const auto result = in_copy(
      [&] {
        engine.syntax_only();
        for (std::size_t i = 0; i < assembly.cursor_stage; ++i) engine.parse(assembly.stages[i].text, "cell");
        std::vector<Candidate> all;
        find_candidates(engine, assembly.stages[assembly.cursor_stage].text, assembly.cursor, prefix, false,
                        [&](Candidate&& c) { all.push_back(std::move(c)); });
        std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
          return a.priority != b.priority ? a.priority < b.priority : a.text < b.text;
        });
        if (all.size() > 4 * kMaxItems) all.resize(4 * kMaxItems);
        Packer p;
        p << std::size_t{knows_names(engine)} << all.size();
        std::set<std::string> named;  // of the rest nothing is shown
        for (const auto& c : all) {
          const bool shown = named.size() < kMaxItems && named.insert(c.text).second;
          p << c.text << c.type << c.signature << (shown ? brief(engine.ast(), c.declaration) : "");
        }
        return p.take();
      },
      kLimit);
  if (result.status != SandboxResult::Status::done) return out;
  Unpacker u(result.data);
  // The child's reading is lost with it. Sessions that never ask for such names do not hold all of them in memory.
  if (u.number() && !known) follower_->push([](Compiler& compiler) { read_names(compiler.engine()); });
  std::set<std::string> seen;
  for (auto n = u.number(); n && out.items.size() < kMaxItems; --n) {
    CompletionItem item;
    item.text = u.text();
    item.type = u.text();
    item.signature = readable(u.text());
    item.brief = u.text();
    if (include) item.type = "module";
    if (seen.insert(item.text).second) out.items.push_back(std::move(item));  // overloads share one line
  }
  return out;
}

}  // namespace caller::kernel
