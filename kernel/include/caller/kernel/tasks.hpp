// Tasks in notebooks: everything of caller/task, and how invocations are shown.
//
//   #include <caller/kernel/tasks.hpp>
//   using namespace caller::task;
//   App app = AppBuilder{}.app_id("demo").build();
//   auto add = app.task(add_numbers);             // a function of a cell
//   caller::family_tree(app, add(1, 2))
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <caller/kernel/display.hpp>
#include <caller/kernel/family.hpp>
#include <caller/task/all.hpp>
#include <caller/task/family.hpp>

namespace caller {

namespace kernel {

/// A family as it is drawn; the names of tasks without the hash that notebooks add.
/// Thread-safety: any thread. Errors: none. Source: none.
inline std::vector<FamilyMember> family_members(const std::vector<task::Relative>& family) {
  std::vector<FamilyMember> out;
  if (family.empty()) return out;
  const task::Time zero = family.front().record.created;
  const auto seconds = [zero](task::Time t) { return std::chrono::duration<double>(t - zero).count(); };
  out.reserve(family.size());
  for (const task::Relative& r : family) {
    FamilyMember m;
    m.depth = r.depth;
    m.label = r.record.task_id.substr(0, r.record.task_id.find('@'));
    m.status = task::name(r.record.status);
    m.retries = r.record.retries;
    m.called = seconds(r.record.created);
    if (task::is_final(r.record.status)) m.ended = seconds(r.record.changed);
    for (const task::HistoryEntry& h : r.history)
      if (h.status == task::Status::running && m.began < 0) m.began = seconds(h.at);
    out.push_back(std::move(m));
  }
  return out;
}

}  // namespace kernel

/// A family tree, as cells show it: a picture, and text.
/// Thread-safety: as a value. Errors: none. Source: pynenc's family tree.
struct family_view {
  std::vector<kernel::FamilyMember> members;  ///< each behind its parent
  double now = 0;                             ///< seconds since the first one was called
};
inline MimeBundle mime_bundle_repr(const family_view& x) {
  return {{"image/svg+xml", kernel::family_svg(x.members, x.now)},
          {"text/plain", kernel::family_text(x.members, x.now)}};
}

/// The invocation and all that came of it, as it stands now. Thread-safety: any thread. Errors: as task::family().
/// Source: pynenc's family tree.
inline family_view family_tree(const task::App& app, const task::InvocationBase& invocation) {
  constexpr std::size_t kHistories = 500;
  const auto family = task::family(app.store(), invocation.id(), 0, kHistories);
  const auto now = std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
  return {kernel::family_members(family), std::chrono::duration<double>(now - family.front().record.created).count()};
}

}  // namespace caller
