#include <caller/kernel/table.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "show/text.hpp"

namespace caller {
using kernel::show::escape;
using kernel::show::one_line;
using kernel::show::shorten;
using kernel::show::width;

void kernel::detail::put_table_number(std::string& out, double v) {
  char text[40];
  std::snprintf(text, sizeof text, "%.6g", v);
  out += text;
}

bool table_view::wants(std::size_t i, std::size_t total) const noexcept {
  const std::size_t most = options_.max_rows;
  if (most == 0 || total == 0 || total <= most) return true;
  return i < (most + 1) / 2 || i >= total - most / 2;
}

table_view::table_view(table_options options) : options_(std::move(options)) {}
// A copy is of a table that is finished: its row is not known.
table_view::table_view(const table_view& other)
    : options_(other.options_), names_(other.names_), head_(other.head_), tail_(other.tail_), rows_(other.rows_) {}
table_view::table_view(table_view&& other) noexcept
    : options_(std::move(other.options_)),
      names_(std::move(other.names_)),
      head_(std::move(other.head_)),
      tail_(std::move(other.tail_)),
      rows_(other.rows_) {}
table_view& table_view::operator=(table_view other) noexcept {
  options_ = std::move(other.options_);
  names_ = std::move(other.names_);
  head_ = std::move(other.head_);
  tail_ = std::move(other.tail_);
  row_ = nullptr;
  rows_ = other.rows_;
  return *this;
}
table_view::~table_view() = default;

void table_view::name(std::string_view text) { names_.emplace_back(text); }

void table_view::begin_row() {
  const std::size_t most = options_.max_rows, half = (most + 1) / 2;
  if (most == 0 || head_.size() < half) {
    row_ = &head_.emplace_back();
  } else if (tail_.size() < most - half) {
    row_ = &tail_.emplace_back();
  } else if (!tail_.empty()) {
    row_ = &*std::min_element(tail_.begin(), tail_.end(), [](auto& a, auto& b) { return a.number < b.number; });
    row_->cells.clear();
  } else {  // a table of one row: what follows is counted, and written over
    spare_.cells.clear();
    row_ = &spare_;
  }
  row_->number = rows_++;
}

table_view::cell& table_view::next() {
  if (!row_) begin_row();
  return row_->cells.emplace_back();
}

std::size_t table_view::size() const noexcept { return row_ ? row_->cells.size() : 0; }

// What is shown: the rows in order, the text of each cell, and what was left out.
struct table_view::Shape {
  std::vector<std::string> names;
  std::vector<bool> right;
  std::vector<const Row*> rows;
  std::size_t gap_at = 0;  // before this row the left out ones are missing; 0: none are
  std::size_t left_out = 0;
  bool more_columns = false;
  std::string summary;
};

table_view::Shape table_view::shape() const {
  Shape s;
  for (const Row& r : head_) s.rows.push_back(&r);
  for (const Row& r : tail_) s.rows.push_back(&r);
  std::sort(s.rows.begin(), s.rows.end(), [](auto* a, auto* b) { return a->number < b->number; });
  for (std::size_t i = 1; i < s.rows.size(); ++i)
    if (s.rows[i]->number != s.rows[i - 1]->number + 1) s.gap_at = i;
  s.left_out = rows_ - s.rows.size();

  s.names = names_;
  std::size_t columns = names_.size();
  for (const Row* r : s.rows) columns = std::max(columns, r->cells.size());
  for (std::size_t i = s.names.size(); i < columns; ++i) s.names.push_back(std::to_string(i));
  std::string count = std::to_string(columns);
  if (options_.max_columns && columns > options_.max_columns) {
    s.more_columns = true;
    if (names_.size() < columns) count = "more than " + std::to_string(options_.max_columns);
    s.names.resize(options_.max_columns);
  }
  for (std::size_t i = 0; i < s.names.size(); ++i) {
    // Numbers stand at the right when nothing but numbers and gaps stands in the column.
    bool any = false, all = true;
    for (const Row* r : s.rows) {
      if (i >= r->cells.size() || r->cells[i].text.empty()) continue;
      any |= r->cells[i].number;
      all &= r->cells[i].number;
    }
    s.right.push_back(any && all);
  }
  s.summary =
      std::to_string(rows_) + (rows_ == 1 ? " row × " : " rows × ") + count + (columns == 1 ? " column" : " columns");
  return s;
}

std::string table_view::text() const {
  const Shape s = shape();
  // Columns of text, the first one being the row's number.
  std::vector<std::vector<std::string>> lines;
  std::vector<std::size_t> widths;
  const auto add_line = [&](std::vector<std::string> line) {
    widths.resize(std::max(widths.size(), line.size()));
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], width(line[i]));
    lines.push_back(std::move(line));
  };
  const auto limited = [&](const std::string& text) {
    const std::string line = one_line(text);
    return options_.max_width ? shorten(line, options_.max_width) : line;
  };
  std::vector<std::string> header;
  if (options_.index) header.emplace_back();
  for (const auto& name : s.names) header.push_back(limited(name));
  if (s.more_columns) header.emplace_back("…");
  const std::size_t columns = header.size();
  add_line(std::move(header));
  for (std::size_t i = 0; i < s.rows.size(); ++i) {
    if (s.gap_at && i == s.gap_at) add_line(std::vector<std::string>(columns, "…"));
    std::vector<std::string> line;
    if (options_.index) line.push_back(std::to_string(s.rows[i]->number));
    for (std::size_t c = 0; c < s.names.size(); ++c)
      line.push_back(c < s.rows[i]->cells.size() ? limited(s.rows[i]->cells[c].text) : std::string());
    if (s.more_columns) line.emplace_back("…");
    add_line(std::move(line));
  }
  std::string out = options_.caption.empty() ? "" : one_line(options_.caption) + "\n";
  for (std::size_t l = 0; l < lines.size(); ++l) {
    std::string line;
    for (std::size_t c = 0; c < lines[l].size(); ++c) {
      const bool number = options_.index && c == 0;
      const std::size_t column = c - (options_.index ? 1 : 0);
      const bool right = number || (column < s.right.size() && s.right[column]);
      const std::string gap(widths[c] - width(lines[l][c]), ' ');
      if (c) line += "  ";
      line += right ? gap + lines[l][c] : lines[l][c] + gap;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
    if (l == 0) {
      std::string rule;
      for (std::size_t c = 0; c < widths.size(); ++c) {
        if (c) rule += "  ";
        for (std::size_t i = 0; i < widths[c]; ++i) rule += "─";
      }
      out += rule + "\n";
    }
  }
  return out + s.summary;
}

std::string table_view::html() const {
  const Shape s = shape();
  const auto align = [&](std::size_t c) {
    return s.right[c] ? " style=\"text-align:right\"" : " style=\"text-align:left\"";
  };
  const auto limited = [&](const std::string& text) {
    return escape(options_.max_width ? shorten(text, options_.max_width) : text);
  };
  std::string out = "<table class=\"dataframe\">\n";
  if (!options_.caption.empty()) out += "<caption>" + escape(options_.caption) + "</caption>\n";
  out += "<thead><tr>";
  if (options_.index) out += "<th></th>";
  for (std::size_t c = 0; c < s.names.size(); ++c)
    out += "<th" + std::string(align(c)) + ">" + limited(s.names[c]) + "</th>";
  if (s.more_columns) out += "<th>…</th>";
  out += "</tr></thead>\n<tbody>\n";
  for (std::size_t i = 0; i < s.rows.size(); ++i) {
    if (s.gap_at && i == s.gap_at) {
      const std::size_t columns = s.names.size() + (options_.index ? 1 : 0) + (s.more_columns ? 1 : 0);
      out += "<tr><td colspan=\"" + std::to_string(columns) + "\" style=\"text-align:center\">… " +
             std::to_string(s.left_out) + " more …</td></tr>\n";
    }
    out += "<tr>";
    if (options_.index) out += "<th>" + std::to_string(s.rows[i]->number) + "</th>";
    for (std::size_t c = 0; c < s.names.size(); ++c)
      out += "<td" + std::string(align(c)) + ">" +
             (c < s.rows[i]->cells.size() ? limited(s.rows[i]->cells[c].text) : "") + "</td>";
    if (s.more_columns) out += "<td>…</td>";
    out += "</tr>\n";
  }
  return out + "</tbody>\n</table>\n<p>" + escape(s.summary) + "</p>";
}

MimeBundle mime_bundle_repr(const table_view& x) { return {{"text/html", x.html()}, {"text/plain", x.text()}}; }

}  // namespace caller
