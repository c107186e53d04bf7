#include "layout.hpp"

#include <algorithm>
#include <numeric>
#include <set>
#include <unordered_map>
#include <utility>

#include <caller/tube/codec.hpp>

#include "../words.hpp"

namespace caller::tube::detail {

using Special = NodeType::Special;

bool is_replicated(const Graph& g, std::uint32_t node) noexcept {
  const NodePlan& n = g.nodes[node];
  return n.special == Special::map || (n.special == Special::gather && n.region != 0);
}

namespace {

template <class Each>
void each_signal(const NodePlan& node, Each&& each) {
  for (const std::vector<Source>* list : {&node.args, &node.positional})
    for (const Source& s : *list)
      if (s.from == Source::From::signal) each(s.index);
}

class Grouping {
public:
  Grouping(const Graph& g, const std::vector<ClusterGroup>& groups) : g_(g), parent_(g.nodes.size()) {
    std::iota(parent_.begin(), parent_.end(), 0U);
    join_given(groups);
    join_assets();
  }
  std::uint32_t root(std::uint32_t n) {
    while (parent_[n] != n) n = parent_[n] = parent_[parent_[n]];
    return n;
  }
  /// A node that lives in one place.
  bool has_process(std::uint32_t n) const {
    const NodePlan& node = g_.nodes[n];
    return !node.returns && (node.special == Special::none || node.special == Special::tube);
  }

private:
  void join(std::uint32_t a, std::uint32_t b) {
    a = root(a);
    b = root(b);
    if (a != b) parent_[std::max(a, b)] = std::min(a, b);
  }
  void join_given(const std::vector<ClusterGroup>& groups) {
    std::vector<std::string> ids;
    for (const NodePlan& node : g_.nodes) ids.push_back(node.id);
    std::set<std::uint32_t> seen;
    for (const ClusterGroup& group : groups) {
      std::uint32_t first = kNone;
      for (const std::string& id : group.nodes) {
        const std::uint32_t n = g_.find(id);
        if (n == kNone)
          throw Error(Errc::not_found,
                      "the tube " + g_.spec.id + " has no node \"" + id + "\" to group" + did_you_mean(id, ids));
        if (!seen.insert(n).second)
          throw Error(Errc::invalid_specification, "the node \"" + id + "\" is in two groups");
        if (!has_process(n)) continue;
        if (first == kNone)
          first = n;
        else
          join(first, n);
      }
    }
  }
  /// Nodes that take the same shared object live together, and so does everyone it may be handed on to: through signals
  /// of no known type, out of nodes that have it.
  void join_assets() {
    std::vector<std::uint32_t> user(g_.assets.size(), kNone);
    std::vector<std::uint8_t> tainted(g_.signals.size(), 0);
    for (const std::uint32_t n : g_.order) {
      const NodePlan& node = g_.nodes[n];
      bool holds = !node.node_assets.empty() || !node.assets_used.empty();
      for (const std::uint32_t a : node.assets_used) {
        if (user[a] == kNone)
          user[a] = n;
        else
          join(user[a], n);
      }
      each_signal(node, [&](std::uint32_t s) {
        if (!tainted[s]) return;
        holds = true;
        if (has_process(n)) join(holder_of(s), n);
      });
      if (!holds) continue;
      for (std::uint32_t i = 0; i < node.signals; ++i) {
        const Signal& info = node.shape->signals[i];
        tainted[node.first_signal + i] =
            node.special == Special::none && !node.child ? info.object != nullptr || info.type == "any" : true;
      }
      if (!has_process(n)) {
        // Through a map or gather: who made it holds it.
        each_signal(node, [&](std::uint32_t s) {
          if (tainted[s]) through_[n] = holder_of(s);
        });
      }
    }
    for (std::uint32_t a = 0; a < g_.assets.size(); ++a) {
      if (g_.assets[a].keeps == kNone || user[a] == kNone) continue;
      const std::uint32_t keeper = holder_of(g_.assets[a].keeps);
      if (has_process(keeper)) join(user[a], keeper);
    }
  }
  std::uint32_t holder_of(std::uint32_t signal) const {
    const std::uint32_t n = g_.signals[signal].node;
    const auto found = through_.find(n);
    return found == through_.end() ? n : found->second;
  }

  const Graph& g_;
  std::vector<std::uint32_t> parent_;
  std::unordered_map<std::uint32_t, std::uint32_t> through_;
};

/// What one process must follow: its own nodes, the maps and gathers on the way to them, and who emits what these take.
struct Needs {
  Needs(const Graph& graph, const std::vector<std::uint32_t>& owner_of, std::uint32_t who)
      : g(graph), owner(owner_of), process(who), needed(graph.nodes.size(), 0) {
    for (std::uint32_t n = 0; n < g.nodes.size(); ++n)
      if (owner[n] == process) visit(n);
  }
  void visit(std::uint32_t n) {
    if (needed[n]) return;
    needed[n] = 1;
    for (std::uint32_t r = g.nodes[n].region; r != 0; r = g.regions[r].parent) visit(g.regions[r].map);
    if (owner[n] != process && owner[n] != kEverywhere) return;  // only its values matter
    each_signal(g.nodes[n], [&](std::uint32_t s) { visit(g.signals[s].node); });
  }
  const Graph& g;
  const std::vector<std::uint32_t>& owner;
  std::uint32_t process;
  std::vector<std::uint8_t> needed;
};

/// Whether somebody outside of `process` needs the value of the signal: a node, a map, or what process() returns.
bool crosses(const Graph& g, const std::vector<std::uint32_t>& owner, std::uint32_t signal, std::uint32_t process,
             std::uint32_t& to) {
  for (const Consumer& c : g.signals[signal].consumers) {
    if (owner[c.node] == process) continue;
    to = c.node;
    if (owner[c.node] != kEverywhere) return true;
    const NodePlan& special = g.nodes[c.node];
    if (special.special == Special::map || special.flatten) return true;  // everyone counts the items
    for (std::uint32_t i = 0; i < special.signals; ++i)
      if (crosses(g, owner, special.first_signal + i, process, to)) return true;
  }
  for (const ReturnPlan& r : g.returns) {
    if (r.source.from != Source::From::signal || r.source.index != signal) continue;
    to = g.return_node;
    return true;
  }
  return false;
}

void connect(const Graph& g, Layout& l) {
  const std::size_t count = l.nodes.size();
  for (std::uint32_t n = 0; n < g.nodes.size(); ++n)
    if (l.owner[n] < count) l.nodes[l.owner[n]].push_back(n);
  l.peers.resize(count);
  l.sources.resize(count);
  l.uses_inputs.assign(count, 0);
  l.must_cross.assign(g.signals.size(), 0);
  for (std::uint32_t p = 0; p < count; ++p) {
    const Needs needs(g, l.owner, p);
    for (std::uint32_t n = 0; n < g.nodes.size(); ++n) {
      if (!needs.needed[n]) continue;
      const std::uint32_t from = l.owner[n];
      if (from < count && from != p &&
          std::find(l.sources[p].begin(), l.sources[p].end(), from) == l.sources[p].end()) {
        l.sources[p].push_back(from);
        l.peers[from].push_back(p);
      }
      if (from != p && from != kEverywhere) continue;
      for (const std::vector<Source>* list : {&g.nodes[n].args, &g.nodes[n].positional})
        for (const Source& s : *list) l.uses_inputs[p] |= s.from == Source::From::input;
    }
  }
  for (std::uint32_t s = 0; s < g.signals.size(); ++s) {
    std::uint32_t to = kNone;
    const std::uint32_t from = l.owner[g.signals[s].node];
    l.must_cross[s] = from < count && crosses(g, l.owner, s, from, to);
  }
}

}  // namespace

Layout layout_of(const Graph& g, std::vector<std::uint32_t> owner, std::size_t processes) {
  if (owner.size() != g.nodes.size())
    throw Error(Errc::wrong_type,
                "the tube has " + std::to_string(g.nodes.size()) + " nodes, not " + std::to_string(owner.size()));
  Layout l;
  l.owner = std::move(owner);
  l.nodes.resize(processes);
  connect(g, l);
  return l;
}

Layout lay_out(const Graph& g, const std::vector<ClusterGroup>& groups) {
  Grouping grouping(g, groups);
  Layout l;
  l.owner.assign(g.nodes.size(), kRunner);
  std::unordered_map<std::uint32_t, std::uint32_t> numbers;
  for (std::uint32_t n = 0; n < g.nodes.size(); ++n) {
    if (is_replicated(g, n)) l.owner[n] = kEverywhere;
    if (!grouping.has_process(n)) continue;
    l.owner[n] = numbers.try_emplace(grouping.root(n), static_cast<std::uint32_t>(numbers.size())).first->second;
  }
  l.nodes.resize(numbers.size());
  l.group.assign(numbers.size(), nullptr);
  for (const ClusterGroup& group : groups)
    for (const std::string& id : group.nodes)
      if (const std::uint32_t owner = l.owner[g.find(id)]; owner < numbers.size() && !l.group[owner])
        l.group[owner] = &group;
  // What a gather outside of maps has collected is there once: with whoever emits what it collects.
  for (const std::uint32_t n : g.order) {
    const NodePlan& node = g.nodes[n];
    if (node.special != Special::gather || is_replicated(g, n)) continue;
    std::uint32_t at = n;
    while (l.owner[at] == kRunner || l.owner[at] == kEverywhere) {
      std::uint32_t before = kNone;
      each_signal(g.nodes[at], [&](std::uint32_t s) {
        if (before == kNone) before = g.signals[s].node;
      });
      if (before == kNone) break;
      at = before;
    }
    if (l.owner[at] < numbers.size()) l.owner[n] = l.owner[at];
  }
  connect(g, l);
  for (std::uint32_t s = 0; s < g.signals.size(); ++s) {
    const NodePlan& node = g.nodes[g.signals[s].node];
    const std::type_info* object = node.shape->signals[s - node.first_signal].object;
    if (!object || !l.must_cross[s] || has_codec(*object)) continue;
    std::uint32_t to = kNone;
    (void)crosses(g, l.owner, s, l.owner[g.signals[s].node], to);
    throw Error(Errc::wrong_type, "the signal \"" + node.id + "." + node.shape->signals[s - node.first_signal].name +
                                      "\" of the tube " + g.spec.id + " cannot cross to the process of \"" +
                                      g.nodes[to].id + "\": its type " + type_name(*object) +
                                      " has no codec (add_codec), and the nodes are in no common group");
  }
  return l;
}

namespace {

/// Whose end a node waits for before it can run, or be skipped.
std::vector<std::vector<std::uint32_t>> waits_of(const Graph& g) {
  std::vector<std::vector<std::uint32_t>> waits(g.nodes.size());
  for (std::uint32_t n = 0; n < g.nodes.size(); ++n) {
    each_signal(g.nodes[n], [&](std::uint32_t s) { waits[n].push_back(g.signals[s].node); });
    for (std::uint32_t r = g.nodes[n].region; r != 0; r = g.regions[r].parent) waits[n].push_back(g.regions[r].map);
    for (const std::vector<std::uint32_t>* list : {&g.nodes[n].order_before, &g.nodes[n].order_closing})
      for (const std::uint32_t later : *list) waits[later].push_back(n);
  }
  return waits;
}

}  // namespace

std::vector<std::uint8_t> to_be_told(const Graph& g, const Layout& layout, const std::vector<std::uint8_t>& alive) {
  const std::size_t count = layout.processes();
  std::vector<std::uint8_t> told(count, 0);
  for (std::uint32_t p = 0; p < count; ++p) {
    told[p] = layout.sources[p].empty() || layout.uses_inputs[p];
    for (const std::uint32_t n : layout.nodes[p])
      for (const std::uint32_t a : g.nodes[n].assets_used) told[p] |= g.assets[a].scope == AssetScope::process;
  }
  std::vector<std::uint8_t> knows = told;
  std::vector<std::vector<std::uint8_t>> needed;  // by process, as far as it is to be found out
  for (std::uint32_t p = 0; p < count; ++p)
    needed.push_back(knows[p] ? std::vector<std::uint8_t>() : Needs(g, layout.owner, p).needed);
  const std::vector<std::vector<std::uint32_t>> waits = waits_of(g);
  while (std::find(knows.begin(), knows.end(), 0) != knows.end()) {
    // Nodes that come to their end in every epoch if no more processes know of it than do now.
    std::vector<std::uint8_t> ends(g.nodes.size(), 0);
    for (const std::uint32_t n : g.order)
      ends[n] = (layout.owner[n] >= count || knows[layout.owner[n]]) &&
                std::all_of(waits[n].begin(), waits[n].end(), [&](std::uint32_t before) { return ends[before] != 0; });
    bool more = false;
    for (std::uint32_t n = 0; n < g.nodes.size(); ++n) {
      if (!ends[n] || !alive[n] || g.nodes[n].region != 0 || layout.owner[n] >= count) continue;
      for (const std::uint32_t p : layout.peers[layout.owner[n]]) {
        if (knows[p] || !needed[p][n]) continue;
        knows[p] = 1;
        more = true;
      }
    }
    if (more) continue;
    const auto first = std::find(knows.begin(), knows.end(), 0);  // two that wait for each other, for one
    *first = told[static_cast<std::size_t>(first - knows.begin())] = 1;
  }
  return told;
}

Projection project(const Graph& g, const Layout& layout, std::uint32_t process) {
  Projection p;
  p.needed = Needs(g, layout.owner, process).needed;
  auto copy = std::make_shared<Graph>(g);
  copy->by_id.clear();
  for (std::uint32_t n = 0; n < copy->nodes.size(); ++n) copy->by_id.emplace(copy->nodes[n].id, n);
  const auto follows = [&](std::uint32_t n) {
    return p.needed[n] && (layout.owner[n] == process || layout.owner[n] == kEverywhere);
  };
  for (std::uint32_t n = 0; n < copy->nodes.size(); ++n) {
    NodePlan& node = copy->nodes[n];
    if (layout.owner[n] == process) continue;
    node.order_before.clear();
    node.order_closing.clear();
    if (follows(n)) continue;
    // Its values come from elsewhere: here nothing leads to it.
    for (Source& s : node.args) s = Source();
    node.positional.clear();
    node.stateful = false;
    if (layout.owner[n] != kEverywhere && !node.returns) node.special = Special::none;
  }
  for (SignalPlan& s : copy->signals) {
    std::erase_if(s.consumers, [&](const Consumer& c) { return !follows(c.node); });
    s.kept = s.kept && layout.owner[s.node] == process;
  }
  // Assets live with their nodes: others never open them.
  std::vector<std::uint8_t> used(copy->assets.size(), 0);
  for (const std::uint32_t n : layout.nodes[process])
    for (const std::uint32_t a : copy->nodes[n].assets_used) used[a] = 1;
  for (std::size_t a = 0; a < used.size(); ++a)
    if (!used[a]) copy->assets[a].scope = AssetScope::node;
  for (AssetPlan& a : copy->assets)
    if (a.keeps != kNone && layout.owner[copy->signals[a.keeps].node] != process) a.keeps = kNone;
  p.graph = std::move(copy);
  return p;
}

std::uint64_t fingerprint(const Graph& g) {
  std::uint64_t hash = 1469598103934665603U;
  const auto add = [&](std::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
    hash = (hash ^ 0xff) * 1099511628211U;
  };
  const auto number = [&](std::uint64_t n) { add(std::to_string(n)); };
  const auto visit = [&](const auto& self, const Graph& graph) -> void {
    add(graph.spec.id);
    for (const NodePlan& node : graph.nodes) {
      add(node.id);
      add(node.type->name);
      number(node.region);
      number(node.stateful);
      for (const Signal& s : node.shape->signals) add(s.name);
      for (const std::string& s : node.shape->slot_names) add(s);
      for (const std::vector<Source>* list : {&node.args, &node.positional})
        for (const Source& s : *list) {
          number(static_cast<std::uint64_t>(s.from));
          number(s.index);
          number(s.required);
        }
      if (node.child) self(self, *node.child);
    }
    for (const AssetPlan& a : graph.assets) {
      add(a.id);
      add(a.type->name);
    }
  };
  visit(visit, g);
  return hash & 0x7fffffffffffffffU;  // fits an integer of any reader
}

// ------------------------------------------------------------------------------------------------ specifications

Map spec_map(const TubeSpec& spec) {
  Map nodes, assets, input;
  for (const NodeSpec& n : spec.nodes) {
    Map node{{"type", n.type}};
    if (!n.depends.empty()) {
      List depends;
      for (const Depend& d : n.depends) {
        const std::string from = d.node + "." + d.signal;
        depends.push_back(d.slot ? Value(Map{{*d.slot, from}}) : Value(from));
      }
      node.set("depends", n.depends_is_scalar ? depends.front() : Value(std::move(depends)));
    }
    if (!n.params.empty()) node.set("params", n.params);
    if (const bool* on = std::get_if<bool>(&n.enabled))
      node.set("enabled", *on);
    else
      node.set("enabled", "input." + std::get<std::string>(n.enabled));
    if (n.stateful) node.set("stateful", *n.stateful);
    nodes.append(n.id, std::move(node));
  }
  for (const InputSpec& i : spec.input) {
    Map one{{"type", i.type}, {"scope", i.scope == InputScope::tube ? "tube" : "process"}, {"required", i.required}};
    if (!i.fallback.is_none()) one.set("default", i.fallback);
    input.append(i.id, std::move(one));
  }
  for (const AssetSpec& a : spec.assets) {
    Map asset{{"type", a.type},
              {"scope", a.scope == AssetScope::runner    ? "runner"
                        : a.scope == AssetScope::process ? "process"
                                                         : "node"}};
    if (!a.params.empty()) asset.set("params", a.params);
    if (a.depends) asset.set("depends", a.depends->node + "." + a.depends->signal);
    assets.append(a.id, std::move(asset));
  }
  Map map{{"noob_id", spec.id}, {"nodes", std::move(nodes)}};
  if (!input.empty()) map.set("input", std::move(input));
  if (!assets.empty()) map.set("assets", std::move(assets));
  return map;
}

}  // namespace caller::tube::detail
