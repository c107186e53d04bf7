#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "show/plot_model.hpp"

namespace caller::kernel::show {
namespace {

// 1, 2 or 5 times a power of ten, at least `x`.
double nice(double x) {
  const double power = std::pow(10, std::floor(std::log10(x)));
  const double part = x / power;
  return power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
}

std::string superscript(int n) {
  static constexpr const char* digits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string out = n < 0 ? "⁻" : "";
  for (const char c : std::to_string(std::abs(n))) out += digits[c - '0'];
  return out;
}

std::string power_text(int exponent, int factor, bool plain) {
  if (plain) {
    char out[40];
    std::snprintf(out, sizeof out, "%.*f", std::max(0, -exponent), factor * std::pow(10, exponent));
    return out;
  }
  return (factor == 1 ? "" : std::to_string(factor) + "·") + ("10" + superscript(exponent));
}

std::vector<Tick> linear_ticks(double low, double high, int count) {
  std::vector<Tick> out;
  const double step = nice((high - low) / std::max(1, count));
  if (!(step > 0) || !std::isfinite(step)) return out;
  const double most = std::max(std::abs(low), std::abs(high));
  const double slack = step * 1e-6;
  for (double i = std::ceil((low - slack) / step); i * step <= high + slack; ++i) {
    const double at = i * step;
    out.push_back({at, tick_text(at == 0 ? 0.0 : at, step, most)});
    if (out.size() > 100) break;  // the step is lost in the size of the values
  }
  return out;
}

std::vector<Tick> log_ticks(double low, double high, int count) {
  std::vector<Tick> out;
  const int first = static_cast<int>(std::floor(std::log10(low))), last = static_cast<int>(std::ceil(std::log10(high)));
  const int stride = std::max(1, (last - first + count - 1) / std::max(1, count));
  const bool plain = first >= -3 && last <= 5;
  const bool between = std::log10(high / low) < 2.5;
  for (int e = static_cast<int>(std::floor(static_cast<double>(first) / stride)) * stride; e <= last; e += stride)
    for (const int factor : {1, 2, 5}) {
      if (factor > 1 && !between) break;
      const double at = factor * std::pow(10, e);
      if (at >= low * (1 - 1e-9) && at <= high * (1 + 1e-9)) out.push_back({at, power_text(e, factor, plain)});
    }
  return out.size() < 2 ? linear_ticks(low, high, count) : out;
}

}  // namespace

std::string tick_text(double value, double step, double most) {
  char out[64];
  if (most < 1e6 && step >= 1e-5) {
    const int decimals = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
    std::snprintf(out, sizeof out, "%.*f", decimals, value);
    return out;
  }
  const int digits = std::clamp(static_cast<int>(std::ceil(std::log10(most / step))) + 1, 1, 15);
  std::snprintf(out, sizeof out, "%.*g", digits, value);
  std::string text = out;
  if (const auto e = text.find('e'); e != std::string::npos) {  // 1e+06 → 1e6
    std::string exponent = text.substr(e + 1);
    const bool minus = exponent.front() == '-';
    exponent.erase(0, std::min(exponent.find_first_not_of("+-0"), exponent.size() - 1));
    text = text.substr(0, e) + (minus ? "e-" : "e") + exponent;
  }
  return text;
}

double Axis::place(double value) const {
  if (!std::isfinite(value) || (log && value <= 0)) return std::numeric_limits<double>::quiet_NaN();
  if (log) return std::log(value / low) / std::log(high / low);
  return value / (high - low) - low / (high - low);
}

void Extent::take(double value, bool positive_only) {
  if (!std::isfinite(value) || (positive_only && value <= 0)) return;
  if (low > high)
    low = high = value;
  else if (value < low)
    low = value;
  else if (value > high)
    high = value;
}

Axis make_axis(double low, double high, const AxisOptions& options, bool keep_low, bool keep_high, int count) {
  constexpr double kLargest = std::numeric_limits<double>::max() / 4;  // so that a span is finite
  constexpr double kSmallest = 1e-300;                                 // so that quotients are
  Axis axis;
  axis.log = options.log;
  if (low > high) {
    low = options.log ? 1 : 0;
    high = options.log ? 10 : 1;
    keep_low = keep_high = true;
  }
  if (options.range) {
    std::tie(low, high) = *options.range;
    keep_low = keep_high = true;
    if (options.log && low <= 0) low = high > 0 ? std::min(high / 1000, 1.0) : 1;
  }
  if (options.log) {
    low = std::clamp(low, kSmallest, kLargest);
    high = std::clamp(high, kSmallest, kLargest);
    if (high <= low) {
      low /= 2;
      high = low * 4;
    }
    const double margin = std::pow(high / low, 0.04);
    if (!keep_low) low /= margin;
    if (!keep_high) high = std::min(high * margin, kLargest);
  } else {
    low = std::clamp(low, -kLargest, kLargest);
    high = std::clamp(high, -kLargest, kLargest);
    // Values that differ by less than their own precision are one value.
    if (high - low <= std::max(std::abs(low), std::abs(high)) * 1e-12) {
      const double margin = low == 0 ? 1 : std::abs(low) * 0.1;
      low -= margin;
      high += margin;
      keep_low = keep_high = true;
    }
    const double margin = (high - low) * 0.04;
    if (!keep_low) low -= margin;
    if (!keep_high) high += margin;
  }
  axis.low = low;
  axis.high = high;
  axis.ticks = options.log ? log_ticks(low, high, count) : linear_ticks(low, high, count);
  std::erase_if(axis.ticks, [&](const Tick& t) {
    const double part = axis.place(t.at);
    return !(part >= -1e-6 && part <= 1 + 1e-6);
  });
  return axis;
}

Series make_histogram(const std::vector<double>& values, int bins) {
  std::vector<double> v;
  for (const double x : values)
    if (std::isfinite(x)) v.push_back(x);
  Series out{Series::Kind::histogram, {}, {}, 0, {}, {}};
  if (v.empty()) return out;
  const auto [least, most] = std::minmax_element(v.begin(), v.end());
  double low = *least, high = *most;
  if (bins < 1) {
    // Freedman and Diaconis; where half of the values are one value, Sturges.
    const auto n = static_cast<double>(v.size());
    const auto quantile = [&](double q) {
      const auto at = v.begin() + static_cast<std::ptrdiff_t>(q * (n - 1));
      std::nth_element(v.begin(), at, v.end());
      return *at;
    };
    const double spread = quantile(0.75) - quantile(0.25);
    const double wanted = spread > 0 ? (high - low) / (2 * spread / std::cbrt(n)) : std::log2(n) + 1;
    bins = static_cast<int>(std::clamp(std::ceil(wanted), 1.0, 100.0));
  }
  if (high - low <= std::max(std::abs(low), std::abs(high)) * 1e-12) {
    low -= 0.5;
    high += 0.5;
  }
  out.bin = high / bins - low / bins;
  out.y.assign(static_cast<std::size_t>(bins), 0);
  for (int i = 0; i < bins; ++i) out.x.push_back(low + i * out.bin);
  for (const double x : v) {
    const double at = std::clamp((x - low) / out.bin, 0.0, static_cast<double>(bins - 1));
    ++out.y[static_cast<std::size_t>(at)];
  }
  return out;
}

double bar_slot(const std::vector<const Series*>& bars) {
  std::vector<double> places;
  for (const Series* s : bars)
    for (const double x : s->x)
      if (std::isfinite(x)) places.push_back(x);
  std::sort(places.begin(), places.end());
  double slot = std::numeric_limits<double>::infinity();
  for (std::size_t i = 1; i < places.size(); ++i)
    if (places[i] > places[i - 1]) slot = std::min(slot, places[i] - places[i - 1]);
  return std::isfinite(slot) ? slot : 1;
}

std::pair<Axis, Axis> make_axes(const plot::State& plot, int x_ticks, int y_ticks) {
  Extent x, y;
  bool from_zero = false;
  std::vector<const Series*> bars;
  for (const Series& s : plot.series)
    if (s.kind == Series::Kind::bar) bars.push_back(&s);
  const double slot = bar_slot(bars);
  for (const Series& s : plot.series) {
    for (std::size_t i = 0; i < s.x.size(); ++i) {
      if (!std::isfinite(s.x[i])) continue;
      if (s.kind == Series::Kind::bar) {
        x.take(s.x[i] - slot / 2, plot.x.log);
        x.take(s.x[i] + slot / 2, plot.x.log);
      } else {
        x.take(s.x[i], plot.x.log);
        if (s.kind == Series::Kind::histogram) x.take(s.x[i] + s.bin, plot.x.log);
      }
      // What lies outside of a range that was asked for does not stretch the other axis.
      if (plot.x.range && s.kind != Series::Kind::histogram &&
          (s.x[i] < plot.x.range->first || s.x[i] > plot.x.range->second))
        continue;
      y.take(s.y[i], plot.y.log);
    }
    from_zero |= s.kind == Series::Kind::bar || s.kind == Series::Kind::histogram;
  }
  if (from_zero && !plot.y.log) y.take(0, false);
  const bool logarithmic_bars = from_zero && plot.y.log;
  if (logarithmic_bars && y.low <= y.high) y.low /= 2;  // the lowest bar is seen
  Axis x_axis = make_axis(x.low, x.high, plot.x, false, false, x_ticks);
  if (!plot.names.empty()) {
    x_axis.ticks.clear();
    for (std::size_t i = 0; i < plot.names.size(); ++i)
      if (const auto at = static_cast<double>(i); at >= x_axis.low && at <= x_axis.high)
        x_axis.ticks.push_back({at, plot.names[i]});
  }
  return {std::move(x_axis), make_axis(y.low, y.high, plot.y, (from_zero && y.low == 0) || logarithmic_bars,
                                       from_zero && y.high == 0, y_ticks)};
}

}  // namespace caller::kernel::show
