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
  std::string signal;               ///< the name of the signal, or of the input or asset
  Place place;                      ///< where it is written
};

/// A node of a specification. Source: noob NodeSpecification.
struct NodeSpec {
  std::string id;                                          ///< unique in the tube
  std::string type;                                        ///< as written: a registered name, or a built-in one
  std::vector<Depend> depends;                             ///< in the order written
  bool depends_is_scalar = false;                          ///< written as one `node.signal`, not as a list
  Map params;                                              ///< as written, `input.x` included
  std::variant<bool, std::string> enabled = true;          ///< or the name of an input
  std::optional<bool> stateful;                            ///< none: as the type says
  std::string description;                                 ///< for people
  Place place;                                             ///< where it is written
  Place type_place;                                        ///< where its type is written
  Place depends_place;                                     ///< where its dependencies are written
  std::map<std::string, Place, std::less<>> param_places;  ///< where each param is written
};

/// When the value of an input is given: once for a tube, or at each call of process().
enum class InputScope : unsigned char { tube, process };
/// An input of a specification. Source: noob InputSpecification.
struct InputSpec {
  std::string id;                       ///< its name
  std::string type;                     ///< the name of the type it must have
  InputScope scope = InputScope::tube;  ///< when it is given
  bool required = true;                 ///< it has no default
  Value fallback;                       ///< what stands there when it is not given
  std::string description;              ///< for people
  Place place;                          ///< where it is written
};

/// How long an asset's object lives: as long as the runner is open, for one epoch, for one call of a node.
enum class AssetScope : unsigned char { runner, process, node };
/// An asset of a specification. Source: noob AssetSpecification.
struct AssetSpec {
  std::string id;                                          ///< its name
  std::string type;                                        ///< a registered name
  AssetScope scope = AssetScope::runner;                   ///< how long its object lives
  Map params;                                              ///< as written
  std::optional<Depend> depends;                           ///< a signal that replaces the object
  std::string description;                                 ///< for people
  Place place;                                             ///< where it is written
  Place type_place;                                        ///< where its type is written
  std::map<std::string, Place, std::less<>> param_places;  ///< where each param is written
};

/// A tube as it is written: `extends` resolved, every key known, every dependency naming something that exists.
///
/// Thread-safety: distinct objects: safe; the search path and the definitions are shared by all threads.
/// Errors: SpecError with file, line, column and key; Error(not_found) for an id or path that names nothing.
/// Source: noob TubeSpecification.
struct CALLER_API TubeSpec {
  std::string id;                    ///< `tube_id` or `noob_id`
  std::string description;           ///< for people
  std::string version;               ///< `noob_version`, as written
  std::vector<std::string> extends;  ///< as written; what they say is in the rest
  std::vector<NodeSpec> nodes;       ///< in the order written
  std::vector<InputSpec> input;      ///< in the order written
  std::vector<AssetSpec> assets;     ///< in the order written
  std::string file;                  ///< where it was read, empty for text and maps

  TubeSpec();
  TubeSpec(const TubeSpec&);
  TubeSpec(TubeSpec&&) noexcept;
  TubeSpec& operator=(const TubeSpec&);
  TubeSpec& operator=(TubeSpec&&) noexcept;
  ~TubeSpec();

  /// An id in the search path or of define(), a path, or YAML text (which has more than one line).
  static TubeSpec from_any(std::string_view source);
  /// As from_map().
  static TubeSpec from_any(const Map& map) { return from_map(map); }
  /// An id of define() or in the search path.
  static TubeSpec from_id(std::string_view id);
  /// A file; relative to the working folder.
  static TubeSpec from_file(const std::filesystem::path& path);
  /// `name` stands for the file in messages; `first_line` is the number of the text's first line in there.
  static TubeSpec from_text(std::string_view yaml, std::string name = {}, int first_line = 1);
  /// What YAML of the same keys would give, without places.
  static TubeSpec from_map(const Map& map);

  const NodeSpec* find_node(std::string_view node) const noexcept;    ///< null: there is none
  const InputSpec* find_input(std::string_view name) const noexcept;  ///< null: there is none
  const AssetSpec* find_asset(std::string_view name) const noexcept;  ///< null: there is none
};

/// Folders that ids are looked up in, searched with all they contain: those added, then CALLER_TUBE_PATH, the last one
/// first. Thread-safety: any thread.
CALLER_API void add_search_path(std::filesystem::path folder);
/// The folders in the order in which they are searched. Thread-safety: any thread. Errors: none.
CALLER_API std::vector<std::filesystem::path> search_path();
/// Makes `yaml` known under its id, before any file of that id; a cell of a notebook does so. Errors: SpecError.
CALLER_API std::string define(std::string_view yaml, std::string name = {}, int first_line = 1);
/// Every id that from_id() finds, with its file (empty for define()d ones).
CALLER_API std::vector<std::pair<std::string, std::string>> known_ids();

}  // namespace caller::tube
