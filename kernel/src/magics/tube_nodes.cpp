#include "magics/tube_nodes.hpp"

#include <cctype>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <set>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <caller/caller.hpp>
#include <caller/tube/registry.hpp>

#include "interpreter/faults.hpp"
#include "magics/functions.hpp"
#include "session/kernel.hpp"

namespace caller::kernel {

TubeSession::~TubeSession() {
  for (const auto& [name, declaration] : nodes) tube::registry().erase(name);
  for (const auto& [name, declaration] : assets) tube::registry().erase(name);
}

namespace magics {

using tube::NodeSpec;
using tube::SpecError;
using tube::TubeSpec;

TubeSession& tube_session(Kernel& kernel) {
  return kernel.tubes([] { return std::make_shared<TubeSession>(); });
}

namespace {

/// A type that a specification names and that cells may have declared.
struct Wanted {
  std::string name;
  bool asset = false;
  tube::Place place;
  std::string key;
  Declared found;
};

const std::vector<std::string>& node_methods() {
  static const std::vector<std::string> methods{"process", "next"};
  return methods;
}

/// The types of a specification and of the tubes inside of it. What is wrong with those is found when they are built.
void collect(const TubeSpec& spec, std::set<std::string>& seen, std::vector<Wanted>& out) {
  if (!seen.insert(spec.id).second || seen.size() > 1000) return;
  for (const NodeSpec& node : spec.nodes) {
    if (node.type == "tube") {
      const tube::Value* child = node.params.find("tube");
      try {
        if (child && child->kind() == tube::Kind::string)
          collect(TubeSpec::from_any(child->as<std::string>()), seen, out);
        else if (const tube::Map* map = child ? child->find<tube::Map>() : nullptr)
          collect(TubeSpec::from_map(*map), seen, out);
      } catch (const tube::Error&) {
      }
    } else {
      out.push_back({node.type, false, node.type_place, "nodes." + node.id + ".type", {}});
    }
  }
  for (const tube::AssetSpec& asset : spec.assets)
    out.push_back({asset.type, true, asset.type_place, "assets." + asset.id + ".type", {}});
}

/// How C++ spells a type of a specification: `mine.Filter` is `mine::Filter`.
std::string cxx_name(const std::string& name) {
  std::string out;
  for (const char c : name) out += c == '.' ? "::" : std::string(1, c);
  return out;
}

/// Text as a string literal.
std::string literal(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == '?') {  // no trigraphs either
      char octal[8];
      std::snprintf(octal, sizeof octal, "\\%03o", static_cast<unsigned>(static_cast<unsigned char>(c)));
      out += octal;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

/// Those are filled by the runner; nobody needs their names.
bool is_injected(const Parameter& p) {
  for (const char* name : {"caller::tube::Epoch", "caller::tube::EventMap", "caller::tube::RunnerContext",
                           "caller::tube::Args", "caller::tube::Kwargs"})
    if (p.class_name == name) return true;
  return false;
}

std::string quoted(const Wanted& w) {
  return "\"" + w.name + "\"" + (w.found.place.empty() ? "" : " (" + w.found.place + ")");
}

[[noreturn]] void refuse(const Wanted& w, const std::string& why) { throw SpecError(w.place, w.key, why); }

/// Why a function cannot be called by name; `what` is how it is called in the message.
void check(const Wanted& w, const Callable& f, const std::string& what) {
  if (!f.fault.empty()) refuse(w, what + " " + f.fault);
  for (std::size_t i = 0; i < f.parameters.size(); ++i)
    if (f.parameters[i].name.empty() && !is_injected(f.parameters[i]))
      refuse(w, what + ": parameter " + std::to_string(i + 1) + " has no name, after which its slot could be called");
}

/// Errors: SpecError for what can be no node, or no asset.
void check(const Wanted& w) {
  switch (w.found.kind) {
    case Declared::Kind::nothing:
      return;
    case Declared::Kind::other:
      refuse(w, quoted(w) + " is " + w.found.what);
    case Declared::Kind::function:
    case Declared::Kind::lambda:
      if (w.asset) refuse(w, quoted(w) + " is a function: an asset is an object of a class");
      return check(w, w.found.call, quoted(w));
    case Declared::Kind::record:
      break;
  }
  check(w, w.found.call, "the class " + quoted(w));
  for (const Parameter& p : w.found.call.parameters)
    if (p.type.find("(unnamed ") != std::string::npos || p.type.find("(anonymous") != std::string::npos ||
        p.type.find("(lambda") != std::string::npos)
      refuse(w, "the constructor of " + quoted(w) + " has the parameter \"" + p.name + "\" of a type without a name");
  if (w.asset) return;
  const auto& methods = w.found.methods;
  if (methods.empty()) refuse(w, "the class " + quoted(w) + " has neither process() nor next(): it can be no node");
  const auto process = methods.find("process");
  const auto& [name, method] = process != methods.end() ? *process : *methods.find("next");
  check(w, method, name + "() of the class " + quoted(w));
  if (name == "next" && !method.parameters.empty())
    refuse(w, "next() of the class " + quoted(w) + " has parameters: a source takes nothing");
}

/// `cell_slots<…>({…})` for parameters; `type_of` gives the text of the type of parameter `i`.
template <class TypeOf>
std::string slots(const std::vector<Parameter>& parameters, const std::string& tuple, TypeOf&& type_of) {
  std::string out = "cell_slots<" + tuple + ">(std::vector<CellParameter>{";
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    out += std::string(i ? ", " : "") + "{" + literal(parameters[i].name);
    if (!parameters[i].default_text.empty())
      out += ", default_value<" + type_of(i) + ">(" + parameters[i].default_text + "\n)";
    out += "}";
  }
  return out + "})";
}

std::string function_slots(const Callable& f, const std::string& type) {
  return slots(f.parameters, "ParametersOf<" + type + ">",
               [&](std::size_t i) { return "ParameterOf<" + type + ", " + std::to_string(i) + ">"; });
}

std::string signals(const Callable& f) {
  std::string out = "::caller::tube::Signals{";
  for (std::size_t i = 0; i < f.signals.size(); ++i) out += (i ? ", " : "") + literal(f.signals[i]);
  return out + "}";
}

/// The statements that register a type.
std::string registration(const Wanted& w) {
  const Declared& d = w.found;
  const std::string name = literal(w.name);
  std::string add;
  if (d.kind == Declared::Kind::record) {
    std::string types, tuple;
    for (const Parameter& p : d.call.parameters) {
      types += ", " + p.type;
      tuple += (tuple.empty() ? "" : ", ") + p.type;
    }
    const std::string params =
        slots(d.call.parameters, "std::tuple<" + tuple + ">", [&](std::size_t i) { return d.call.parameters[i].type; });
    const auto process = d.methods.find("process");
    if (w.asset)
      add = "caller_r.add_asset<" + d.name + types + ">(" + name + ", " + params + ");\n";
    else if (process != d.methods.end())
      add = "caller_r.add_class<" + d.name + types + ">(" + name + ", " + params + ", &" + d.name + "::process, " +
            function_slots(process->second, "decltype(&" + d.name + "::process)") + ", " + signals(process->second) +
            ");\n";
    else
      add = "caller_r.add_source<" + d.name + types + ">(" + name + ", " + params + ", " +
            signals(d.methods.at("next")) + ");\n";
  } else {
    add = "caller_r.add(" + name + ", " + d.expression + ", " +
          function_slots(d.call, "decltype(" + d.expression + ")") + ", " + signals(d.call) + ");\n";
  }
  return "using namespace ::caller::kernel::detail;\n::caller::tube::Registry caller_r;\n" + add +
         (w.asset ? "take_asset" : "take_node") + "(caller_r, " + name + ");\n";
}

/// A function that registers a type, in the namespace where default arguments mean what they mean there.
std::string registering_function(const Wanted& w, const std::string& function) {
  std::string open, close, qualified = "::";
  const bool has_defaults = [&] {
    const auto any = [](const Callable& f) {
      for (const Parameter& p : f.parameters)
        if (!p.default_text.empty()) return true;
      return false;
    };
    const auto process = w.found.methods.find("process");
    return any(w.found.call) || (process != w.found.methods.end() && any(process->second));
  }();
  if (has_defaults)
    for (std::string rest = w.found.scope; !rest.empty();) {
      const std::size_t at = rest.find("::");
      open += "namespace " + rest.substr(0, at) + " {\n";
      close += "}\n";
      qualified += rest.substr(0, at) + "::";
      rest = at == std::string::npos ? "" : rest.substr(at + 2);
    }
  return open + "inline void " + function + "() {\n" + registration(w) + "}\n" + close + qualified + function + "();\n";
}

/// Compiles and runs a cell of the kernel's own. Returns what is wrong with it, if it does not compile.
/// Errors: what it throws when it runs.
Coro<std::optional<CellError>> run_generated(MagicContext& c, std::string code) {
  CompileOptions options;
  options.number = c.work->number;
  options.show_result = false;
  auto pending =
      c.kernel.with_interpreter([code = std::move(code), options](Interpreter& i) { return i.compile(code, options); });
  co_await pending.async_wait_done({.protect = true});
  auto compiled = co_await pending.async_wait({.shield = true});
  if (auto* error = std::get_if<CellError>(&compiled)) co_return std::move(*error);
  CompiledCell cell = std::get<CompiledCell>(std::move(compiled));
  for (Segment& segment : cell.segments) {
    if (!segment.run) continue;
    const Interrupts::Plain interruptible(c.kernel.interrupts(), c.active->thread);
    faults::guarded(segment.run);
  }
  co_return std::nullopt;
}

/// What is told of an error in generated text: not its lines, which nobody has seen.
std::string without_place(std::string text) {
  const std::size_t at = text.rfind(" (line ");
  if (at != std::string::npos && text.ends_with(")")) text.resize(at);
  return text;
}

/// Registers these, all in one cell. Returns what is wrong.
Coro<std::string> register_all(MagicContext& c, std::vector<const Wanted*> wanted) {
  TubeSession& session = tube_session(c.kernel);
  std::string code = "#include <caller/kernel/tubes.hpp>\n";
  {
    const std::lock_guard lock(session.mutex);
    for (const Wanted* w : wanted)
      code += registering_function(*w, "__caller_tube_node_" + std::to_string(++session.cells));
  }
  std::string wrong;
  try {
    std::optional<CellError> error = co_await run_generated(c, std::move(code));
    if (error) wrong = without_place(error->evalue);
  } catch (const tube::Error& e) {
    wrong = e.what();
  }
  if (wrong.empty()) {
    const std::lock_guard lock(session.mutex);
    for (const Wanted* w : wanted) (w->asset ? session.assets : session.nodes)[w->name] = w->found.identity;
  }
  co_return wrong;
}

/// `; did you mean "multiply"?`, of what is registered and what cells have defined.
std::string suggestion(const Wanted& w, const std::vector<Interpreter::Symbol>& symbols) {
  tube::Registry names;
  for (const std::string& name : tube::registry().names()) {
    tube::NodeType type;
    type.name = name;
    names.insert(std::move(type), true);
  }
  for (const Interpreter::Symbol& s : symbols)
    if (s.kind == "function" || s.kind == "class") {
      tube::NodeType type;
      type.name = s.name;
      names.insert(std::move(type), true);
    }
  std::string out;
  for (const std::string& name : names.similar(w.name, false))
    out += (out.empty() ? "; did you mean \"" : " or \"") + name + "\"";
  return out.empty() ? out : out + "?";
}

}  // namespace

void load_plugin_once(Kernel& kernel, const std::string& path) {
  std::error_code error;
  std::string file = std::filesystem::canonical(path, error).string();
  if (error) file = path;
  TubeSession& session = tube_session(kernel);
  {
    const std::lock_guard lock(session.mutex);
    if (session.plugins.contains(file)) return;
  }
  tube::registry().load_plugin(file);
  const std::lock_guard lock(session.mutex);
  session.plugins.insert(std::move(file));
}

Coro<void> register_nodes(MagicContext& c, const TubeSpec& spec, bool elsewhere) {
  std::vector<Wanted> wanted;
  {
    std::set<std::string> seen;
    collect(spec, seen, wanted);
    TubeSession& session = tube_session(c.kernel);
    const std::lock_guard lock(session.mutex);
    std::set<std::pair<std::string, bool>> asked;
    std::erase_if(wanted, [&](const Wanted& w) {
      if (!asked.emplace(w.name, w.asset).second) return true;
      const bool of_cells = (w.asset ? session.assets : session.nodes).contains(w.name);
      return !of_cells &&
             (w.asset ? tube::registry().find_asset(w.name) != nullptr : tube::registry().find(w.name) != nullptr);
    });
  }
  if (wanted.empty()) co_return;

  std::vector<std::string> names;
  for (const Wanted& w : wanted) names.push_back(cxx_name(w.name));
  struct Answer {
    std::vector<Declared> declared;
    std::vector<Interpreter::Symbol> symbols;
  };
  auto pending = c.kernel.with_interpreter([names](Interpreter& i) {
    Answer answer;
    for (const std::string& name : names) answer.declared.push_back(i.declared(name, node_methods()));
    answer.symbols = i.symbols();
    return answer;
  });
  Answer answer = co_await pending;

  std::vector<const Wanted*> fresh;
  {
    TubeSession& session = tube_session(c.kernel);
    const std::lock_guard lock(session.mutex);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      Wanted& w = wanted[i];
      w.found = std::move(answer.declared[i]);
      auto& known = w.asset ? session.assets : session.nodes;
      const auto at = known.find(w.name);
      if (w.found.kind == Declared::Kind::nothing) {
        if (at != known.end()) {  // forgotten by %reset
          known.erase(at);
          tube::registry().erase(w.name);
        }
        refuse(w, std::string("unknown type ") + (w.asset ? "of asset " : "") + "\"" + w.name + "\"" +
                      suggestion(w, answer.symbols));
      }
      check(w);
      if (elsewhere)
        refuse(w, quoted(w) +
                      " is code of this session, which no other process has: the runner cluster takes built-in " +
                      "types and those of plugins (--plugin)");
      if (at == known.end() || at->second != w.found.identity) fresh.push_back(&w);
    }
  }
  if (fresh.empty()) co_return;
  std::string wrong = co_await register_all(c, fresh);
  if (wrong.empty()) co_return;
  if (fresh.size() > 1) {  // which of them?
    for (const Wanted* w : fresh) {
      std::vector<const Wanted*> one(1, w);
      const std::string its = co_await register_all(c, std::move(one));
      if (!its.empty()) refuse(*w, quoted(*w) + " cannot be " + (w->asset ? "an asset: " : "a node: ") + its);
    }
    co_return;
  }
  refuse(*fresh[0], quoted(*fresh[0]) + " cannot be " + (fresh[0]->asset ? "an asset: " : "a node: ") + wrong);
}

std::string tube_variable(const std::string& id) {
  static constexpr std::string_view kKeywords =
      " alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t "
      "char32_t class co_await co_return co_yield compl concept const const_cast consteval constexpr "
      "constinit continue decltype default delete do double dynamic_cast else enum explicit export "
      "extern false float for friend goto if inline int long mutable namespace new noexcept not "
      "not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires "
      "return short signed sizeof static static_assert static_cast struct switch template this "
      "thread_local throw true try typedef typeid typename union unsigned using virtual void volatile "
      "wchar_t while xor xor_eq ";
  std::string out;
  for (const char ch : id) {
    const auto u = static_cast<unsigned char>(ch);
    out += std::isalnum(u) || ch == '_' || u >= 0x80 ? ch : '_';
  }
  if (out.empty() || std::isdigit(static_cast<unsigned char>(out[0]))) out.insert(out.begin(), '_');
  if (kKeywords.find(" " + out + " ") != std::string_view::npos) out += '_';
  return out;
}

Coro<void> declare_tube(MagicContext& c, tube::Tube made) {
  const std::string name = tube_variable(made.id());
  TubeSession& session = tube_session(c.kernel);
  auto pending =
      c.kernel.with_interpreter([name](Interpreter& i) { return i.declared("tubes::" + name, {}).identity; });
  const void* declared = co_await pending;
  tube::Tube* slot = nullptr;
  {
    const std::lock_guard lock(session.mutex);
    TubeSession::Variable& v = session.variables[name];
    if (!v.tube)
      v.tube = std::make_unique<tube::Tube>(made);
    else
      *v.tube = std::move(made);
    if (declared && declared == v.declaration) co_return;
    slot = v.tube.get();
  }
  char address[32];
  std::snprintf(address, sizeof address, "%p", static_cast<void*>(slot));
  std::optional<CellError> error =
      co_await run_generated(c, "#include <caller/kernel/tubes.hpp>\nnamespace tubes { ::caller::tube::Tube& " + name +
                                    " = *reinterpret_cast< ::caller::tube::Tube*>(" + address + "); }\n");
  if (error) throw std::runtime_error("tubes::" + name + " cannot be declared: " + without_place(error->evalue));
  auto again = c.kernel.with_interpreter([name](Interpreter& i) { return i.declared("tubes::" + name, {}).identity; });
  const void* identity = co_await again;
  const std::lock_guard lock(session.mutex);
  session.variables[name].declaration = identity;
}

}  // namespace magics
}  // namespace caller::kernel
