#include "magics/task_progress.hpp"

#include <algorithm>
#include <cstdio>
#include <map>
#include <utility>

#include <caller/caller.hpp>
#include <caller/kernel/display.hpp>
#include <caller/kernel/tasks.hpp>

#include "show/display_id.hpp"
#include "show/text.hpp"

namespace caller::kernel::magics {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kTick{100};
constexpr std::chrono::seconds kIdle{1};  // between two displays while nothing happens
constexpr std::size_t kLines = 40;        // more would be a page, not a display
constexpr std::size_t kLookedAt = 2'000;  // invocations, while it runs
constexpr std::size_t kHistories = 200;   // members whose times are shown, in the end
constexpr int kRest = 5;                  // times as long as a look takes nobody looks

}  // namespace

TaskProgress::TaskProgress(task::App app, std::string title, std::shared_ptr<TaskRun> run)
    : app_(std::move(app)), title_(std::move(title)), display_(show::fresh_display_id("task")), run_(std::move(run)) {
  publish({}, false);
}

void TaskProgress::follow(const std::string& id) {
  const std::lock_guard lock(mutex_);
  id_ = id;
}

Coro<void> TaskProgress::keep_looking(std::shared_ptr<TaskProgress> progress) {
  for (;;) {
    const auto begin = Clock::now();
    co_await progress->look(false);
    co_await sleep_for(std::max<Clock::duration>(kTick, kRest * (Clock::now() - begin)));
  }
}

Coro<void> TaskProgress::look(bool last) {
  if (run_->stopped()) run_->break_off();
  std::string id;
  {
    const std::lock_guard lock(mutex_);
    id = id_;
  }
  if (id.empty()) co_return;
  const std::size_t most = last ? 0 : kLookedAt, histories = last ? kHistories : 0;
  auto reading = task::async_family(app_.store(), id, most, histories);
  const std::vector<task::Relative> family = co_await std::move(reading);
  std::string state;
  for (const task::Relative& r : family)
    state += r.record.id + static_cast<char>('a' + static_cast<int>(r.record.status));
  const std::lock_guard lock(mutex_);
  if (finished_ || (!last && state == shown_ && Clock::now() - at_ < kIdle)) co_return;
  finished_ = last;
  shown_ = std::move(state);
  at_ = Clock::now();
  publish(family, true);
}

void TaskProgress::publish(const std::vector<task::Relative>& family, bool update) {
  char time[40];
  std::snprintf(time, sizeof time, "%.1f s", std::chrono::duration<double>(Clock::now() - begin_).count());
  std::string state = "REGISTERED", line = time;
  if (!family.empty()) {
    state = task::name(family.front().record.status);
    if (const int retries = family.front().record.retries)
      line += ", " + std::to_string(retries) + (retries == 1 ? " retry" : " retries");
    std::map<std::string, std::size_t> counts;
    for (std::size_t i = 1; i < family.size(); ++i) ++counts[std::string(task::name(family[i].record.status))];
    if (family.size() > 1)
      line += ", " + std::to_string(family.size() - 1) + (family.size() == 2 ? " task" : " tasks") + " below it:";
    for (const auto& [status, n] : counts) line += " " + std::to_string(n) + " " + status;
  }
  const auto now_wall = std::chrono::system_clock::now();
  const double now =
      family.empty() ? 0 : std::chrono::duration<double>(now_wall - family.front().record.created).count();
  const auto members = family_members(family);
  std::string text = title_ + ": " + state + ": " + line;
  std::string html = "<div style=\"font-family:monospace\"><b>" + show::escape(title_) +
                     "</b>: <span style=\"color:" + std::string(status_colour(state)) + "\">" + show::escape(state) +
                     "</span> " + show::escape(line);
  if (family.size() > 1) {
    text += "\n" + family_text(members, now, kLines);
    html += "<br>" + family_svg(members, now, kLines);
  }
  kernel::detail::publish_display({{"text/plain", text}, {"text/html", html + "</div>"}}, {}, display_, update);
}

}  // namespace caller::kernel::magics
