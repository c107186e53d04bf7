// Which node comes before which, what belongs to the items of which map, and who uses assets when.
#include <algorithm>
#include <queue>
#include <utility>

#include "graph_builder.hpp"

namespace caller::tube::detail {

using Special = NodeType::Special;

void GraphBuilder::sort() {
  std::vector<std::uint32_t> waits(g_.nodes.size(), 0);
  std::vector<std::vector<std::uint32_t>> next(g_.nodes.size());
  for (std::uint32_t n = 0; n < g_.nodes.size(); ++n)
    each_source(g_.nodes[n], [&](const Source& s) {
      next[g_.signals[s.index].node].push_back(n);
      ++waits[n];
    });
  std::queue<std::uint32_t> ready;
  for (std::uint32_t n = 0; n < g_.nodes.size(); ++n)
    if (waits[n] == 0) ready.push(n);
  while (!ready.empty()) {
    const std::uint32_t n = ready.front();
    ready.pop();
    g_.order.push_back(n);
    for (const std::uint32_t m : next[n]) {
      g_.nodes[m].generation = std::max(g_.nodes[m].generation, g_.nodes[n].generation + 1);
      if (--waits[m] == 0) ready.push(m);
    }
  }
  if (g_.order.size() < g_.nodes.size()) report_cycle(waits);
  // By generation, and within one as written: the order in which one thread runs the nodes.
  std::stable_sort(g_.order.begin(), g_.order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return std::pair(g_.nodes[a].generation, a) < std::pair(g_.nodes[b].generation, b);
  });
}
void GraphBuilder::report_cycle(const std::vector<std::uint32_t>& waits) const {
  // Every node left waits for another one left: going backwards must come to one twice.
  std::uint32_t n = 0;
  while (waits[n] == 0) ++n;
  std::vector<std::uint32_t> way;
  while (std::find(way.begin(), way.end(), n) == way.end()) {
    way.push_back(n);
    std::uint32_t before = kNone;
    each_source(g_.nodes[n], [&](const Source& s) {
      if (const std::uint32_t from = g_.signals[s.index].node; before == kNone && waits[from] > 0) before = from;
    });
    n = before;
  }
  way.erase(way.begin(), std::find(way.begin(), way.end(), n));
  std::reverse(way.begin(), way.end());
  std::string path;
  for (const std::uint32_t m : way) path += g_.nodes[m].id + " → ";
  const NodeSpec& first = spec_of(way.front());
  throw SpecError(first.depends_place, key_of(first) + ".depends", "a cycle: " + path + g_.nodes[way.front()].id);
}
void GraphBuilder::find_regions() {
  g_.regions.emplace_back();
  for (const std::uint32_t n : g_.order) {
    NodePlan& node = g_.nodes[n];
    each_source(node, [&](const Source& s) {
      const std::uint32_t region = g_.signals[s.index].region;
      if (node.returns) return;  // it collects from everywhere
      if (g_.within(region, node.region))
        node.region = region;
      else if (!g_.within(node.region, region)) {
        const NodeSpec& spec = spec_of(n);
        throw SpecError(spec.depends_place, key_of(spec) + ".depends",
                        "the node \"" + node.id + "\" is below two maps that are not inside of each other, \"" +
                            map_name(node.region) + "\" and \"" + map_name(region) + "\"; gather one of them first");
      }
    });
    std::uint32_t seen_in = node.region;
    if (node.special == Special::map) {
      seen_in = node.maps_to = static_cast<std::uint32_t>(g_.regions.size());
      Region region;
      region.map = n;
      region.parent = node.region;
      region.number = static_cast<std::uint32_t>(g_.regions[node.region].inner.size());
      region.depth = g_.regions[node.region].depth + 1;
      g_.regions[node.region].inner.push_back(seen_in);
      g_.regions.push_back(std::move(region));
    } else if (node.special == Special::gather && node.region != 0) {
      seen_in = g_.regions[node.region].parent;
    }
    if (!node.returns) {
      node.place = static_cast<std::uint32_t>(g_.regions[node.region].nodes.size());
      g_.regions[node.region].nodes.push_back(n);
    }
    for (std::uint32_t i = 0; i < node.signals; ++i) {
      SignalPlan& signal = g_.signals[node.first_signal + i];
      signal.region = seen_in;
      signal.cell = static_cast<std::uint32_t>(g_.regions[seen_in].signals.size());
      g_.regions[seen_in].signals.push_back(node.first_signal + i);
    }
  }
}
void GraphBuilder::keep_assets() {
  for (std::uint32_t a = 0; a < g_.assets.size(); ++a) {
    const AssetSpec& spec = g_.spec.assets[a];
    AssetPlan& asset = g_.assets[a];
    if (asset.scope == AssetScope::runner) g_.sequential = true;
    if (!spec.depends) continue;
    asset.keeps = signal_of(*spec.depends, "assets.", asset.id);
    SignalPlan& signal = g_.signals[asset.keeps];
    if (signal.region != 0)
      throw SpecError(
          spec.depends->place, "assets." + asset.id + ".depends",
          "the signal is below the map \"" + map_name(signal.region) + "\": an asset keeps one value an epoch");
    signal.kept = true;
    asset.copies = !signal.consumers.empty();
    const NodePlan& keeper = g_.nodes[signal.node];
    for (std::uint32_t n = 0; n < g_.nodes.size(); ++n) {
      const NodePlan& user = g_.nodes[n];
      if (n == signal.node || std::find(user.assets_used.begin(), user.assets_used.end(), a) == user.assets_used.end())
        continue;
      if (user.generation >= keeper.generation)
        throw SpecError(spec_of(n).depends_place, key_of(spec_of(n)) + ".depends",
                        "the asset \"" + asset.id + "\" is used in the same generation as \"" + keeper.id +
                            "\", or after it, but it takes its next value from there; depend on " + keeper.id + "." +
                            spec.depends->signal + " instead");
    }
  }
}
void GraphBuilder::order_asset_users() {
  for (std::uint32_t a = 0; a < g_.assets.size(); ++a) {
    if (g_.assets[a].scope == AssetScope::node) continue;
    std::uint32_t before = kNone;
    for (const std::uint32_t n : g_.order) {
      NodePlan& node = g_.nodes[n];
      if (std::find(node.assets_used.begin(), node.assets_used.end(), a) == node.assets_used.end()) continue;
      node.stateful = true;  // what it does depends on who used the asset before
      if (before != kNone) {
        NodePlan& first = g_.nodes[before];
        if (g_.within(node.region, first.region))
          add_once(first.order_before, n);
        else if (g_.within(first.region, node.region))
          add_once(first.order_closing, n);
      }
      before = n;
    }
  }
}
void GraphBuilder::plan_return() {
  for (ReturnPlan& r : g_.returns)
    r.many = r.source.from == Source::From::signal && g_.signals[r.source.index].region != 0;
}
}  // namespace caller::tube::detail
