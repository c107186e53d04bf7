#include <caller/kernel/progress.hpp>

#include <caller/kernel/display.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <mutex>

#include "show/display_id.hpp"
#include "show/text.hpp"

namespace caller {
namespace {

using Clock = std::chrono::steady_clock;
constexpr long long kInterval = 100'000'000;  // ns between two updates

std::string clock_text(double seconds) {
  const auto s = static_cast<long long>(std::min(seconds, 359'999'999.0));
  char out[40];
  if (s >= 3600)
    std::snprintf(out, sizeof out, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
  else
    std::snprintf(out, sizeof out, "%02lld:%02lld", s / 60, s % 60);
  return out;
}

std::string number(double x) {
  char out[40];
  if (x == std::floor(x) && std::abs(x) < 1e15)
    std::snprintf(out, sizeof out, "%.0f", x);
  else
    std::snprintf(out, sizeof out, "%.4g", x);
  return out;
}

std::string rate_text(double a_second) {
  char out[40];
  if (a_second > 0 && a_second < 1)
    std::snprintf(out, sizeof out, "%.2f s each", 1 / a_second);
  else
    std::snprintf(out, sizeof out, a_second < 100 ? "%.1f/s" : "%.0f/s", a_second);
  return out;
}

// Eighths of a character, so that a short bar still moves.
std::string text_bar(double part) {
  static constexpr const char* eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  constexpr int kWidth = 20;
  const int filled = static_cast<int>(part * kWidth * 8);
  std::string out = "|";
  for (int i = 0; i < filled / 8; ++i) out += "█";
  out += eighths[filled % 8];
  for (int i = filled / 8 + (filled % 8 != 0); i < kWidth; ++i) out += ' ';
  return out + "|";
}

}  // namespace

struct progress<void>::State {
  const double total;
  const std::string id = kernel::show::fresh_display_id("progress");
  const Clock::time_point start = Clock::now();
  std::atomic<double> value{0};
  std::atomic<long long> due{0};  // when the next update may be sent, in the clock's ns
  std::atomic<bool> full{false};  // the update that says that the total is reached was sent
  std::mutex mutex;               // guards the label, and keeps updates in order
  std::string label;

  State(double t, std::string l) : total(std::isfinite(t) && t > 0 ? t : 0), label(std::move(l)) {}

  static long long now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
  }

  // One of the threads that come when an update is due sends it.
  void changed() {
    // A bar that is a variable of a cell outlives it, so its end cannot be waited for.
    if (total > 0 && value.load(std::memory_order_relaxed) >= total && !full.exchange(true)) return publish(true, true);
    long long at = due.load(std::memory_order_relaxed);
    const long long t = now();
    if (t < at || !due.compare_exchange_strong(at, t + kInterval, std::memory_order_relaxed)) return;
    publish(true, false);
  }

  void publish(bool update, bool last) {
    const std::lock_guard lock(mutex);
    const double done = value.load();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    const double a_second = seconds > 0 && done > 0 ? done / seconds : 0;
    const bool complete = total > 0 ? done >= total : last;
    const double part = total > 0 ? std::clamp(done / total, 0.0, 1.0) : 0;

    std::string count = number(done), times = clock_text(seconds);
    if (total > 0) {
      count += "/" + number(total);
      if (!complete && !last) times += "<" + (a_second > 0 ? clock_text((total - done) / a_second) : std::string("?"));
    }
    if (a_second > 0) times += ", " + rate_text(a_second);
    const std::string state = last && !complete ? " stopped" : "";
    const std::string percent = total > 0 ? std::to_string(static_cast<int>(part * 100)) + "%" : "";

    std::string text = label.empty() ? "" : kernel::show::one_line(label) + ": ";
    if (total > 0)
      text += std::string(4 - std::min<std::size_t>(4, percent.size()), ' ') + percent + text_bar(part) + " ";
    text += count + " [" + times + "]" + state;

    const char* colour = complete ? "#2ca02c" : last ? "#d62728" : "#1f77b4";
    std::string html = "<div style=\"display:flex;align-items:center;gap:.6em;font-family:monospace\">";
    if (!label.empty()) html += "<span>" + kernel::show::escape(label) + "</span>";
    html += std::string("<progress style=\"width:22em;accent-color:") + colour + "\"";
    // Without a value it is a bar that moves; one that has ended must not.
    if (total > 0 || last) {
      char value_text[40];
      std::snprintf(value_text, sizeof value_text, "%.4f", total > 0 ? part : 1.0);
      html += std::string(" max=\"1\" value=\"") + value_text + "\"";
    }
    html += "></progress><span>" + (percent.empty() ? "" : percent + " ") + count + " [" + kernel::show::escape(times) +
            "]" + state + "</span></div>";
    kernel::detail::publish_display({{"text/plain", text}, {"text/html", html}}, {}, id, update);
  }
};

progress<void>::progress(double total, std::string label) : state_(std::make_unique<State>(total, std::move(label))) {
  state_->publish(false, false);
  state_->due = State::now() + kInterval;
}

progress<void>::~progress() {
  try {
    if (!state_->full) state_->publish(true, true);
  } catch (...) {  // the bar is not worth a terminated kernel
  }
}

void progress<void>::step(double n) {
  state_->value.fetch_add(n, std::memory_order_relaxed);
  state_->changed();
}

void progress<void>::set(double value) {
  state_->value.store(value, std::memory_order_relaxed);
  state_->changed();
}

void progress<void>::label(std::string text) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->label = std::move(text);
  }
  state_->changed();
}

double progress<void>::value() const noexcept { return state_->value.load(std::memory_order_relaxed); }

}  // namespace caller
