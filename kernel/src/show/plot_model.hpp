// What a plot holds, and the axes that fit it.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <caller/kernel/plot.hpp>

namespace caller::kernel::show {

struct Series {
  enum class Kind { line, scatter, bar, histogram } kind;
  std::vector<double> x, y;  // of a histogram: lower edges and counts
  double bin = 0;            // width of a histogram's bins
  std::string label, color;
  double thick = 0;  // 0: the kind's own
  bool dashed = false, markers = false;
};

struct AxisOptions {
  std::string label;
  bool log = false;
  std::optional<std::pair<double, double>> range;
};

struct Tick {
  double at;
  std::string text;
};

/// From data to the unit interval, and where the ticks are.
struct Axis {
  bool log = false;
  double low = 0, high = 1;  // data; on a logarithmic axis positive
  std::vector<Tick> ticks;

  /// 0 at low, 1 at high; NaN for what the axis cannot show.
  double place(double value) const;
};

/// An axis over the values from low to high (low > high: there are none), with about `count` ticks.
Axis make_axis(double low, double high, const AxisOptions& options, bool keep_low, bool keep_high, int count);

/// The text of a number on an axis whose ticks are `step` apart and at most `most` in size.
std::string tick_text(double value, double step, double most);

/// The counts of finite values in equal bins; bins below 1: chosen by the spread.
Series make_histogram(const std::vector<double>& values, int bins);

struct Extent {
  double low = 1, high = -1;  // of finite values; low > high: none
  void take(double value, bool positive_only);
};

/// How wide a bar of the series at these places is, in data.
double bar_slot(const std::vector<const Series*>& bars);

/// The axes of a plot, for about so many ticks.
std::pair<Axis, Axis> make_axes(const plot::State& plot, int x_ticks, int y_ticks);

std::string plot_svg(const plot::State& plot);
std::string plot_text(const plot::State& plot);

}  // namespace caller::kernel::show

struct caller::plot::State {
  std::vector<kernel::show::Series> series;
  std::vector<std::string> names;  // of the places 0, 1, … of bars
  kernel::show::AxisOptions x, y;
  std::string title;
  int width = 640, height = 400;
  std::optional<bool> legend;
};
