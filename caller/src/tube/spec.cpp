#include <caller/tube/spec.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>
#include <iterator>
#include <sstream>
#include <unordered_set>

#include "spec_search.hpp"
#include "tree.hpp"
#include "words.hpp"

namespace caller::tube {

using detail::did_you_mean;
using detail::listed;
using detail::Tree;
using detail::TreeEntry;

TubeSpec::TubeSpec() = default;
TubeSpec::TubeSpec(const TubeSpec&) = default;
TubeSpec::TubeSpec(TubeSpec&&) noexcept = default;
TubeSpec& TubeSpec::operator=(const TubeSpec&) = default;
TubeSpec& TubeSpec::operator=(TubeSpec&&) noexcept = default;
TubeSpec::~TubeSpec() = default;

namespace {

constexpr std::array kReserved{"assets", "input", "meta", "tube"};
const std::vector<std::string> kTubeKeys{"noob_id", "tube_id", "noob_model", "noob_version", "description",
                                         "extends", "assets",  "input",      "nodes"};
const std::vector<std::string> kNodeKeys{"type", "id", "depends", "params", "enabled", "stateful", "description"};
const std::vector<std::string> kInputKeys{"id", "type", "scope", "default", "required", "description"};
const std::vector<std::string> kAssetKeys{"id", "type", "scope", "params", "depends", "description"};

bool is_identifier(std::string_view text) {
  const auto letter = [](char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_'; };
  return !text.empty() && letter(text.front()) && std::all_of(text.begin(), text.end(), [&](char c) {
    return letter(c) || std::isdigit(static_cast<unsigned char>(c));
  });
}
bool is_tube_id(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '/' || c == '#';
  });
}

/// One part of the tree, and the way to it: written out only for messages. Must not outlive the one it is in.
struct At {
  const Tree& tree;
  std::string_view name{};
  const At* around = nullptr;
  std::size_t index = kNoIndex;  ///< of an item

  static constexpr std::size_t kNoIndex = static_cast<std::size_t>(-1);

  std::string key() const {
    std::string way = around ? around->key() : std::string();
    if (index != kNoIndex) return way + "[" + std::to_string(index) + "]";
    if (!way.empty()) way += '.';
    return way += name;
  }
  [[noreturn]] void fail(const std::string& message) const { throw SpecError(tree.place(), key(), message); }
  At in(const TreeEntry& e) const { return {e.value, e.key, this}; }
  At item(std::size_t i) const { return {tree.items[i], {}, this, i}; }

  const std::vector<TreeEntry>& map(const char* of) const {
    if (tree.type != Tree::Type::mapping) fail(std::string("expected a map of ") + of + ", found " + tree.what());
    return tree.entries;
  }
  const std::string& text() const {
    const std::string* found = tree.type == Tree::Type::scalar ? tree.scalar.find<std::string>() : nullptr;
    if (!found) fail("expected a text, found " + tree.what());
    return *found;
  }
  bool boolean() const {
    if (tree.type != Tree::Type::scalar || !tree.scalar.is<bool>())
      fail("expected true or false, found " + tree.what());
    return tree.scalar.as<bool>();
  }
  void known(const std::vector<std::string>& keys) const {
    for (const TreeEntry& e : tree.entries)
      if (std::find(keys.begin(), keys.end(), e.key) == keys.end())
        throw SpecError({tree.file ? *tree.file : std::string(), e.line, e.column}, in(e).key(),
                        "unknown key" + did_you_mean(e.key, keys) + " (known: " + listed(keys) + ")");
  }
};

void check_identifier(const At& at, const std::string& text, const char* what) {
  if (!is_identifier(text))
    at.fail(std::string(what) + " must be an identifier (letters, digits and _, no digit first), found \"" + text +
            "\"");
}

Depend read_signal(const At& at, std::optional<std::string> slot) {
  const std::string_view text = at.text();
  const std::size_t dot = text.find('.');
  if (dot == std::string_view::npos || !is_identifier(text.substr(0, dot)) || !is_identifier(text.substr(dot + 1)))
    at.fail("expected `node.signal`, `input.name` or `assets.name`, found \"" + at.text() + "\"");
  return {std::move(slot), std::string(text.substr(0, dot)), std::string(text.substr(dot + 1)), at.tree.place()};
}

void read_depends(const At& at, NodeSpec& node) {
  node.depends_place = at.tree.place();
  if (at.tree.is_null()) return;
  if (at.tree.type == Tree::Type::scalar) {
    node.depends_is_scalar = true;
    node.depends.push_back(read_signal(at, std::nullopt));
    return;
  }
  if (at.tree.type == Tree::Type::mapping)
    at.fail(
        "expected `node.signal` or a list of `node.signal` and `slot: node.signal`, found a map; put a `- ` before "
        "each line");
  constexpr std::size_t kFew = 16;
  std::unordered_set<std::string_view> slots;
  const auto taken = [&](const std::string& slot) {
    if (at.tree.items.size() > kFew) return !slots.insert(slot).second;
    return std::any_of(node.depends.begin(), node.depends.end(), [&](const Depend& d) { return d.slot == slot; });
  };
  node.depends.reserve(at.tree.items.size());
  for (std::size_t i = 0; i < at.tree.items.size(); ++i) {
    const At item = at.item(i);
    if (item.tree.type == Tree::Type::mapping) {
      if (item.tree.entries.size() != 1)
        item.fail("expected one `slot: node.signal`, found " + std::to_string(item.tree.entries.size()));
      const TreeEntry& e = item.tree.entries.front();
      const At signal = item.in(e);
      check_identifier(item, e.key, "a slot");
      if (taken(e.key)) signal.fail("the slot \"" + e.key + "\" is filled twice");
      node.depends.push_back(read_signal(signal, e.key));
    } else if (item.tree.type == Tree::Type::scalar) {
      node.depends.push_back(read_signal(item, std::nullopt));
    } else {
      item.fail("expected `node.signal` or `slot: node.signal`, found a list");
    }
  }
}

template <class Spec>
void read_params(const At& at, Spec& spec) {
  if (at.tree.is_null()) return;
  for (const TreeEntry& e : at.map("params")) {
    spec.params.set(e.key, e.value.value());
    spec.param_places[e.key] = e.value.place();
  }
}

/// The id that an entry repeats inside, if it does, must be its key.
void check_id(const At& at, const TreeEntry& e, const std::string& id) {
  if (at.in(e).text() != id) at.in(e).fail("the id is \"" + id + "\" already, by its key");
}

NodeSpec read_node(const At& at, const std::string& id) {
  if (at.tree.type != Tree::Type::mapping)
    at.fail("expected a map of " + listed(kNodeKeys) + ", found " + at.tree.what());
  at.known(kNodeKeys);
  NodeSpec node;
  node.id = id;
  node.place = at.tree.place();
  for (const TreeEntry& e : at.tree.entries) {
    const At value = at.in(e);
    if (e.key == "type") {
      node.type = value.text();
      node.type_place = e.value.place();
    } else if (e.key == "id") {
      check_id(at, e, id);
    } else if (e.key == "depends") {
      read_depends(value, node);
    } else if (e.key == "params") {
      read_params(value, node);
    } else if (e.key == "enabled") {
      if (e.value.scalar.is<bool>()) {
        node.enabled = value.boolean();
      } else {
        const std::string text =
            e.value.type == Tree::Type::scalar && e.value.scalar.is<std::string>() ? value.text() : "";
        if (!text.starts_with("input.") || !is_identifier(text.substr(6)))
          value.fail("expected true, false or `input.name`, found " + e.value.what());
        node.enabled = text.substr(6);
      }
    } else if (e.key == "stateful") {
      if (!e.value.is_null()) node.stateful = value.boolean();
    } else if (e.key == "description" && !e.value.is_null()) {
      node.description = value.text();
    }
  }
  if (node.type.empty()) at.fail("the node has no type");
  return node;
}

InputSpec read_input(const At& at, const std::string& id) {
  if (at.tree.type != Tree::Type::mapping)
    at.fail("expected a map of " + listed(kInputKeys) + ", found " + at.tree.what());
  at.known(kInputKeys);
  InputSpec input;
  input.id = id;
  input.place = at.tree.place();
  for (const TreeEntry& e : at.tree.entries) {
    const At value = at.in(e);
    if (e.key == "id") {
      check_id(at, e, id);
    } else if (e.key == "type") {
      input.type = value.text();
    } else if (e.key == "scope") {
      const std::string scope = value.text();
      if (scope == "tube")
        input.scope = InputScope::tube;
      else if (scope == "process")
        input.scope = InputScope::process;
      else
        value.fail("expected the scope tube or process, found \"" + scope + "\"" +
                   did_you_mean(scope, {"tube", "process"}));
    } else if (e.key == "default") {
      input.fallback = e.value.value();
    } else if (e.key == "required") {
      input.required = value.boolean();
    } else if (e.key == "description" && !e.value.is_null()) {
      input.description = value.text();
    }
  }
  if (input.type.empty()) at.fail("the input has no type");
  // A default answers for a missing value, so the value need not be given.
  if (at.tree.find("default") && !at.tree.find("required")) input.required = false;
  return input;
}

AssetSpec read_asset(const At& at, const std::string& id) {
  if (at.tree.type != Tree::Type::mapping)
    at.fail("expected a map of " + listed(kAssetKeys) + ", found " + at.tree.what());
  at.known(kAssetKeys);
  AssetSpec asset;
  asset.id = id;
  asset.place = at.tree.place();
  bool scoped = false;
  for (const TreeEntry& e : at.tree.entries) {
    const At value = at.in(e);
    if (e.key == "id") {
      check_id(at, e, id);
    } else if (e.key == "type") {
      asset.type = value.text();
      asset.type_place = e.value.place();
    } else if (e.key == "scope") {
      scoped = true;
      const std::string scope = value.text();
      if (scope == "runner")
        asset.scope = AssetScope::runner;
      else if (scope == "process")
        asset.scope = AssetScope::process;
      else if (scope == "node")
        asset.scope = AssetScope::node;
      else
        value.fail("expected the scope runner, process or node, found \"" + scope + "\"" +
                   did_you_mean(scope, {"runner", "process", "node"}));
    } else if (e.key == "params") {
      read_params(value, asset);
    } else if (e.key == "depends") {
      if (!e.value.is_null()) asset.depends = read_signal(value, std::nullopt);
    } else if (e.key == "description" && !e.value.is_null()) {
      asset.description = value.text();
    }
  }
  if (asset.type.empty()) at.fail("the asset has no type");
  if (!scoped) at.fail("the asset has no scope (runner, process or node)");
  if (asset.depends && asset.scope != AssetScope::runner)
    throw SpecError(asset.depends->place, at.key() + ".depends",
                    "only an asset of scope runner can depend on a signal");
  return asset;
}

template <class Read>
void read_section(const At& top, const char* name, const char* what, Read&& read) {
  const Tree* section = top.tree.find(name);
  if (!section || section->is_null()) return;
  const At at{*section, name};
  for (const TreeEntry& e : at.map(what)) {
    const At value = at.in(e);
    check_identifier(value, e.key, "an id");
    read(value, e.key);
  }
}

std::vector<std::string> ids_of(const TubeSpec& spec) {
  std::vector<std::string> ids;
  for (const NodeSpec& node : spec.nodes) ids.push_back(node.id);
  return ids;
}

/// Every dependency names a node, an input or an asset that stands here. Signals are checked when the types are known.
void check_dependencies(const TubeSpec& spec) {
  std::unordered_set<std::string_view> nodes(spec.nodes.size());
  for (const NodeSpec& node : spec.nodes) nodes.insert(node.id);
  const auto check = [&](const Depend& d, const char* of, const std::string& id) {
    if (d.node == "assets"  ? spec.find_asset(d.signal) != nullptr
        : d.node == "input" ? spec.find_input(d.signal) != nullptr
                            : nodes.contains(d.node))
      return;
    const std::string key = of + ("." + id) + ".depends";
    std::vector<std::string> names;
    if (d.node == "assets") {
      for (const AssetSpec& a : spec.assets) names.push_back(a.id);
      throw SpecError(d.place, key, "there is no asset \"" + d.signal + "\"" + did_you_mean(d.signal, names));
    }
    if (d.node == "input") {
      for (const InputSpec& i : spec.input) names.push_back(i.id);
      throw SpecError(d.place, key, "there is no input \"" + d.signal + "\"" + did_you_mean(d.signal, names));
    }
    throw SpecError(d.place, key, "there is no node \"" + d.node + "\"" + did_you_mean(d.node, ids_of(spec)));
  };
  for (const NodeSpec& node : spec.nodes) {
    for (const Depend& d : node.depends) check(d, "nodes", node.id);
    if (const auto* name = std::get_if<std::string>(&node.enabled); name && !spec.find_input(*name))
      throw SpecError(node.place, "nodes." + node.id + ".enabled", "there is no input \"" + *name + "\"");
  }
  for (const AssetSpec& asset : spec.assets) {
    if (!asset.depends) continue;
    if (asset.depends->node == "assets" || asset.depends->node == "input")
      throw SpecError(asset.depends->place, "assets." + asset.id + ".depends",
                      "an asset depends on the signal of a node, not on " + asset.depends->node);
    check(*asset.depends, "assets", asset.id);
  }
}

TubeSpec read(const Tree& tree) {
  const At top{tree, {}};
  if (tree.type != Tree::Type::mapping) top.fail("expected a map of " + listed(kTubeKeys) + ", found " + tree.what());
  top.known(kTubeKeys);
  TubeSpec spec;
  spec.file = tree.file ? *tree.file : std::string();
  for (const TreeEntry& e : tree.entries) {
    const At at = top.in(e);
    if (e.key == "noob_id" || e.key == "tube_id") {
      const std::string id = at.text();
      if (!is_tube_id(id)) at.fail("an id is made of letters, digits, _, -, / and #, found \"" + id + "\"");
      if (!spec.id.empty() && spec.id != id) at.fail("the tube has the id \"" + spec.id + "\" already");
      spec.id = id;
    } else if (e.key == "noob_version") {
      spec.version = e.value.text();
    } else if (e.key == "description" && !e.value.is_null()) {
      spec.description = at.text();
    }
  }
  if (spec.id.empty()) top.fail("the tube has no id: expected the key noob_id or tube_id");
  read_section(top, "input", "inputs",
               [&](const At& at, const std::string& id) { spec.input.push_back(read_input(at, id)); });
  read_section(top, "assets", "assets",
               [&](const At& at, const std::string& id) { spec.assets.push_back(read_asset(at, id)); });
  if (const Tree* nodes = tree.find("nodes")) spec.nodes.reserve(nodes->entries.size());
  read_section(top, "nodes", "nodes", [&](const At& at, const std::string& id) {
    if (std::find(kReserved.begin(), kReserved.end(), id) != kReserved.end())
      at.fail("\"" + id + "\" is reserved: " + listed({kReserved.begin(), kReserved.end()}) +
              " cannot be ids of nodes");
    spec.nodes.push_back(read_node(at, id));
  });
  const NodeSpec* ret = nullptr;
  for (const NodeSpec& node : spec.nodes) {
    if (node.type != "return") continue;
    if (ret)
      throw SpecError(node.place, "nodes." + node.id,
                      "a second return node; \"" + ret->id + "\" is one already, and a tube has at most one");
    ret = &node;
  }
  check_dependencies(spec);
  return spec;
}

// ------------------------------------------------------------------------------------------------ extends

bool is_return(const TreeEntry& node) {
  const Tree* type = node.value.find("type");
  return type && type->type == Tree::Type::scalar && type->text() == "return";
}

/// Maps merge by key, everything else is replaced; `depends` is replaced whole.
void merge(Tree& base, const Tree& over) {
  if (base.type != Tree::Type::mapping || over.type != Tree::Type::mapping) {
    base = over;
    return;
  }
  for (const TreeEntry& e : over.entries) {
    TreeEntry* old = base.entry(e.key);
    if (!old)
      base.entries.push_back(e);
    else if (e.key == "depends")
      old->value = e.value;
    else
      merge(old->value, e.value);
  }
}

void merge_tubes(Tree& base, const Tree& over) {
  const Tree* nodes = over.find("nodes");
  const bool new_return = nodes && std::any_of(nodes->entries.begin(), nodes->entries.end(), is_return);
  if (TreeEntry* old = base.entry("nodes"); old && new_return) {
    // The nearest return wins, whatever its id is.
    std::erase_if(old->value.entries, [&](const TreeEntry& e) { return is_return(e) && !nodes->find(e.key); });
  }
  merge(base, over);
}

/// The tree with all that it extends, merged from left to right, itself last. `chain`: who extends whom, to find
/// circles.
Tree resolve_extends(Tree tree, std::vector<std::string>& chain) {
  const Tree* extends = tree.find("extends");
  if (!extends || extends->is_null()) return tree;
  const At at{*extends, "extends"};
  std::vector<At> sources;
  if (extends->type == Tree::Type::sequence)
    for (std::size_t i = 0; i < extends->items.size(); ++i) sources.push_back(at.item(i));
  else
    sources.push_back(at);
  Tree merged;
  merged.type = Tree::Type::mapping;
  for (const At& source : sources) {
    const std::string name = source.text();
    if (std::find(chain.begin(), chain.end(), name) != chain.end()) {
      std::string circle;
      for (const std::string& link : chain) circle += link + " → ";
      source.fail("a circle of extends: " + circle + name);
    }
    chain.push_back(name);
    try {
      merge_tubes(merged, resolve_extends(detail::load_tree(name), chain));
    } catch (const SpecError&) {
      throw;
    } catch (const Error& e) {
      if (e.code() == Errc::not_found) source.fail(e.what());
      throw;
    }
    chain.pop_back();
  }
  merge_tubes(merged, tree);
  merged.file = tree.file;
  merged.line = tree.line;
  merged.column = tree.column;
  return merged;
}

TubeSpec read_all(Tree tree) {
  std::vector<std::string> chain;
  if (tree.type == Tree::Type::mapping)
    for (const char* key : {"noob_id", "tube_id"})
      if (const Tree* id = tree.find(key)) chain.push_back(id->text());
  std::vector<std::string> extends;
  if (const Tree* e = tree.find("extends")) {
    if (e->type == Tree::Type::sequence)
      for (const Tree& item : e->items) extends.push_back(item.text());
    else if (!e->is_null())
      extends.push_back(e->text());
  }
  TubeSpec spec = read(resolve_extends(std::move(tree), chain));
  spec.extends = std::move(extends);
  return spec;
}

}  // namespace

TubeSpec TubeSpec::from_any(std::string_view source) {
  if (source.find('\n') != std::string_view::npos) return from_text(source);
  return read_all(detail::load_tree(std::string(source)));
}
TubeSpec TubeSpec::from_id(std::string_view id) { return read_all(detail::load_id(std::string(id))); }
TubeSpec TubeSpec::from_file(const std::filesystem::path& path) { return read_all(detail::load_file(path)); }
TubeSpec TubeSpec::from_text(std::string_view yaml, std::string name, int first_line) {
  return read_all(detail::parse_yaml(yaml, name, first_line));
}
TubeSpec TubeSpec::from_map(const Map& map) { return read_all(detail::tree_of(Value(map))); }

const NodeSpec* TubeSpec::find_node(std::string_view node) const noexcept {
  for (const NodeSpec& n : nodes)
    if (n.id == node) return &n;
  return nullptr;
}
const InputSpec* TubeSpec::find_input(std::string_view name) const noexcept {
  for (const InputSpec& i : input)
    if (i.id == name) return &i;
  return nullptr;
}
const AssetSpec* TubeSpec::find_asset(std::string_view name) const noexcept {
  for (const AssetSpec& a : assets)
    if (a.id == name) return &a;
  return nullptr;
}

}  // namespace caller::tube
