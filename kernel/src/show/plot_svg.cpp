#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <limits>
#include <unordered_set>

#include "show/plot_model.hpp"
#include "show/text.hpp"

namespace caller::kernel::show {
namespace {

// Told apart with any kind of colour vision, and from white.
constexpr const char* kColors[] = {"#1f77b4", "#e6550d", "#2ca02c", "#9467bd", "#d62728",
                                   "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22"};
constexpr double kCharacter = 6.8;  // the width of a character of 11 pixels, about
constexpr std::size_t kMostPoints = 20'000;

struct Box {
  double x, y, width, height;
};

std::string px(double v) {
  char out[40];
  std::snprintf(out, sizeof out, "%.1f", v);
  std::string text = out;
  if (text.ends_with(".0")) text.erase(text.size() - 2);
  return text == "-0" ? "0" : text;
}

struct Point {
  double x, y;  // pixels in the box; y goes down; NaN: a gap
  bool gap() const { return std::isnan(x) || std::isnan(y); }
};

// What is far outside is brought near, as renderers compute in single precision.
double near(double part, double length) { return std::clamp(part, -20.0, 21.0) * length; }

std::vector<Point> points_of(const Series& s, const Axis& x, const Axis& y, const Box& box) {
  std::vector<Point> out;
  out.reserve(s.x.size());
  for (std::size_t i = 0; i < s.x.size(); ++i)
    out.push_back({near(x.place(s.x[i]), box.width), (1 - std::clamp(y.place(s.y[i]), -20.0, 21.0)) * box.height});
  return out;
}

// Of a long line what can be seen of it: where x only grows, the first, lowest, highest and last point of each pixel
// column; elsewhere the points that are half a pixel from the one before. Gaps stay.
std::vector<Point> thinned(std::vector<Point> points, double width) {
  if (points.size() <= static_cast<std::size_t>(4 * width)) return points;
  const bool grows = std::is_sorted(points.begin(), points.end(),
                                    [](const Point& a, const Point& b) { return !a.gap() && !b.gap() && a.x < b.x; });
  std::vector<Point> out;
  if (grows) {
    for (std::size_t i = 0; i < points.size();) {
      if (points[i].gap()) {
        out.push_back(points[i]);
        while (i < points.size() && points[i].gap()) ++i;
        continue;
      }
      const double column = std::floor(points[i].x);
      std::size_t first = i, low = i, high = i;
      for (; i < points.size() && !points[i].gap() && std::floor(points[i].x) == column; ++i) {
        if (points[i].y < points[low].y) low = i;
        if (points[i].y > points[high].y) high = i;
      }
      std::size_t kept[] = {first, low, high, i - 1};
      std::sort(std::begin(kept), std::end(kept));
      for (std::size_t k = 0; k < 4; ++k)
        if (k == 0 || kept[k] != kept[k - 1]) out.push_back(points[kept[k]]);
    }
    return out;
  }
  for (const Point& p : points)
    if (out.empty() || p.gap() != out.back().gap() ||
        (!p.gap() && std::hypot(p.x - out.back().x, p.y - out.back().y) >= 0.5))
      out.push_back(p);
  if (out.size() > kMostPoints) {
    std::vector<Point> some;
    const std::size_t stride = out.size() / kMostPoints + 1;
    for (std::size_t i = 0; i < out.size(); i += stride) some.push_back(out[i]);
    return some;
  }
  return out;
}

std::string line_path(const std::vector<Point>& points) {
  std::string out;
  bool pen_down = false;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const Point& p = points[i];
    if (p.gap()) {
      pen_down = false;
      continue;
    }
    out += (pen_down ? "L" : "M") + px(p.x) + " " + px(p.y);
    // A point between two gaps is a dot.
    if (!pen_down && (i + 1 == points.size() || points[i + 1].gap())) out += "h0";
    pen_down = true;
  }
  return out;
}

// Points that fall on one another are drawn once.
std::string dots_path(const std::vector<Point>& points, const Box& box) {
  std::string out;
  std::unordered_set<long long> seen;
  const double grain = points.size() > kMostPoints ? 1 : 4;
  for (const Point& p : points) {
    if (p.gap() || p.x < -20 || p.x > box.width + 20 || p.y < -20 || p.y > box.height + 20) continue;
    const auto key = std::llround(p.x * grain) * 1'000'003 + std::llround(p.y * grain);
    if (seen.insert(key).second) out += "M" + px(p.x) + " " + px(p.y) + "h0";
  }
  return out;
}

std::string stroke(const std::string& path, const std::string& color, double width, const std::string& more = {}) {
  if (path.empty()) return {};
  return "<path d=\"" + path + "\" fill=\"none\" stroke=\"" + color + "\" stroke-width=\"" + px(width) +
         "\" stroke-linejoin=\"round\" stroke-linecap=\"round\"" + more + "/>\n";
}

class Drawing {
public:
  explicit Drawing(const plot::State& plot) : plot_(plot) {}

  std::string operator()() {
    for (const Series& s : plot_.series) {
      if (s.kind == Series::Kind::bar) bars_.push_back(&s);
      if (s.kind == Series::Kind::histogram) ++histograms_;
      labelled_ |= !s.label.empty();
    }
    lay_out();
    const std::string w = std::to_string(plot_.width), h = std::to_string(plot_.height);
    out_ = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + w + "\" height=\"" + h + "\" viewBox=\"0 0 " + w +
           " " + h +
           "\" role=\"img\" font-family=\"'Helvetica Neue',Helvetica,Arial,'DejaVu Sans',sans-serif\" "
           "font-size=\"11\" fill=\"#333\">\n";
    if (!plot_.title.empty()) out_ += "<title>" + escape(plot_.title) + "</title>\n";
    out_ += "<rect width=\"" + w + "\" height=\"" + h + "\" fill=\"#fff\"/>\n";
    draw_axes();
    // An inner picture cuts off what lies outside of the axes.
    out_ += "<svg x=\"" + px(box_.x) + "\" y=\"" + px(box_.y) + "\" width=\"" + px(box_.width) + "\" height=\"" +
            px(box_.height) + "\">\n";
    std::size_t bar = 0;
    for (std::size_t i = 0; i < plot_.series.size(); ++i) {
      const Series& s = plot_.series[i];
      const std::string color = color_of(i);
      switch (s.kind) {
        case Series::Kind::line:
          draw_line(s, color);
          break;
        case Series::Kind::scatter:
          out_ += stroke(dots_path(points_of(s, x_, y_, box_), box_), color, s.thick > 0 ? s.thick : 6,
                         " stroke-opacity=\".75\"");
          break;
        case Series::Kind::bar:
          draw_bars(s, color, bar++);
          break;
        case Series::Kind::histogram:
          draw_histogram(s, color);
          break;
      }
    }
    out_ += "</svg>\n";
    draw_frame();
    if (legend_) draw_legend();
    return out_ + "</svg>";
  }

private:
  std::string color_of(std::size_t i) const {
    const Series& s = plot_.series[i];
    return s.color.empty() ? kColors[i % std::size(kColors)] : escape(s.color);
  }

  // The axes decide how wide their numbers are, the numbers how much room the axes have.
  void lay_out() {
    legend_ = plot_.legend.value_or(labelled_) && !plot_.series.empty();
    const double width = plot_.width, height = plot_.height;
    box_ = {60, 14, width - 80, height - 54};
    std::tie(x_, y_) = make_axes(plot_, std::max(2, plot_.width / 80), std::max(2, plot_.height / 50));
    double left = 0;
    for (const Tick& t : y_.ticks) left = std::max(left, static_cast<double>(show::width(t.text)) * kCharacter);
    left = std::min(left + 12, width * 0.35) + (plot_.y.label.empty() ? 6 : 22);
    double right = 16;
    if (legend_) {
      std::size_t longest = 1;
      for (const Series& s : plot_.series) longest = std::max(longest, std::min<std::size_t>(show::width(s.label), 24));
      right = std::min(static_cast<double>(longest) * kCharacter + 44, width * 0.4);
    }
    const double top = plot_.title.empty() ? 14 : 36;
    box_.x = left;
    box_.y = top;
    box_.width = width - left - right;
    // Names that do not fit beside each other stand slanted.
    double longest = 0;
    if (!plot_.names.empty()) {
      for (const Tick& t : x_.ticks) longest = std::max(longest, static_cast<double>(show::width(t.text)) * kCharacter);
      slanted_ = longest + 8 > box_.width / static_cast<double>(std::max<std::size_t>(1, x_.ticks.size()));
    }
    if (slanted_) {  // the first name begins left of its bar
      const double more =
          std::min(longest, 110.0) * 0.82 - box_.width / static_cast<double>(x_.ticks.size()) / 2 - box_.x;
      box_.x += std::max(0.0, more);
      box_.width -= std::max(0.0, more);
    }
    const double below = slanted_ ? 14 + std::min(longest, 110.0) * 0.6 : 22;
    box_.height = std::max(20.0, height - top - below - (plot_.x.label.empty() ? 8 : 24));
    x_title_ = std::min(height - 8.0, box_.y + box_.height + below + 14);
  }

  double at_x(const Tick& t) const { return box_.x + x_.place(t.at) * box_.width; }
  double at_y(const Tick& t) const { return box_.y + (1 - y_.place(t.at)) * box_.height; }

  void draw_axes() {
    std::string grid;
    const bool named = !plot_.names.empty();
    if (!named)
      for (const Tick& t : x_.ticks) grid += "M" + px(at_x(t)) + " " + px(box_.y) + "v" + px(box_.height);
    for (const Tick& t : y_.ticks) grid += "M" + px(box_.x) + " " + px(at_y(t)) + "h" + px(box_.width);
    if (!grid.empty()) out_ += "<path d=\"" + grid + "\" stroke=\"#e4e4e4\" fill=\"none\"/>\n";

    const double bottom = box_.y + box_.height;
    // As many names as there is room for.
    const double room = slanted_ ? 14 : 1;
    const auto most = static_cast<std::size_t>(std::max(1.0, box_.width / room));
    const std::size_t stride = named ? (x_.ticks.size() + most - 1) / std::max<std::size_t>(1, most) : 1;
    double last_end = -1e9;
    for (std::size_t i = 0; i < x_.ticks.size(); i += std::max<std::size_t>(1, stride)) {
      const Tick& t = x_.ticks[i];
      if (slanted_) {
        const std::string at = px(at_x(t) + 3) + " " + px(bottom + 14);
        out_ += "<text transform=\"translate(" + at + ") rotate(-35)\" text-anchor=\"end\">" +
                escape(shorten(one_line(t.text), 18)) + "</text>\n";
        continue;
      }
      const double half = static_cast<double>(show::width(t.text)) * kCharacter / 2;
      if (at_x(t) - half < last_end + 4) continue;  // numbers never run into each other
      last_end = at_x(t) + half;
      out_ += "<text x=\"" + px(at_x(t)) + "\" y=\"" + px(bottom + 17) + "\" text-anchor=\"middle\">" + escape(t.text) +
              "</text>\n";
    }
    for (const Tick& t : y_.ticks)
      out_ += "<text x=\"" + px(box_.x - 7) + "\" y=\"" + px(at_y(t) + 4) + "\" text-anchor=\"end\">" + escape(t.text) +
              "</text>\n";
    const double middle_x = box_.x + box_.width / 2, middle_y = box_.y + box_.height / 2;
    if (!plot_.title.empty())
      out_ += "<text x=\"" + px(middle_x) + "\" y=\"23\" text-anchor=\"middle\" font-size=\"15\" font-weight=\"600\">" +
              escape(plot_.title) + "</text>\n";
    if (!plot_.x.label.empty())
      out_ += "<text x=\"" + px(middle_x) + "\" y=\"" + px(x_title_) + "\" text-anchor=\"middle\" font-size=\"12\">" +
              escape(plot_.x.label) + "</text>\n";
    if (!plot_.y.label.empty())
      out_ += "<text transform=\"translate(15 " + px(middle_y) + ") rotate(-90)\" text-anchor=\"middle\" " +
              "font-size=\"12\">" + escape(plot_.y.label) + "</text>\n";
    bool empty = true;
    for (const Series& s : plot_.series) empty &= s.x.empty();
    if (empty)
      out_ += "<text x=\"" + px(middle_x) + "\" y=\"" + px(middle_y) +
              "\" text-anchor=\"middle\" fill=\"#999\">no data</text>\n";
  }

  void draw_frame() {
    const double bottom = box_.y + box_.height;
    std::string path = "M" + px(box_.x) + " " + px(box_.y) + "V" + px(bottom) + "h" + px(box_.width);
    if (plot_.names.empty())
      for (const Tick& t : x_.ticks) path += "M" + px(at_x(t)) + " " + px(bottom) + "v4";
    for (const Tick& t : y_.ticks) path += "M" + px(box_.x) + " " + px(at_y(t)) + "h-4";
    // Where bars go both ways, zero is a line of its own.
    if (!y_.log && y_.low < 0 && y_.high > 0 && !bars_.empty())
      path += "M" + px(box_.x) + " " + px(box_.y + (1 - y_.place(0)) * box_.height) + "h" + px(box_.width);
    out_ += "<path d=\"" + path + "\" stroke=\"#555\" fill=\"none\"/>\n";
  }

  void draw_line(const Series& s, const std::string& color) {
    const std::vector<Point> points = thinned(points_of(s, x_, y_, box_), box_.width);
    const double width = s.thick > 0 ? s.thick : 1.8;
    out_ += stroke(line_path(points), color, width, s.dashed ? " stroke-dasharray=\"6 4\"" : "");
    if (s.markers) out_ += stroke(dots_path(points, box_), color, width + 4);
  }

  // A bar from `base` to the value, at least a hair high, so that none is lost; empty for what cannot be shown.
  std::string bar_path(double left, double right, double value, double least) {
    const double part = y_.place(value);
    if (std::isnan(part) || std::isnan(left) || std::isnan(right)) return {};
    const double base = y_.log ? 0 : std::clamp(y_.place(0), -20.0, 21.0);
    const double from = (1 - base) * box_.height;
    double to = (1 - std::clamp(part, -20.0, 21.0)) * box_.height;
    if (value != 0 && std::abs(from - to) < least) to = value > 0 || y_.log ? from - least : from + least;
    return "M" + px(left) + " " + px(from) + "V" + px(to) + "H" + px(right) + "V" + px(from) + "z";
  }

  void fill(const std::string& path, const std::string& color, const std::string& more) {
    if (!path.empty()) out_ += "<path d=\"" + path + "\" fill=\"" + color + "\"" + more + "/>\n";
  }

  void draw_bars(const Series& s, const std::string& color, std::size_t which) {
    const double slot = bar_slot(bars_), count = static_cast<double>(bars_.size());
    std::string path;
    std::vector<std::pair<double, double>> columns;  // least and most value of each pixel column, when bars are thinner
    const double pixels = (x_.place(x_.low + slot) - x_.place(x_.low)) * box_.width;
    const bool thin = !x_.log && s.x.size() > 2 * static_cast<std::size_t>(box_.width) && pixels < 1;
    if (thin) columns.resize(static_cast<std::size_t>(box_.width) + 1, {0, 0});
    for (std::size_t i = 0; i < s.x.size(); ++i) {
      const double start = s.x[i] - slot * 0.4 + slot * 0.8 * static_cast<double>(which) / count;
      const double left = near(x_.place(start), box_.width),
                   right = near(x_.place(start + slot * 0.8 / count), box_.width);
      if (thin) {
        if (std::isnan(left) || left < 0 || left >= box_.width || !std::isfinite(s.y[i])) continue;
        auto& [least, most] = columns[static_cast<std::size_t>(left)];
        least = std::min(least, s.y[i]);
        most = std::max(most, s.y[i]);
      } else {
        path += bar_path(left, right, s.y[i], 0.5);
      }
    }
    for (std::size_t c = 0; c < columns.size(); ++c)
      for (const double value : {columns[c].first, columns[c].second})
        if (value != 0) path += bar_path(static_cast<double>(c), static_cast<double>(c) + 1, value, 0.5);
    fill(path, color, "");
  }

  void draw_histogram(const Series& s, const std::string& color) {
    std::string path;
    for (std::size_t i = 0; i < s.x.size(); ++i)
      if (s.y[i] > 0)
        path += bar_path(near(x_.place(s.x[i]), box_.width), near(x_.place(s.x[i] + s.bin), box_.width), s.y[i], 1);
    const std::string opacity = histograms_ > 1 ? " fill-opacity=\".55\"" : "";
    // White lines between the bins, while they are wide enough.
    const double pixels = box_.width / static_cast<double>(std::max<std::size_t>(1, s.x.size()));
    fill(path, color, opacity + (pixels > 4 ? " stroke=\"#fff\" stroke-width=\".7\"" : ""));
  }

  void draw_legend() {
    const double x = box_.x + box_.width + 12;
    double y = box_.y + 8;
    for (std::size_t i = 0; i < plot_.series.size(); ++i) {
      const Series& s = plot_.series[i];
      if (s.label.empty()) continue;
      if (y > plot_.height - 12) {
        out_ += "<text x=\"" + px(x) + "\" y=\"" + px(y) + "\">…</text>\n";
        break;
      }
      const std::string color = color_of(i);
      if (s.kind == Series::Kind::line)
        out_ += stroke("M" + px(x) + " " + px(y) + "h16", color, std::min(s.thick > 0 ? s.thick : 2, 6.0),
                       s.dashed ? " stroke-dasharray=\"5 3\"" : "");
      else if (s.kind == Series::Kind::scatter)
        out_ += stroke("M" + px(x + 8) + " " + px(y) + "h0", color, 7);
      else
        out_ += "<rect x=\"" + px(x + 2) + "\" y=\"" + px(y - 5) + "\" width=\"12\" height=\"10\" fill=\"" + color +
                "\"/>\n";
      out_ += "<text x=\"" + px(x + 22) + "\" y=\"" + px(y + 4) + "\">" + escape(shorten(one_line(s.label), 24)) +
              "</text>\n";
      y += 18;
    }
  }

  const plot::State& plot_;
  std::vector<const Series*> bars_;
  int histograms_ = 0;
  bool labelled_ = false, legend_ = false, slanted_ = false;
  Box box_{};
  double x_title_ = 0;
  Axis x_, y_;
  std::string out_;
};

}  // namespace

std::string plot_svg(const plot::State& plot) { return Drawing(plot)(); }

}  // namespace caller::kernel::show
