#include <algorithm>
#include <array>
#include <cmath>

#include "show/plot_model.hpp"
#include "show/text.hpp"

namespace caller::kernel::show {
namespace {

constexpr int kColumns = 64, kRows = 14;  // characters; each holds 2 × 4 dots

// Dots of the Braille characters.
class Canvas {
public:
  void dot(double x, double y) {  // parts of the canvas, from the bottom left
    if (std::isnan(x) || std::isnan(y) || x < 0 || x > 1 || y < 0 || y > 1) return;
    set(static_cast<int>(x * (kColumns * 2 - 1) + 0.5), static_cast<int>((1 - y) * (kRows * 4 - 1) + 0.5));
  }
  void line(double x0, double y0, double x1, double y1) {
    if (std::isnan(x0 + y0 + x1 + y1)) return dot(x1, y1);
    const double steps =
        std::min(1000.0, std::max(std::abs(x1 - x0) * kColumns * 2, std::abs(y1 - y0) * kRows * 4) + 1);
    for (double i = 0; i <= steps; ++i) dot(x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps);
  }
  std::string row(int r) const {
    std::string out;
    for (int c = 0; c < kColumns; ++c) {
      const unsigned char bits = cells_[static_cast<std::size_t>(r * kColumns + c)];
      if (bits == 0) {
        out += ' ';
        continue;
      }
      out += '\xe2';
      out += static_cast<char>(0xa0 | (bits >> 6u));
      out += static_cast<char>(0x80 | (bits & 0x3fu));
    }
    out.erase(out.find_last_not_of(' ') + 1);
    return out;
  }

private:
  void set(int x, int y) {
    static constexpr unsigned char bits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    cells_[static_cast<std::size_t>(y / 4 * kColumns + x / 2)] |= bits[y % 4][x % 2];
  }
  std::array<unsigned char, kColumns * kRows> cells_{};
};

void draw(Canvas& canvas, const Series& s, const Axis& x, const Axis& y) {
  double before_x = std::nan(""), before_y = std::nan("");
  const double base = y.log ? 0 : std::clamp(y.place(0), 0.0, 1.0);
  for (std::size_t i = 0; i < s.x.size(); ++i) {
    const double middle = s.kind == Series::Kind::histogram ? s.x[i] + s.bin / 2 : s.x[i];
    const double px = x.place(middle), py = y.place(s.y[i]);
    if (s.kind == Series::Kind::line && s.x.size() <= 5000)
      canvas.line(before_x, before_y, px, py);
    else if (s.kind == Series::Kind::scatter || s.kind == Series::Kind::line)  // of a long line the points alone
      canvas.dot(px, py);
    else if (s.y[i] != 0)
      canvas.line(px, base, px, std::clamp(py, 0.0, 1.0));
    before_x = px;
    before_y = py;
  }
}

std::string padded(const std::string& text, std::size_t columns) {
  return std::string(columns - std::min(columns, width(text)), ' ') + text;
}

}  // namespace

std::string plot_text(const plot::State& plot) {
  const auto [x, y] = make_axes(plot, 4, 4);
  Canvas canvas;
  for (const Series& s : plot.series) draw(canvas, s, x, y);

  // The numbers of the ticks, on the lines they belong to.
  std::array<std::string, kRows> numbers;
  std::size_t left = 0;
  for (const Tick& t : y.ticks) {
    const double part = y.place(t.at);
    numbers[static_cast<std::size_t>((1 - std::clamp(part, 0.0, 1.0)) * (kRows - 1) + 0.5)] = t.text;
    left = std::max(left, width(t.text));
  }
  std::string out = plot.title.empty() ? "" : one_line(plot.title) + "\n";
  if (!plot.y.label.empty()) out += one_line(plot.y.label) + "\n";
  for (int r = 0; r < kRows; ++r) {
    const std::string& number = numbers[static_cast<std::size_t>(r)];
    out += padded(number, left) + (number.empty() ? " │" : " ┤") + canvas.row(r) + "\n";
  }
  out += std::string(left + 1, ' ') + "└";
  for (int c = 0; c < kColumns; ++c) out += "─";
  out += "\n";
  std::string line(left + 2, ' ');
  for (const Tick& t : x.ticks) {
    const std::string text = shorten(one_line(t.text), 12);
    const double part = std::clamp(x.place(t.at), 0.0, 1.0);
    const auto middle = static_cast<std::size_t>(part * (kColumns - 1)) + left + 2;
    const std::size_t half = width(text) / 2, at = middle > half ? middle - half : 0;
    if (at < width(line) + (width(line) > left + 2 ? 1 : 0)) continue;
    line += std::string(at - width(line), ' ') + text;
  }
  out += line;
  if (!plot.x.label.empty()) out += "\n" + std::string(left + 2, ' ') + one_line(plot.x.label);
  static constexpr const char* kinds[] = {"line", "points", "bars", "histogram"};
  for (const Series& s : plot.series) {
    double count = 0;
    for (const double v : s.y) count += s.kind == Series::Kind::histogram ? v : 1;
    out += "\n" +
           (s.label.empty() ? std::string(kinds[static_cast<int>(s.kind)])
                            : one_line(s.label) + " (" + kinds[static_cast<int>(s.kind)] + ")") +
           ": " + std::to_string(static_cast<long long>(count)) + " values";
  }
  return out;
}

}  // namespace caller::kernel::show
