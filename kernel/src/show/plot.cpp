#include <caller/kernel/plot.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "show/plot_model.hpp"

namespace caller {
using kernel::show::Series;

namespace {

void check_range(const char* what, double from, double to) {
  if (!std::isfinite(from) || !std::isfinite(to) || !(from < to))
    throw std::invalid_argument(std::string("plot: ") + what + " must go from a number to a larger one");
}

}  // namespace

void kernel::detail::plot_append(std::vector<double>& out, double value) { out.push_back(value); }
void kernel::detail::plot_append(std::vector<double>& out, const double* values, std::size_t count) {
  out.insert(out.end(), values, values + count);
}
void kernel::detail::plot_append(std::vector<std::string>& out, std::string_view name) { out.emplace_back(name); }

plot::plot() : state_(std::make_unique<State>()) {}
plot::plot(const plot& other) : state_(std::make_unique<State>(*other.state_)) {}
plot::plot(plot&& other) noexcept = default;
plot& plot::operator=(const plot& other) {
  state_ = std::make_unique<State>(*other.state_);
  return *this;
}
plot& plot::operator=(plot&& other) noexcept = default;
plot::~plot() = default;

plot& plot::add(Kind kind, std::vector<double> x, std::vector<double> y, std::string label) {
  if (x.size() != y.size())
    throw std::invalid_argument("plot: there are " + std::to_string(x.size()) + " values of x and " +
                                std::to_string(y.size()) + " of y");
  const auto k = kind == Kind::line      ? Series::Kind::line
                 : kind == Kind::scatter ? Series::Kind::scatter
                                         : Series::Kind::bar;
  state_->series.push_back({k, std::move(x), std::move(y), 0, std::move(label), {}});
  return *this;
}

plot& plot::add_numbered(Kind kind, std::vector<double> y, std::string label) {
  std::vector<double> x(y.size());
  std::iota(x.begin(), x.end(), 0.0);
  return add(kind, std::move(x), std::move(y), std::move(label));
}

plot& plot::add_bars(std::vector<std::string> names, std::vector<double> y, std::string label) {
  if (names.size() != y.size())
    throw std::invalid_argument("plot: there are " + std::to_string(names.size()) + " names and " +
                                std::to_string(y.size()) + " bars");
  // A name has one place in the plot, whichever series it comes in.
  std::vector<double> x;
  for (auto& name : names) {
    auto& all = state_->names;
    const auto at = std::find(all.begin(), all.end(), name);
    x.push_back(static_cast<double>(at - all.begin()));
    if (at == all.end()) all.push_back(std::move(name));
  }
  return add(Kind::bar, std::move(x), std::move(y), std::move(label));
}

plot& plot::add_histogram(std::vector<double> values, int bins, std::string label) {
  if (bins != -1 && (bins < 1 || bins > 100'000)) throw std::invalid_argument("plot: a histogram has 1 to 100000 bins");
  Series s = kernel::show::make_histogram(values, bins);
  s.label = std::move(label);
  state_->series.push_back(std::move(s));
  return *this;
}

plot& plot::title(std::string text) { return state_->title = std::move(text), *this; }
plot& plot::x_label(std::string text) { return state_->x.label = std::move(text), *this; }
plot& plot::y_label(std::string text) { return state_->y.label = std::move(text), *this; }
plot& plot::log_x(bool on) { return state_->x.log = on, *this; }
plot& plot::log_y(bool on) { return state_->y.log = on, *this; }
plot& plot::x_range(double from, double to) {
  check_range("x_range", from, to);
  return state_->x.range = {from, to}, *this;
}
plot& plot::y_range(double from, double to) {
  check_range("y_range", from, to);
  return state_->y.range = {from, to}, *this;
}
plot& plot::size(int width, int height) {
  if (width < 100 || height < 100 || width > 10'000 || height > 10'000)
    throw std::invalid_argument("plot: a size is from 100 to 10000 pixels");
  state_->width = width;
  state_->height = height;
  return *this;
}
plot& plot::legend(bool on) { return state_->legend = on, *this; }

namespace {
Series& last_of(plot::State& state) {
  if (state.series.empty()) throw std::invalid_argument("plot: there is no series yet whose look could be set");
  return state.series.back();
}
}  // namespace

plot& plot::label(std::string text) { return last_of(*state_).label = std::move(text), *this; }
plot& plot::color(std::string css) { return last_of(*state_).color = std::move(css), *this; }
plot& plot::thick(double pixels) {
  if (!(pixels > 0) || pixels > 100) throw std::invalid_argument("plot: thick is from 0 to 100 pixels");
  return last_of(*state_).thick = pixels, *this;
}
plot& plot::dashed(bool on) { return last_of(*state_).dashed = on, *this; }
plot& plot::markers(bool on) { return last_of(*state_).markers = on, *this; }

std::string plot::svg() const { return kernel::show::plot_svg(*state_); }
std::string plot::text() const { return kernel::show::plot_text(*state_); }

MimeBundle mime_bundle_repr(const plot& x) { return {{"image/svg+xml", x.svg()}, {"text/plain", x.text()}}; }

}  // namespace caller
