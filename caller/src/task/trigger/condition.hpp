// Conditions as trees. Internal to this folder.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <caller/task/trigger.hpp>

#include "cron.hpp"

namespace caller::task::detail {

struct ConditionNode {
  enum class Kind : std::uint8_t { cron, event, change, all, any };
  Kind kind = Kind::any;
  std::string source;                            // an event's name, a task's id
  std::shared_ptr<const CronSchedule> schedule;  // of cron
  std::chrono::seconds late{0};
  std::uint32_t statuses = 0;  // of change: bits
  std::string fields;          // which the payload or the arguments must have: a map as JSON; empty: none
  std::vector<std::function<bool(const MatchPart&)>> only;
  bool opaque = false;  // one of `only` is not told by the words
  std::string words;    // as text; of all and any: nothing
  std::vector<ConditionPtr> children;

  bool is_leaf() const noexcept { return kind != Kind::all && kind != Kind::any; }
};

std::string text_of(const ConditionNode& node);

/// Whether what has happened is what the leaf waits for. Errors: what its functions throw; SerializationError.
bool matches(const ConditionNode& leaf, const MatchPart& part);

}  // namespace caller::task::detail
