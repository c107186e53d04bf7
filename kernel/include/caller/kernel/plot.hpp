// Plots from plain containers: lines, points, bars, histograms.
#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <caller/export.hpp>
#include <caller/kernel/values.hpp>

namespace caller {

namespace kernel::detail {

template <class T>
concept PlotNumber = std::is_arithmetic_v<T> || (Optional<T> && requires(const T& x) { static_cast<double>(*x); }) ||
                     (Duration<T> && requires(const T& x) { static_cast<double>(x.count()); });

template <class R>
using PlotElement = std::remove_cvref_t<std::iter_value_t<decltype(std::begin(std::declval<R&>()))>>;

template <class R>
concept PlotNumbers = !Text<std::remove_cvref_t<R>> && requires(R& r) {
  std::begin(r) != std::end(r);
  requires PlotNumber<PlotElement<R>>;
};
template <class R>
concept PlotNames = !Text<std::remove_cvref_t<R>> && requires(R& r) {
  std::begin(r) != std::end(r);
  requires Text<PlotElement<R>>;
};
// Maps, and ranges of pairs.
template <class R, class First>
concept PlotPairs = requires(R& r) {
  std::begin(r) != std::end(r);
  requires Pair<PlotElement<R>>;
  requires std::is_convertible_v<typename PlotElement<R>::first_type, First>;
  requires PlotNumber<typename PlotElement<R>::second_type>;
};

template <class T>
double plot_value(const T& x) {
  if constexpr (Optional<T>)
    return x.has_value() ? static_cast<double>(*x) : std::nan("");
  else if constexpr (Duration<T>)
    return static_cast<double>(x.count()) * static_cast<double>(T::period::num) / static_cast<double>(T::period::den);
  else
    return static_cast<double>(x);
}

// In the library, so that a cell does not compile what a vector does.
CALLER_API void plot_append(std::vector<double>& out, double value);
CALLER_API void plot_append(std::vector<double>& out, const double* values, std::size_t count);
CALLER_API void plot_append(std::vector<std::string>& out, std::string_view name);

template <class R>
std::vector<double> plot_values(R& range) {
  std::vector<double> out;
  if constexpr (requires {
                  { std::data(range) } -> std::convertible_to<const double*>;
                  std::size(range);
                })
    plot_append(out, std::data(range), std::size(range));
  else
    for (auto&& x : range) plot_append(out, plot_value<PlotElement<R>>(x));
  return out;
}

}  // namespace kernel::detail

/// A plot: `caller::plot(x, y)`, or `caller::plot().line(x, y, "sin").scatter(…).title("…")`, shown like any value.
///
/// Series are drawn one over the other. Values may be numbers, durations (in seconds) or optionals of numbers; what is
/// not finite, empty, or not positive on a logarithmic axis makes a gap. Data of any size is drawn in bounded space:
/// a line keeps the extremes of every pixel column. A client without pictures gets the plot in characters.
///
/// `label`, `color`, `thick`, `dashed` and `markers` are about the series added last.
///
/// Thread-safety: distinct objects: safe; shared objects: unsafe to change, safe to show.
/// Units: `size` in pixels of the page; `thick` in pixels.
/// Errors: std::invalid_argument when x and y differ in number, when a setting is no number, when bins are 0 or a size
/// is below 100, or when a property of a series is set before there is one.
/// Source: matplotlib.pyplot; differs: SVG, no state between plots.
class CALLER_API plot {
public:
  plot();
  /// A plot with one line, numbered from 0.
  template <kernel::detail::PlotNumbers Y>
  explicit plot(Y&& y, std::string label = {}) : plot() {
    line(std::forward<Y>(y), std::move(label));
  }
  /// A plot with one line.
  template <kernel::detail::PlotNumbers X, kernel::detail::PlotNumbers Y>
  plot(X&& x, Y&& y, std::string label = {}) : plot() {
    line(std::forward<X>(x), std::forward<Y>(y), std::move(label));
  }
  plot(const plot& other);
  plot(plot&& other) noexcept;
  plot& operator=(const plot& other);
  plot& operator=(plot&& other) noexcept;
  ~plot();

  /// A line through the points; without x they are numbered from 0.
  template <kernel::detail::PlotNumbers Y>
  plot& line(Y&& y, std::string label = {}) {
    return add_numbered(Kind::line, kernel::detail::plot_values(y), std::move(label));
  }
  /// A line through the points (x, y).
  template <kernel::detail::PlotNumbers X, kernel::detail::PlotNumbers Y>
  plot& line(X&& x, Y&& y, std::string label = {}) {
    return add(Kind::line, kernel::detail::plot_values(x), kernel::detail::plot_values(y), std::move(label));
  }
  /// The same with pairs.
  template <kernel::detail::PlotPairs<double> P>
  plot& line(P&& points, std::string label = {}) {
    return add_pairs(Kind::line, points, std::move(label));
  }

  /// The points alone.
  template <kernel::detail::PlotNumbers Y>
  plot& scatter(Y&& y, std::string label = {}) {
    return add_numbered(Kind::scatter, kernel::detail::plot_values(y), std::move(label));
  }
  /// The same at the points (x, y).
  template <kernel::detail::PlotNumbers X, kernel::detail::PlotNumbers Y>
  plot& scatter(X&& x, Y&& y, std::string label = {}) {
    return add(Kind::scatter, kernel::detail::plot_values(x), kernel::detail::plot_values(y), std::move(label));
  }
  /// The same with pairs.
  template <kernel::detail::PlotPairs<double> P>
  plot& scatter(P&& points, std::string label = {}) {
    return add_pairs(Kind::scatter, points, std::move(label));
  }

  /// Bars from zero, side by side where there are several series; at x, at names, or numbered.
  template <kernel::detail::PlotNumbers Y>
  plot& bar(Y&& y, std::string label = {}) {
    return add_numbered(Kind::bar, kernel::detail::plot_values(y), std::move(label));
  }
  /// Bars at the places x.
  template <kernel::detail::PlotNumbers X, kernel::detail::PlotNumbers Y>
  plot& bar(X&& x, Y&& y, std::string label = {}) {
    return add(Kind::bar, kernel::detail::plot_values(x), kernel::detail::plot_values(y), std::move(label));
  }
  /// Bars with names below them.
  template <kernel::detail::PlotNames X, kernel::detail::PlotNumbers Y>
  plot& bar(X&& names, Y&& y, std::string label = {}) {
    std::vector<std::string> texts;
    for (auto&& name : names) kernel::detail::plot_append(texts, std::string_view(name));
    return add_bars(std::move(texts), kernel::detail::plot_values(y), std::move(label));
  }
  /// The same with pairs of a name and a number.
  template <kernel::detail::PlotPairs<std::string_view> P>
  plot& bar(P&& pairs, std::string label = {}) {
    std::vector<std::string> names;
    std::vector<double> y;
    for (auto&& p : pairs) {
      kernel::detail::plot_append(names, std::string_view(p.first));
      kernel::detail::plot_append(y, kernel::detail::plot_value(p.second));
    }
    return add_bars(std::move(names), std::move(y), std::move(label));
  }

  /// How often values fall into each of `bins` equal parts of their range; without a number it is chosen by their
  /// spread.
  template <kernel::detail::PlotNumbers V>
  plot& histogram(V&& values, std::string label = {}) {
    return add_histogram(kernel::detail::plot_values(values), -1, std::move(label));
  }
  /// The same with so many bins.
  template <kernel::detail::PlotNumbers V>
  plot& histogram(V&& values, int bins, std::string label = {}) {
    return add_histogram(kernel::detail::plot_values(values), bins, std::move(label));
  }

  plot& title(std::string text);    ///< above the plot
  plot& x_label(std::string text);  ///< below the x axis
  plot& y_label(std::string text);  ///< beside the y axis
  plot& log_x(bool on = true);      ///< logarithmic
  plot& log_y(bool on = true);      ///< logarithmic
  /// What the x axis shows, whatever the values are. Errors: std::invalid_argument unless from is below to.
  plot& x_range(double from, double to);
  /// What the y axis shows, whatever the values are. Errors: std::invalid_argument unless from is below to.
  plot& y_range(double from, double to);
  plot& size(int width, int height);  ///< pixels, 100 to 10 000
  plot& legend(bool on);              ///< without this there is one when a series has a label

  plot& label(std::string text);  ///< in the legend; of the series added last
  plot& color(std::string css);   ///< any colour of CSS; of the series added last
  plot& thick(double pixels);     ///< more than 0, up to 100 pixels; of the series added last
  plot& dashed(bool on = true);   ///< of the series added last
  plot& markers(bool on = true);  ///< a mark at each point; of the series added last

  std::string svg() const;   ///< what a client with pictures gets
  std::string text() const;  ///< what any other client gets: the plot in characters

  /// For the library.
  struct State;

private:
  enum class Kind { line, scatter, bar, histogram };
  plot& add(Kind kind, std::vector<double> x, std::vector<double> y, std::string label);
  plot& add_numbered(Kind kind, std::vector<double> y, std::string label);
  plot& add_bars(std::vector<std::string> names, std::vector<double> y, std::string label);
  plot& add_histogram(std::vector<double> values, int bins, std::string label);

  template <class P>
  plot& add_pairs(Kind kind, P& points, std::string label) {
    std::vector<double> x, y;
    for (auto&& p : points) {
      kernel::detail::plot_append(x, kernel::detail::plot_value(p.first));
      kernel::detail::plot_append(y, kernel::detail::plot_value(p.second));
    }
    return add(kind, std::move(x), std::move(y), std::move(label));
  }

  std::unique_ptr<State> state_;
};
CALLER_API MimeBundle mime_bundle_repr(const plot& x);

}  // namespace caller
