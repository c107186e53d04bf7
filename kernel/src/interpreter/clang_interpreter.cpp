#include "clang_interpreter.hpp"

#include <dlfcn.h>

#include <unistd.h>

#include <llvm/Demangle/Demangle.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <regex>
#include <stdexcept>

#include "checked.hpp"
#include "colour.hpp"
#include "completeness.hpp"
#include "exceptions.hpp"
#include "prelude.hpp"
#include "sandbox.hpp"

namespace caller::kernel {
namespace {

constexpr std::chrono::minutes kCheckLimit{10};
constexpr int kStillborn = 5;  // copies that were made in a bad moment, one after the other
// What the cells hold then is much: a copy that stays would hold it a second time as soon as they change it.
constexpr std::size_t kBigProcess = std::size_t{1} << 30;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::size_t b = 0;
  while (b < text.size()) {
    auto e = text.find('\n', b);
    if (e == std::string::npos) e = text.size();
    out.push_back(text.substr(b, e - b));
    b = e + 1;
  }
  return out;
}

// What the process has in memory that is its own, in bytes.
std::size_t own_memory() {
  std::size_t size = 0, resident = 0, shared = 0;
  if (std::FILE* f = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(f, "%zu %zu %zu", &size, &resident, &shared) != 3) resident = shared = 0;
    std::fclose(f);
  }
  return (resident - shared) * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

// Nobody reads a line of a diagnostic to its end that is longer than a page, and std::regex recurses for each
// character.
static std::string shortened(const std::string& text) {
  constexpr std::size_t kLine = 2000;
  std::string out;
  for (const std::string& line : lines_of(text)) {
    std::size_t end = std::min(line.size(), kLine);
    while (end < line.size() && end > 0 && (static_cast<unsigned char>(line[end]) & 0xc0) == 0x80) --end;
    out += line.substr(0, end) + (end < line.size() ? "…\n" : "\n");
  }
  if (!out.empty() && text.back() != '\n') out.pop_back();
  return out;
}

std::string readable(std::string text) {
  text = shortened(text);
  static const std::regex place("Cell \\[(-?[0-9]+)\\]:([0-9]+):([0-9]+):");
  static const std::regex space("__cell_[0-9]+::");
  for (const std::string_view from = "In file included from <<< inputs >>>:1:\n";
       ;) {  // where the compiler thinks cells come from
    const auto at = text.find(from);
    if (at == std::string::npos) break;
    text.erase(at, from.size());
  }
  // What is wrong with the text around the cell is only an echo of what is wrong inside.
  std::string kept;
  bool echo = false;
  for (const auto& line : lines_of(text)) {
    const std::string plain = without_colour(line);
    static const std::regex begins(
        "^(.+:[0-9]+:[0-9]+: (fatal )?(error|warning|note|remark): |In file included from )");
    if (std::regex_search(plain, begins))
      echo = plain.rfind("<cell>:", 0) == 0 || plain.rfind("<<< inputs >>>:", 0) == 0;
    if (!echo) kept += line + "\n";
  }
  if (!kept.empty() && text.back() != '\n') kept.pop_back();
  if (kept.find("error") != std::string::npos || text.find("error") == std::string::npos) text = std::move(kept);
  text = std::regex_replace(text, place, "Cell [$1], line $2, column $3:");
  return std::regex_replace(text, space, "");
}

ClangInterpreter::ClangInterpreter(InterpreterOptions options) : options_(std::move(options)) {
  const Prelude prelude = find_prelude(options_);
  std::vector<std::string> args = prelude.args;
  args.push_back("-ferror-limit=6");  // one wrong call of a library template is worth a hundred otherwise
  for (const char* f : kCellFlags) args.emplace_back(f);
  if (options_.lines) args.push_back("-gline-tables-only");
  for (const auto& f : options_.flags) args.push_back(f);
  const auto note = [this](const std::string& line) {
    if (options_.log) options_.log(line);
  };
  jit_ = std::make_unique<Jit>();
  if (options_.for_nodes && !prelude.nodes.empty()) {
    auto with = args;
    with.insert(with.end(), {"-include-pch", prelude.nodes});
    try {
      compiler_ = std::make_unique<Compiler>(with);
    } catch (const std::runtime_error& e) {
      note(std::string("what is precompiled for nodes cannot be used, they start slowly: ") + without_colour(e.what()));
    }
  }
  if (!prelude.pch.empty()) {
    auto with = args;
    with.push_back("-include-pch");
    with.push_back(prelude.pch);
    try {
      if (!compiler_) compiler_ = std::make_unique<Compiler>(with);
      // Lazily: it holds inline functions whose callees libstdc++ keeps to itself.
      void* const library = dlopen(prelude.library.c_str(), RTLD_LAZY | RTLD_GLOBAL);
      if (const void* checked = library ? dlsym(library, kCheckedNames) : nullptr) {
        compiler_->set_checked(static_cast<const char*>(checked));
      } else {
        note(std::string("the prelude's code does not load, cells start slowly: ") + dlerror());
        compiler_.reset();
      }
    } catch (const std::runtime_error& e) {
      note(std::string("the precompiled prelude cannot be used, cells start slowly: ") + without_colour(e.what()));
    }
  } else {
    note("there is no precompiled prelude, cells start slowly");
  }
  if (!compiler_) {
    compiler_ = std::make_unique<Compiler>(args);
    const Compilation made = compiler_->compile_text("#include <caller/kernel/prelude.hpp>\n", "caller_entry_prelude",
                                                     options_.optimisation);
    if (!made.ok) throw std::runtime_error("the prelude does not compile:\n" + made.text);
    (void)jit_->add(made.parts.front().object);
    reinterpret_cast<void (*)()>(jit_->lookup("caller_entry_prelude"))();
  }
  follower_ = std::make_unique<Follower>(*compiler_, [note](const std::string& text) {
    note("the compiler does not know a cell that runs: " + without_colour(text));
  });
  if (options_.warm_up) warm_up();
}

void ClangInterpreter::warm_up() {
  // The declarations of the precompiled header are read when first looked at; a copy's reading would be lost with it.
  CompileRequest request = new_request({});
  request.code =
      "{ std::string s(\"x\"); std::vector<int> v{1}; v.push_back(2); std::vector<std::string> w{s}; for (auto& x : w) "
      "x += s; std::map<std::string, int> m; m[s] = 1;\n"
      "std::cout << s << v.size() << 1.5 << std::endl; auto p = std::make_unique<int>(3); auto q = "
      "std::make_shared<int>(3); std::function<int()> f = [p = *p] { return p; }; }\n"
      "co_await caller::Coro<void>();";
  follower_->push([this, request = std::move(request)](Compiler& compiler) {
    (void)compiler.compile(request);
    warm_ = true;
  });
}

ClangInterpreter::~ClangInterpreter() { jit_->run_exit_handlers(); }

Compiler& ClangInterpreter::compiler() {
  follower_->settle();
  return *compiler_;
}

SandboxResult ClangInterpreter::in_copy(const std::function<std::string()>& work, std::chrono::milliseconds limit) {
  compiler_->engine().close_files();
  SandboxResult out;
  for (int n = 0; n < kStillborn && out.status == SandboxResult::Status::unavailable; ++n) out = in_child(work, limit);
  return out;
}

CompileRequest ClangInterpreter::new_request(const CompileOptions& options) {
  CompileRequest r;
  r.unit = ++unit_;
  r.number = options.number;
  r.show_result = options.show_result;
  r.optimisation = options.optimisation >= 0 ? options.optimisation : options_.optimisation;
  r.quick = options_.isolate;  // what is missing then must be found out before
  r.debug_path = options.debug_path;
  return r;
}

void ClangInterpreter::prepare() {
  if (warm_.exchange(false)) copy_.reset();  // the next one is born warm
  if (!options_.isolate || copy_) return;
  Compiler& compiler = this->compiler();
  compiler.engine().close_files();
  copy_ = Copy::make("caller compiler", [&compiler](const std::string& request) {
    return pack(compiler.compile(unpack_request(request)));
  });
  copy_stays_ = options_.keep_copy && own_memory() < kBigProcess;
}

Compilation ClangInterpreter::compile_in_copy(const CompileRequest& request, const std::stop_token& stop) {
  Compilation out;
  for (int stillborn = 0;;) {
    const bool fresh = !copy_;
    prepare();
    if (!copy_) {  // then it is compiled without a net
      out = compiler().compile(request);
      out.here = true;
      return out;
    }
    const SandboxResult result = copy_->ask(pack(request), kCheckLimit, stop);
    if (result.status == SandboxResult::Status::done) out = unpack_compilation(result.data);
    if (!out.ok) copy_.reset();
    switch (result.status) {
      case SandboxResult::Status::done:
        return out;
      case SandboxResult::Status::unavailable:
        if (++stillborn < kStillborn) continue;
        out.text = "error: the compiler's process does not start\n";
        return out;
      case SandboxResult::Status::timed_out:
        out.text = "error: the compiler did not finish in time\n";
        return out;
      case SandboxResult::Status::stopped:
        out.text = "error: the compiler was interrupted\n";
        return out;
      case SandboxResult::Status::crashed:
        // What it had kept may be to blame, or somebody has ended it.
        if (!fresh) continue;
        out.text = "error: the compiler crashed on this cell" +
                   (result.signal ? " (signal " + std::to_string(result.signal) + ")" : std::string()) +
                   "; nothing of it was run\n";
        return out;
    }
  }
}

std::vector<std::string> ClangInterpreter::missing_symbols(const Compilation& made) {
  std::vector<std::string> out;
  for (const auto& name : made.wanted) {
    if (known_.count(name)) continue;
    bool found = dlsym(RTLD_DEFAULT, name.c_str());
    if (!found) try {
        found = jit_->lookup(name);
      } catch (const LinkError&) {
      }
    if (found)
      known_.insert(name);
    else
      out.push_back(spoken(name));
  }
  return out;
}

ClangInterpreter::Attempt ClangInterpreter::attempt(CompileRequest& request, const std::stop_token& stop) {
  Attempt out;
  if (!options_.isolate) {
    out.made = compiler().compile(request);
    out.made.here = true;
    out.ok = out.made.ok;
    return out;
  }
  out.made = compile_in_copy(request, stop);
  if (out.made.ok) out.missing = missing_symbols(out.made);
  if (!out.missing.empty() && !stop.stop_requested() && (request.quick || !request.debug_path.empty())) {
    // Perhaps a library function whose code is nowhere but in its header; or only code that is never reached wants it,
    // which the optimiser takes away: better without a debugger than not at all.
    copy_.reset();
    request.quick = false;
    request.debug_path.clear();
    out.made = compile_in_copy(request, stop);
    out.missing = out.made.ok ? missing_symbols(out.made) : std::vector<std::string>();
  }
  out.ok = out.made.ok && out.missing.empty();
  if (!out.ok) copy_.reset();
  return out;
}

CellError error_of(const std::string& text, const std::vector<std::string>& missing, int number) {
  CellError e;
  if (!missing.empty()) {
    e.ename = "LinkError";
    for (const auto& m : missing) e.evalue += (e.evalue.empty() ? "undefined symbol: " : ", ") + m;
    e.evalue = readable(e.evalue);
    e.traceback.push_back("Cell [" + std::to_string(number) + "]: \033[0;31m" + e.ename + "\033[0m");
    for (const auto& m : missing) e.traceback.push_back("  declared, but defined nowhere: " + readable(m));
    return e;
  }
  e.ename = "CompileError";
  e.traceback = lines_of(readable(text));
  static const std::regex first("(?:Cell \\[-?[0-9]+\\], (line [0-9]+, column [0-9]+): )?(?:fatal )?error: (.*)");
  for (const auto& line : e.traceback) {
    const std::string plain = without_colour(line);
    std::smatch m;
    if (!std::regex_search(plain, m, first)) continue;
    std::string where = m[1].str();
    static const std::regex inside("Cell \\[-?[0-9]+\\], (line [0-9]+, column [0-9]+): note: in ");
    if (where.empty())  // an error inside of a library: the line of the cell that led there
      for (const auto& later : e.traceback) {
        const std::string there = without_colour(later);
        std::smatch n;
        if (!std::regex_search(there, n, inside)) continue;
        where = n[1].str();
        break;
      }
    e.evalue = m[2].str() + (where.empty() ? "" : " (" + where + ")");
    break;
  }
  if (e.evalue.empty()) e.evalue = "the cell does not compile";
  if (e.traceback.empty()) e.traceback.push_back("\033[0;31m" + e.ename + "\033[0m: " + e.evalue);
  return e;
}

std::variant<CompiledCell, CellError> ClangInterpreter::link(const Compilation& made, const CompileRequest& request) {
  struct Debugging {
    Jit& jit;
    Debugging(Jit& j, bool on) : jit(j) { jit.keep_debug_objects(on); }
    ~Debugging() {
      jit.keep_debug_objects(false);
      (void)jit.take_debug_objects();
    }
  } debugging(*jit_, !request.debug_path.empty());
  CompiledCell cell;
  cell.warnings = readable(made.text);
  std::vector<llvm::orc::ResourceTrackerSP> trackers;
  try {
    // All of them before any is asked for: what a stage calls may be defined in a later one.
    for (const auto& part : made.parts) {
      if (part.object.empty()) continue;
      for (const auto& late : part.late) define_late(late);
      trackers.push_back(jit_->add(part.object));
    }
    for (const auto& part : made.parts) {
      if (part.object.empty()) continue;
      // Without any of its own the stage must still be linked: later cells use what it defines.
      void* const entry = jit_->lookup(part.entry);
      if (part.runs) {
        Segment segment;
        segment.run = reinterpret_cast<void (*)()>(entry);
        cell.segments.push_back(std::move(segment));
      }
      if (!part.coroutine.empty()) {
        Segment segment;
        segment.start = reinterpret_cast<caller::Coro<void> (*)()>(jit_->lookup(part.coroutine));
        cell.segments.push_back(std::move(segment));
      }
    }
  } catch (const LinkError& e) {
    for (auto& t : trackers) llvm::consumeError(t->remove());
    return error_of("error: " + std::string(e.what()) + "\n", e.missing, request.number);
  }
  if (!request.debug_path.empty()) cell.debug_objects = jit_->take_debug_objects();
  for (NeededSource f : made.functions) {
    f.source.flags = options_.flags;
    if (options_.function_given) options_.function_given(f.key, f.source);
  }
  return cell;
}

void ClangInterpreter::define_late(const LateMemory& late) {
  const auto rounded = std::max<std::size_t>(late.alignment, 16);
  void* memory = std::aligned_alloc(rounded, (std::max<std::size_t>(late.size, 1) + rounded - 1) / rounded * rounded);
  std::memset(memory, 0, late.size);  // never freed: later cells use it
  jit_->define(late.storage, memory);
  jit_->define(late.symbol, memory);
}

std::variant<CompiledCell, CellError> ClangInterpreter::compile(const std::string& code,
                                                                const CompileOptions& options) {
  // clang's incremental parser does not come to an end when a bracket is open at the end of its input.
  if (const std::string wrong = unbalanced(code, options.number); !wrong.empty())
    return error_of(wrong, {}, options.number);
  CompileRequest request = new_request(options);
  request.code = code;
  std::error_code none;
  request.directory = std::filesystem::current_path(none).string();
  Attempt tried = attempt(request, options.stop);
  if (!tried.ok && tried.made.ambiguous && !options.stop.stop_requested() && !tried.made.here) {
    // `A * b;` looked like a declaration; perhaps it is a product.
    CompileRequest other = request;
    other.ambiguous_is_expression = true;
    other.quick = true;
    other.debug_path = options.debug_path;
    if (Attempt again = attempt(other, options.stop); again.ok) {
      tried = std::move(again);
      request = std::move(other);
    }
  }
  if (!tried.ok) return error_of(tried.made.text, tried.missing, options.number);
  if (options.stop.stop_requested()) {  // from here on nothing can be taken back
    copy_.reset();
    return error_of("error: the compiler was interrupted\n", {}, options.number);
  }
  auto linked = link(tried.made, request);
  if (tried.made.here) return linked;
  if (std::holds_alternative<CellError>(linked) || !copy_stays_) copy_.reset();
  if (std::holds_alternative<CompiledCell>(linked)) {
    std::vector<FollowedPart> parts;
    for (auto& part : tried.made.parts) parts.push_back({std::move(part.text), std::move(part.pieces)});
    follower_->push(std::move(request), std::move(parts));
  }
  return linked;
}

CellError ClangInterpreter::describe_current_exception(int cell_number) {
  return describe_exception(cell_number, [this](const void* address) { return jit_->lines().places(address); });
}

Completeness ClangInterpreter::is_complete(const std::string& code) {
  Completeness out = lexical_completeness(code);
  if (out.status != Completeness::Status::complete || tokenize(code).tokens.empty()) return out;
  // Consoles wait a second for this answer. What is wrong with the code they learn when it runs, too.
  if (!follower_->settle_within(std::chrono::milliseconds(300))) return out;
  Engine& engine = compiler().engine();
  const Assembly assembly = assemble(code, compiler_->assemble_options(++unit_, 0));
  const auto result = in_copy(
      [&] {
        engine.syntax_only();
        for (const auto& stage : assembly.stages)
          if (auto p = engine.parse(stage.text, "cell"); !p.ok)
            return std::string(p.parse_issue ? "invalid" : "complete");
        return std::string("complete");
      },
      std::chrono::seconds(2));
  if (result.status == SandboxResult::Status::done && result.data == "invalid")
    out.status = Completeness::Status::invalid;
  return out;
}

std::unique_ptr<Interpreter> make_clang_interpreter(InterpreterOptions options) {
  return std::make_unique<ClangInterpreter>(std::move(options));
}

}  // namespace caller::kernel
