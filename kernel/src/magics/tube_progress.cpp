#include "magics/tube_progress.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

#include <caller/caller.hpp>
#include <caller/error.hpp>
#include <caller/kernel/display.hpp>

#include "protocol/utf8.hpp"
#include "session/interrupts.hpp"
#include "show/display_id.hpp"
#include "show/text.hpp"

namespace caller::kernel::magics {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kTick{100};
constexpr std::chrono::seconds kIdle{1};  // between two updates while nothing happens
constexpr std::size_t kNodes = 40;        // more would be a page, not a display

/// `12 345`, in groups of three.
std::string grouped(std::uint64_t n) {
  std::string out = std::to_string(n);
  for (std::size_t i = out.size(); i > 3;) out.insert(i -= 3, "\u2009");
  return out;
}

std::string counted(std::uint64_t n, const char* what) { return grouped(n) + " " + what + (n == 1 ? "" : "s"); }

std::string seconds_text(double s) {
  char out[40];
  if (s < 60)
    std::snprintf(out, sizeof out, "%.1f s", s);
  else
    std::snprintf(out, sizeof out, "%d:%02d", static_cast<int>(s) / 60, static_cast<int>(s) % 60);
  return out;
}

const char* word(TubeProgress::End end) {
  switch (end) {
    case TubeProgress::End::done:
      return "done";
    case TubeProgress::End::source_ended:
      return "done, a source has ended";
    case TubeProgress::End::failed:
      return "failed";
    case TubeProgress::End::interrupted:
      return "interrupted";
  }
  return "";
}

}  // namespace

TubeWatch::TubeWatch(ActiveCellPtr active, const tube::Tube& tube) : active_(std::move(active)) {
  for (tube::NodeInfo& node : tube.nodes())
    if (node.type != "return") nodes_.emplace_back(std::move(node.id));  // that one is never called
  for (Node& node : nodes_) by_id_.emplace(node.id, &node);
}

void TubeWatch::fired(const std::string& node) noexcept {
  const auto at = by_id_.find(node);
  if (at != by_id_.end()) at->second->fired.fetch_add(1, std::memory_order_relaxed);
}

void TubeWatch::check() const {
  if (stopped()) throw PendingCancelled("the cell was stopped");
}

void TubeWatch::break_nodes() {
  std::vector<PendingBase> awaited;
  {
    const std::lock_guard lock(mutex_);
    for (AtNode* at : at_nodes_) {
      if (at->awaited_) awaited.push_back(at->awaited_);
      at->scope_.request();
    }
  }
  for (PendingBase& p : awaited) p.cancel("the cell was stopped");
}

TubeWatch::AtNode::AtNode(TubeWatch& watch, PendingBase awaited) : watch_(watch), awaited_(std::move(awaited)) {
  Interrupts::take_signals();
  const std::lock_guard lock(watch_.mutex_);
  watch_.at_nodes_.push_back(this);
}
TubeWatch::AtNode::~AtNode() {
  const std::lock_guard lock(watch_.mutex_);
  std::erase(watch_.at_nodes_, this);
}

TubeProgress::TubeProgress(std::shared_ptr<TubeWatch> watch, std::string title, std::optional<std::size_t> total)
    : watch_(std::move(watch)), title_(std::move(title)), id_(show::fresh_display_id("tube")), total_(total) {
  publish(false, std::nullopt);
  shown_ = Clock::now();
}

void TubeProgress::tick() {
  if (watch_->stopped()) watch_->break_nodes();
  const std::lock_guard lock(mutex_);
  if (finished_) return;
  std::uint64_t seen = watch_->epochs.load() + watch_->events.load();
  for (const TubeWatch::Node& n : watch_->nodes()) seen += n.fired.load(std::memory_order_relaxed);
  const auto now = Clock::now();
  if (now - shown_ < (seen == std::exchange(seen_, seen) ? Clock::duration(kIdle) : Clock::duration(kTick))) return;
  publish(true, std::nullopt);
  shown_ = now;
}

void TubeProgress::finish(End end) {
  const std::lock_guard lock(mutex_);
  if (std::exchange(finished_, true)) return;
  publish(true, end);
}

void TubeProgress::publish(bool update, std::optional<End> end) {
  const double elapsed = std::chrono::duration<double>(Clock::now() - begin_).count();
  const std::uint64_t epochs = watch_->epochs.load(), events = watch_->events.load(), results = watch_->results.load();
  std::string line = counted(epochs, "epoch");
  if (total_) line += ", " + grouped(results) + " of " + counted(*total_, "result");
  line += ", " + counted(events, "event");
  if (events > 0 && elapsed > 0)
    line += " (" + grouped(static_cast<std::uint64_t>(static_cast<double>(events) / elapsed)) + "/s)";
  line += ", " + seconds_text(elapsed);
  const std::string state = end ? word(*end) : "running";

  std::uint64_t most = 1;
  for (const TubeWatch::Node& n : watch_->nodes()) most = std::max(most, n.fired.load(std::memory_order_relaxed));
  std::string text = title_ + ": " + state + ": " + line + "\n ", rows;
  std::size_t shown = 0;
  for (const TubeWatch::Node& n : watch_->nodes()) {
    if (shown++ == kNodes) {
      const std::string rest = "and " + std::to_string(watch_->nodes().size() - kNodes) + " more nodes";
      text += " " + rest;
      rows += "<tr><td colspan=\"3\" style=\"text-align:left\">" + rest + "</td></tr>";
      break;
    }
    const std::uint64_t fired = n.fired.load(std::memory_order_relaxed);
    text += " " + n.id + " " + grouped(fired);
    char width[40];
    std::snprintf(width, sizeof width, "%.2f", 12.0 * static_cast<double>(fired) / static_cast<double>(most));
    rows += "<tr><td style=\"text-align:left\">" + show::escape(n.id) + "</td><td style=\"text-align:right\">" +
            grouped(fired) +
            "</td><td style=\"text-align:left;width:12em\"><span "
            "style=\"display:inline-block;height:.7em;background:#5b7a99;width:" +
            width + "em\"></span></td></tr>";
  }
  const char* colour = !end ? "#1f77b4" : *end == End::done || *end == End::source_ended ? "#2ca02c" : "#d62728";
  std::string bar;
  if (total_ && *total_ > 0) {
    char value[40];
    std::snprintf(value, sizeof value, "%.4f", static_cast<double>(results) / static_cast<double>(*total_));
    bar = std::string("<progress max=\"1\" value=\"") + value + "\" style=\"width:12em;accent-color:" + colour +
          "\"></progress> ";
  }
  const std::string html = "<div style=\"font-family:monospace\"><b>" + show::escape(title_) +
                           "</b>: <span style=\"color:" + colour + "\">" + show::escape(state) + "</span> " + bar +
                           show::escape(line) + "<table style=\"margin:.3em 0 0 0;border:none\">" + rows +
                           "</table></div>";
  kernel::detail::publish_display({{"text/plain", text}, {"text/html", html}}, {}, id_, update);
}

Coro<void> keep_ticking(std::shared_ptr<TubeProgress> progress) {
  for (;;) {
    co_await sleep_for(kTick);
    progress->tick();
  }
}

}  // namespace caller::kernel::magics
