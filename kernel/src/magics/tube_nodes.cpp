#include "magics/tube_nodes.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <regex>
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
#include "jit_tasks/cell_nodes.hpp"
#include "jit_tasks/node_types.hpp"
#include "magics/functions.hpp"
#include "session/kernel.hpp"

namespace caller::kernel {

TubeSession::~TubeSession() {
  for (const auto& [name, declaration] : nodes) tube::registry().erase(name);
  for (const auto& [name, declaration] : assets) tube::registry().erase(name);
}

namespace magics {

using tube::NodeSpec;
using tube::TubeSpec;

TubeSession& tube_session(Kernel& kernel) {
  return kernel.tubes([] { return std::make_shared<TubeSession>(); });
}

namespace {

/// The tube inside of a node. What is wrong with it is found when it is built.
std::optional<TubeSpec> child_of(const NodeSpec& node) {
  const tube::Value* child = node.params.find("tube");
  try {
    if (child && child->kind() == tube::Kind::string) return TubeSpec::from_any(child->as<std::string>());
    if (const tube::Map* map = child ? child->find<tube::Map>() : nullptr) return TubeSpec::from_map(*map);
  } catch (const tube::Error&) {
  }
  return std::nullopt;
}

/// The types of a specification and of the tubes inside of it. What is wrong with those is found when they are built.
void collect(const TubeSpec& spec, std::set<std::string>& seen, std::vector<WantedType>& out) {
  if (!seen.insert(spec.id).second || seen.size() > 1000) return;
  for (const NodeSpec& node : spec.nodes) {
    if (node.type == "tube") {
      if (const std::optional<TubeSpec> inner = child_of(node)) collect(*inner, seen, out);
    } else {
      out.push_back({node.type, false, node.type_place, "nodes." + node.id + ".type", {}});
    }
  }
  for (const tube::AssetSpec& asset : spec.assets)
    out.push_back({asset.type, true, asset.type_place, "assets." + asset.id + ".type", {}});
}

/// Compiles and runs a cell of the kernel's own. Returns what is wrong with it, if it does not compile.
/// Errors: what it throws when it runs.
Coro<std::optional<CellError>> run_generated(MagicContext& c, std::string code) {
  CompileOptions options;
  options.number = c.work->number;
  options.show_result = false;
  auto compiled = co_await c.kernel.compile(std::move(code), std::move(options));
  if (auto* error = std::get_if<CellError>(&compiled)) co_return std::move(*error);
  CompiledCell cell = std::get<CompiledCell>(std::move(compiled));
  for (Segment& segment : cell.segments) {
    if (!segment.run) continue;
    const Interrupts::Plain interruptible(c.active->thread);
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

/// Registers these, all in one cell; with `crossing`, with codecs. Returns what is wrong.
Coro<std::string> register_all(MagicContext& c, std::vector<const WantedType*> wanted, bool crossing) {
  TubeSession& session = tube_session(c.kernel);
  std::string code = std::string(kRegistrationHeader) + (crossing ? kCrossingHeader : "");
  {
    const std::lock_guard lock(session.mutex);
    for (const WantedType* w : wanted)
      code += registering_function(*w, "__caller_tube_node_" + std::to_string(++session.cells), crossing);
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
    for (const WantedType* w : wanted) {
      (w->asset ? session.assets : session.nodes)[w->name] = w->found.identity;
      if (crossing)
        session.crossing.insert(w->name);
      else
        session.crossing.erase(w->name);
    }
  }
  co_return wrong;
}

/// `; did you mean "multiply"?`, of what is registered and what cells have defined.
std::string suggestion(const WantedType& w, const std::vector<Interpreter::Symbol>& symbols) {
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

Coro<CellTypes> register_nodes(MagicContext& c, const TubeSpec& spec, bool elsewhere) {
  CellTypes of_cells;
  std::vector<WantedType> wanted;
  {
    std::set<std::string> seen;
    collect(spec, seen, wanted);
    TubeSession& session = tube_session(c.kernel);
    const std::lock_guard lock(session.mutex);
    std::set<std::pair<std::string, bool>> asked;
    std::erase_if(wanted, [&](const WantedType& w) {
      if (!asked.emplace(w.name, w.asset).second) return true;
      const bool known = (w.asset ? session.assets : session.nodes).contains(w.name);
      return !known &&
             (w.asset ? tube::registry().find_asset(w.name) != nullptr : tube::registry().find(w.name) != nullptr);
    });
  }
  if (wanted.empty()) co_return of_cells;

  std::vector<std::string> names;
  for (const WantedType& w : wanted) names.push_back(cxx_name(w.name));
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

  std::vector<const WantedType*> fresh;
  {
    TubeSession& session = tube_session(c.kernel);
    const std::lock_guard lock(session.mutex);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      WantedType& w = wanted[i];
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
      (w.asset ? of_cells.assets : of_cells.nodes).insert(w.name);
      if (at == known.end() || at->second != w.found.identity || (elsewhere && !session.crossing.contains(w.name)))
        fresh.push_back(&w);
    }
  }
  if (fresh.empty()) co_return of_cells;
  std::string wrong = co_await register_all(c, fresh, elsewhere);
  if (wrong.empty()) co_return of_cells;
  if (fresh.size() > 1) {  // which of them?
    for (const WantedType* w : fresh) {
      std::vector<const WantedType*> one(1, w);
      const std::string its = co_await register_all(c, std::move(one), elsewhere);
      if (!its.empty()) refuse(*w, quoted(*w) + " cannot be " + (w->asset ? "an asset: " : "a node: ") + its);
    }
    co_return of_cells;
  }
  refuse(*fresh[0], quoted(*fresh[0]) + " cannot be " + (fresh[0]->asset ? "an asset: " : "a node: ") + wrong);
}

namespace {

/// The types of cells that a node needs in its process: its own, those of its assets, and all of a tube inside of it.
void add_types(const TubeSpec& spec, const NodeSpec& node, const CellTypes& known, std::set<std::string>& seen,
               CellTypes& out) {
  if (known.nodes.contains(node.type)) out.nodes.insert(node.type);
  for (const tube::Depend& d : node.depends) {
    if (d.node != "assets") continue;
    for (const tube::AssetSpec& asset : spec.assets)
      if (asset.id == d.signal && known.assets.contains(asset.type)) out.assets.insert(asset.type);
  }
  if (node.type != "tube") return;
  const std::optional<TubeSpec> inner = child_of(node);
  if (!inner || !seen.insert(inner->id).second) return;
  for (const NodeSpec& n : inner->nodes) add_types(*inner, n, known, seen, out);
}

/// The variable among these that is an object of this process, by its address (EmbeddedKernel::expose, `tubes::id`).
std::string bound_here(const std::vector<SourceCell>& cells) {
  static const std::regex bound(
      "(?:caller_exposed_[0-9]+_|::caller::tube::Tube)& ([^ ;]+) = \\*reinterpret_cast<[^>]*>\\(0x");
  std::smatch found;
  for (const SourceCell& cell : cells)
    if (std::regex_search(cell.text, found, bound)) return found[1];
  return {};
}

}  // namespace

tube::ClusterProgram cell_program(Kernel& kernel, const TubeSpec& spec, const CellTypes& types,
                                  const std::vector<std::string>& nodes) {
  CellTypes needed;
  for (const NodeSpec& node : spec.nodes) {
    std::set<std::string> seen;
    if (std::find(nodes.begin(), nodes.end(), node.id) != nodes.end()) add_types(spec, node, types, seen, needed);
  }
  if (needed.nodes.empty() && needed.assets.empty()) return {};
  CellNodes told;
  told.nodes = nodes;
  std::vector<std::string> names;
  for (const bool asset : {false, true})
    for (const std::string& name : asset ? needed.assets : needed.nodes) {
      told.types.push_back({name, asset});
      names.push_back(cxx_name(name));
    }
  auto asked = kernel.with_interpreter([names](Interpreter& i) { return i.source_of(names); });
  told.source = asked.wait();
  if (!told.source.fault.empty())
    throw tube::Error(tube::Errc::invalid_specification,
                      "the node \"" + nodes.front() + "\" cannot run in a process of its own: " + told.source.fault);
  if (const std::string object = bound_here(told.source.cells); !object.empty())
    throw tube::Error(tube::Errc::invalid_specification, "the node \"" + nodes.front() +
                                                             "\" cannot run in a process of its own: it uses \"" +
                                                             object + "\", an object that only this process has");
  told.prelude_directory = kernel.prelude_directory();
  return {{cell_node_program()}, to_payload(told)};
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
