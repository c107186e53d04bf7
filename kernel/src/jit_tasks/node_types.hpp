// Functions and classes of cells as types of nodes: what can be one, and the text that registers it.
#pragma once

#include <string>
#include <vector>

#include <caller/tube/error.hpp>

#include "interpreter/interpreter.hpp"

namespace caller::kernel {

/// A type that a specification names and that cells may have declared.
struct WantedType {
  std::string name;
  bool asset = false;
  tube::Place place;
  std::string key;
  Declared found;  ///< what the compiler says of cxx_name(name) and node_methods()
};

/// The functions of a class that make it a node.
const std::vector<std::string>& node_methods();

/// How C++ spells a type of a specification: `mine.Filter` is `mine::Filter`.
std::string cxx_name(const std::string& name);

/// `"Filter" (Cell [3], line 2)`.
std::string quoted(const WantedType& type);

/// Ends the specification's use at that type. Errors: tube::SpecError, always.
[[noreturn]] void refuse(const WantedType& type, const std::string& why);

/// Whether it can be a node, or an asset. Errors: tube::SpecError for what cannot; nothing is said of what was not
/// found.
void check(const WantedType& type);

/// A piece of a cell that registers the type when it runs; `function` is a name that no other piece has. With
/// `crossing`, objects of the types that it takes and gives can cross to other processes, as far as they can be taken
/// apart. The cell begins with kRegistrationHeader.
std::string registering_function(const WantedType& type, const std::string& function, bool crossing);

inline constexpr const char* kRegistrationHeader = "#include <caller/kernel/tubes.hpp>\n";
inline constexpr const char* kCrossingHeader = "#include <caller/kernel/tube_codecs.hpp>\n";

}  // namespace caller::kernel
