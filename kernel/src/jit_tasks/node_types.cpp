#include "jit_tasks/node_types.hpp"

#include <utility>

#include "interpreter/string_literal.hpp"

namespace caller::kernel {

using tube::SpecError;

const std::vector<std::string>& node_methods() {
  static const std::vector<std::string> methods{"process", "next"};
  return methods;
}

std::string cxx_name(const std::string& name) {
  std::string out;
  for (const char c : name) out += c == '.' ? "::" : std::string(1, c);
  return out;
}

namespace {

/// Those are filled by the runner; nobody needs their names.
bool is_injected(const Parameter& p) {
  for (const char* name : {"caller::tube::Epoch", "caller::tube::EventMap", "caller::tube::RunnerContext",
                           "caller::tube::Args", "caller::tube::Kwargs"})
    if (p.class_name == name) return true;
  return false;
}

}  // namespace

std::string quoted(const WantedType& w) {
  return "\"" + w.name + "\"" + (w.found.place.empty() ? "" : " (" + w.found.place + ")");
}

void refuse(const WantedType& w, const std::string& why) { throw SpecError(w.place, w.key, why); }

namespace {

/// Why a function cannot be called by name; `what` is how it is called in the message.
void check(const WantedType& w, const Callable& f, const std::string& what) {
  if (!f.fault.empty()) refuse(w, what + " " + f.fault);
  for (std::size_t i = 0; i < f.parameters.size(); ++i)
    if (f.parameters[i].name.empty() && !is_injected(f.parameters[i]))
      refuse(w, what + ": parameter " + std::to_string(i + 1) + " has no name, after which its slot could be called");
}

}  // namespace

void check(const WantedType& w) {
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

namespace {

/// `cell_slots<…>({…})` for parameters; `type_of` gives the text of the type of parameter `i`.
template <class TypeOf>
std::string slots(const std::vector<Parameter>& parameters, const std::string& tuple, TypeOf&& type_of) {
  std::string out = "cell_slots<" + tuple + ">(std::vector<CellParameter>{";
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    out += std::string(i ? ", " : "") + "{" + string_literal(parameters[i].name);
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
  for (std::size_t i = 0; i < f.signals.size(); ++i) out += (i ? ", " : "") + string_literal(f.signals[i]);
  return out + "}";
}

/// The statements that register a type.
std::string registration(const WantedType& w) {
  const Declared& d = w.found;
  const std::string name = string_literal(w.name);
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

/// Codecs for what it takes and gives.
std::string codecs(const WantedType& w) {
  const Declared& d = w.found;
  if (w.asset) return {};
  if (d.kind != Declared::Kind::record) return "add_function_codecs<decltype(" + d.expression + ")>();\n";
  if (d.methods.contains("process")) return "add_function_codecs<decltype(&" + d.name + "::process)>();\n";
  return "add_codecs<decltype(std::declval<" + d.name + "&>().next())>();\n";
}

}  // namespace

// In the namespace where default arguments mean what they mean there.
std::string registering_function(const WantedType& w, const std::string& function, bool crossing) {
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
  return open + "inline void " + function + "() {\n" + registration(w) + (crossing ? codecs(w) : "") + "}\n" + close +
         qualified + function + "();\n";
}

}  // namespace caller::kernel
