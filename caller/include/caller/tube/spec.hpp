// Specifications of tubes: what stands in the YAML file, checked as far as that is possible without knowing any node.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <caller/export.hpp>
#include <caller/tube/error.hpp>
#include <caller/tube/value.hpp>

namespace caller::tube {

/// One entry of `depends`: a signal, and the slot it goes to. Source: noob Edge before it is resolved.
struct Depend {
  std::optional<std::string> slot;  ///< none: positional
  std::string node;                 ///< a node's id, `input` or `assets`
  std::string signal;
  Place place;
};

/// A node of a specification. Source: noob NodeSpecification.
struct NodeSpec {
  std::string id;
  std::string type;
  std::vector<Depend> depends;
  bool depends_is_scalar = false;  ///< written as one `node.signal`, not as a list
  Map params;
  std::variant<bool, std::string> enabled = true;  ///< or the name of an input
  std::optional<bool> stateful;
  std::string description;
  Place place, type_place, depends_place;
  std::map<std::string, Place, std::less<>> param_places;
};

enum class InputScope : unsigned char { tube, process };
/// An input of a specification. Source: noob InputSpecification.
struct InputSpec {
  std::string id;
  std::string type;
  InputScope scope = InputScope::tube;
  bool required = true;
  Value fallback;
  std::string description;
  Place place;
};

enum class AssetScope : unsigned char { runner, process, node };
/// An asset of a specification. Source: noob AssetSpecification.
struct AssetSpec {
  std::string id;
  std::string type;
  AssetScope scope = AssetScope::runner;
  Map params;
  std::optional<Depend> depends;
  std::string description;
  Place place, type_place;
  std::map<std::string, Place, std::less<>> param_places;
};

/// A tube as it is written: `extends` resolved, every key known, every dependency naming something that exists.
///
/// Thread-safety: distinct objects: safe; the search path and the definitions are shared by all threads.
/// Errors: SpecError with file, line, column and key; Error(not_found) for an id or path that names nothing.
/// Source: noob TubeSpecification.
struct CALLER_API TubeSpec {
  std::string id;
  std::string description;
  std::string version;
  std::vector<std::string> extends;
  std::vector<NodeSpec> nodes;
  std::vector<InputSpec> input;
  std::vector<AssetSpec> assets;
  std::string file;  ///< where it was read, empty for text and maps

  TubeSpec();
  TubeSpec(const TubeSpec&);
  TubeSpec(TubeSpec&&) noexcept;
  TubeSpec& operator=(const TubeSpec&);
  TubeSpec& operator=(TubeSpec&&) noexcept;
  ~TubeSpec();

  /// An id in the search path or of define(), a path, or YAML text (which has more than one line).
  static TubeSpec from_any(std::string_view source);
  static TubeSpec from_any(const Map& map) { return from_map(map); }
  static TubeSpec from_id(std::string_view id);
  static TubeSpec from_file(const std::filesystem::path& path);
  /// `name` stands for the file in messages; `first_line` is the number of the text's first line in there.
  static TubeSpec from_text(std::string_view yaml, std::string name = {}, int first_line = 1);
  static TubeSpec from_map(const Map& map);

  const NodeSpec* find_node(std::string_view node) const noexcept;
  const InputSpec* find_input(std::string_view name) const noexcept;
  const AssetSpec* find_asset(std::string_view name) const noexcept;
};

/// Folders that ids are looked up in, searched with all they contain: those added, then CALLER_TUBE_PATH, the last one
/// first. Thread-safety: any thread.
CALLER_API void add_search_path(std::filesystem::path folder);
CALLER_API std::vector<std::filesystem::path> search_path();
/// Makes `yaml` known under its id, before any file of that id; a cell of a notebook does so. Errors: SpecError.
CALLER_API std::string define(std::string_view yaml, std::string name = {}, int first_line = 1);
/// Every id that from_id() finds, with its file (empty for define()d ones).
CALLER_API std::vector<std::pair<std::string, std::string>> known_ids();

}  // namespace caller::tube
