// A specification as a tree that knows where each part stands. YAML and in-memory maps both become one.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <caller/tube/error.hpp>
#include <caller/tube/value.hpp>

namespace caller::tube::detail {

struct TreeEntry;

/// A part of a specification. Texts of YAML are typed by the rules of YAML 1.2's core schema unless they are quoted.
struct Tree {
  enum class Type : unsigned char { scalar, sequence, mapping };
  Type type = Type::scalar;
  Value scalar;   ///< of a scalar
  Value spelled;  ///< of a scalar of YAML that is no text: as it is written
  std::vector<Tree> items;
  std::vector<TreeEntry> entries;
  std::shared_ptr<const std::string> file;
  int line = 0;
  int column = 0;

  Place place() const { return {file ? *file : std::string(), line, column}; }
  bool is_null() const noexcept { return type == Type::scalar && scalar.is_none(); }
  const Tree* find(std::string_view key) const noexcept;
  TreeEntry* entry(std::string_view key) noexcept;
  Value value() const;
  /// A scalar's text, of numbers and the like as they are written.
  std::string text() const;
  /// What it is, for messages: "a list", "a map", "the text …".
  std::string what() const;
};

struct TreeEntry {
  std::string key;
  int line = 0;
  int column = 0;
  Tree value;
};

/// Errors: SpecError at the place where the text stops to be YAML, for duplicate keys, and for what is too deep or too
/// large.
Tree parse_yaml(std::string_view text, const std::string& name, int first_line);
Tree tree_of(const Value& value);

}  // namespace caller::tube::detail
