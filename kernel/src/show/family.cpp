#include <caller/kernel/family.hpp>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string_view>
#include <utility>

#include "show/text.hpp"

namespace caller::kernel {
namespace {

constexpr std::size_t kSiblings = 12;  // of one name that are shown

struct Line {
  const FamilyMember* member = nullptr;  // null: `text` counts what is not shown
  std::size_t depth = 0;
  std::string text;
};

std::string counted(const std::map<std::string, std::size_t>& by_status) {
  std::string out;
  for (const auto& [status, n] : by_status) out += (out.empty() ? "" : ", ") + std::to_string(n) + " " + status;
  return out;
}

// What is shown: of siblings of one name the first ones, with all below them.
std::vector<Line> lines_of(const std::vector<FamilyMember>& all, std::size_t most) {
  struct Group {
    std::size_t shown = 0;
    std::map<std::string, std::size_t> hidden;
    std::size_t count = 0;
  };
  std::vector<Line> out;
  std::vector<std::map<std::string, Group>> open;  // by depth: the children of the member that is being gone through
  const auto close = [&](std::size_t depth) {
    while (open.size() > depth) {
      for (auto& [label, group] : open.back())
        if (group.count)
          out.push_back({nullptr, open.size() - 1,
                         "… " + std::to_string(group.count) + " more " + label + ": " + counted(group.hidden)});
      open.pop_back();
    }
  };
  std::size_t hidden_from = static_cast<std::size_t>(-1);  // members deeper than this one belong to a hidden one
  for (const FamilyMember& m : all) {
    if (m.depth > hidden_from) continue;
    hidden_from = static_cast<std::size_t>(-1);
    close(m.depth + 1);
    while (open.size() < m.depth + 1) open.emplace_back();
    Group& group = open[m.depth][m.label];
    if (group.shown == kSiblings || out.size() >= most) {
      ++group.count;
      ++group.hidden[m.status];
      hidden_from = m.depth;
      continue;
    }
    ++group.shown;
    out.push_back({&m, m.depth, {}});
  }
  close(0);
  return out;
}

std::string number(double x) {
  char out[32];
  std::snprintf(out, sizeof out, "%.1f", x);
  return out;
}

std::string duration(double s) {
  char out[32];
  if (s < 0.9995)
    std::snprintf(out, sizeof out, "%.0f ms", s * 1e3);
  else
    std::snprintf(out, sizeof out, "%.2f s", s);
  return out;
}

std::string words(const FamilyMember& m, double now) {
  std::string out = m.status;
  if (m.retries) out += m.retries == 1 ? ", 1 retry" : ", " + std::to_string(m.retries) + " retries";
  if (m.began >= 0) out += ", " + duration((m.ended >= 0 ? m.ended : now) - m.began);
  return out;
}

}  // namespace

const char* status_colour(const std::string& status) noexcept {
  static const std::pair<std::string_view, const char*> colours[] = {
      {"SUCCESS", "#2ca02c"},   {"FAILED", "#d62728"},
      {"CANCELLED", "#8c564b"}, {"CONCURRENCY_CONTROLLED_FINAL", "#8c564b"},
      {"KILLED", "#d62728"},    {"RUNNING", "#1f77b4"},
      {"RESUMED", "#1f77b4"},   {"PAUSED", "#9467bd"},
      {"PENDING", "#17becf"},   {"RETRY", "#ff7f0e"},
      {"REROUTED", "#ff7f0e"},  {"CONCURRENCY_CONTROLLED", "#ff7f0e"}};
  for (const auto& [name, colour] : colours)
    if (name == status) return colour;
  return "#7f7f7f";
}

std::string family_text(const std::vector<FamilyMember>& members, double now, std::size_t most) {
  std::string out;
  for (const Line& line : lines_of(members, most))
    out += std::string(2 * line.depth, ' ') +
           (line.member ? line.member->label + ": " + words(*line.member, now) : line.text) + "\n";
  if (!out.empty()) out.pop_back();
  return out;
}

std::string family_svg(const std::vector<FamilyMember>& members, double now, std::size_t most) {
  const std::vector<Line> lines = lines_of(members, most);
  constexpr double kRow = 20, kIndent = 18, kBars = 300, kLetter = 7.3, kGap = 14;
  double names = 0, first = now, last = 0;
  for (const Line& line : lines) {
    std::size_t letters = 0;
    for (const char c : line.member ? line.member->label : line.text)
      letters += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    names = std::max(
        names, kIndent * static_cast<double>(line.depth) + kLetter * static_cast<double>(line.member ? letters : 0));
  }
  for (const FamilyMember& m : members) {
    first = std::min(first, m.called);
    last = std::max(last, m.ended >= 0 ? m.ended : now);
  }
  const double span = std::max(last - first, 1e-6);
  const double bars = 24 + names + kGap;
  const double width = bars + kBars + 230, height = kRow * static_cast<double>(lines.size()) + 10;
  const auto x_of = [&](double t) { return bars + kBars * (std::clamp(t, first, last) - first) / span; };
  std::string out = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + number(width) + "\" height=\"" +
                    number(height) + "\" viewBox=\"0 0 " + number(width) + " " + number(height) +
                    "\" style=\"max-width:100%;height:auto\" font-family=\"monospace\" font-size=\"12\">\n";
  std::vector<std::pair<double, double>> parents;  // by depth: where the last member's dot is
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const Line& line = lines[i];
    const double x = 12 + kIndent * static_cast<double>(line.depth), y = kRow * static_cast<double>(i) + 15;
    if (line.depth > 0 && parents.size() >= line.depth) {
      const auto [px, py] = parents[line.depth - 1];
      out += "<path d=\"M" + number(px) + " " + number(py + 5) + " V" + number(y) + " H" + number(x - 5) +
             "\" fill=\"none\" stroke=\"#bbb\"/>\n";
    }
    parents.resize(line.depth);
    parents.emplace_back(x, y);
    if (!line.member) {
      out += "<text x=\"" + number(x + 10) + "\" y=\"" + number(y + 4) + "\" fill=\"#888\">" + show::escape(line.text) +
             "</text>\n";
      continue;
    }
    const FamilyMember& m = *line.member;
    const std::string colour = status_colour(m.status);
    out += "<circle cx=\"" + number(x) + "\" cy=\"" + number(y) + "\" r=\"4.5\" fill=\"" + colour + "\"/>\n";
    out += "<text x=\"" + number(x + 10) + "\" y=\"" + number(y + 4) + "\" fill=\"currentColor\">" +
           show::escape(m.label) + "</text>\n";
    const double from = x_of(m.called), begin = m.began >= 0 ? x_of(m.began) : x_of(m.ended >= 0 ? m.ended : now),
                 to = x_of(m.ended >= 0 ? m.ended : now);
    out += "<rect x=\"" + number(from) + "\" y=\"" + number(y - 3) + "\" width=\"" +
           number(std::max(begin - from, 0.5)) + "\" height=\"6\" fill=\"" + colour + "\" opacity=\"0.25\"/>\n";
    if (m.began >= 0)
      out += "<rect x=\"" + number(begin) + "\" y=\"" + number(y - 6) + "\" width=\"" +
             number(std::max(to - begin, 1.5)) + "\" height=\"12\" rx=\"2\" fill=\"" + colour + "\"/>\n";
    out += "<text x=\"" + number(bars + kBars + 10) + "\" y=\"" + number(y + 4) + "\" fill=\"#666\">" +
           show::escape(words(m, now)) + "</text>\n";
  }
  return out + "</svg>";
}

}  // namespace caller::kernel
