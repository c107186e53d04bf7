// What the tests of a runner of many processes share: their tubes, and who runs which node.
#pragma once

#include <algorithm>
#include <fstream>
#include <string>
#include <string_view>

#include "support.hpp"

/// Registers those of the types `told.…` that `names` has: a process of nodes has them only if it was told of them.
void register_told(const std::string& names);

inline caller::tube::Tube from(const std::string& nodes) {
  return caller::tube::Tube::from_any("noob_id: test-cluster\nnodes:\n" + nodes);
}

/// A source, a node in the middle, and what the middle gives.
inline caller::tube::Tube chain(const std::string& middle) {
  return from("  a: {type: noob.testing.count_source, params: {limit: 0}}\n  b: " + middle +
              "\n  out: {type: return, depends: b.value}\n");
}

inline bool process_lives(int pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  return std::getline(stat, text) && !contains(text, ") Z ");
}
inline int pid_of(caller::tube::ClusterRunner& runner, std::string_view node) {
  for (const caller::tube::ClusterProcess& p : runner.processes())
    if (std::find(p.nodes.begin(), p.nodes.end(), node) != p.nodes.end()) return p.pid;
  return 0;
}
