// Magics about what was typed: showing it, saving it.
#include <algorithm>
#include <charconv>
#include <climits>
#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>

#include "magics/functions.hpp"
#include "session/kernel.hpp"
#include "session/shell.hpp"

namespace caller::kernel::magics {
namespace {

// Lines [start, stop) of a session; a number of at most 0 counts back from this one.
struct Range {
  int session = 0;
  int start = 1;
  int stop = -1;  // -1: to the end
};

// Takes a number off the front; none where there is no digit.
std::optional<int> number(std::string_view& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || text.front() == '-') return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

// Takes `12/` or `~1/` off the front.
std::optional<int> session(std::string_view& text) {
  std::string_view rest = text;
  const bool back = rest.starts_with('~');
  if (back) rest.remove_prefix(1);
  const auto value = number(rest);
  if (!value || !rest.starts_with('/')) return std::nullopt;
  text = rest.substr(1);
  return back ? -*value : *value;
}

int after(int line) { return line == INT_MAX ? line : line + 1; }

// `4`, `2-5` (5 included), `2:5` (not included), `~1/7`, `243/1-5`, `~8/`, `~8/1-~6/5`. Of the sessions between two,
// those up to `newest`, and as many before this one.
std::vector<Range> read_range(const std::string& word, int newest) {
  const auto wrong = [&] { usage(word + " is no range; examples: 4  2-5  ~1/7  243/1-5  ~8/1-~6/5"); };
  std::string_view text = word;
  Range range;
  const auto first_session = session(text);
  const auto start = number(text);
  if (!start) {
    if (!first_session || !text.empty()) wrong();
    range.session = *first_session;
    return {range};
  }
  range.session = first_session.value_or(0);
  range.start = *start;
  range.stop = after(*start);
  if (text.empty()) return {range};
  const char separator = text.front();
  if (separator != '-' && separator != ':') wrong();
  text.remove_prefix(1);
  const int last_session = session(text).value_or(range.session);
  const auto end = number(text);
  if (!end || !text.empty() || last_session < range.session) wrong();
  const int stop = separator == '-' ? after(*end) : *end;
  if (last_session == range.session) {
    range.stop = stop;
    return {range};
  }
  range.stop = -1;
  std::vector<Range> out{range};
  const int between = std::min(last_session - 1, newest);
  for (int s = std::max(range.session, -newest - 1) + 1; s <= between; ++s) out.push_back({s, 1, -1});
  out.push_back({last_session, 1, stop});
  return out;
}

// The entries of the words, in their order; of the whole session without any. The running cell is none of them.
std::vector<HistoryEntry> entries_of(MagicContext& c, const std::vector<std::string>& words) {
  Session& session = c.kernel.session();
  const int newest = session.history()->newest_session();
  std::vector<Range> ranges;
  for (const auto& word : words)
    for (const Range& r : read_range(word, newest)) ranges.push_back(r);
  if (words.empty()) ranges.push_back({});
  std::vector<HistoryEntry> out;
  for (const Range& r : ranges) {
    const int wanted = r.session == 0 ? c.shell.history_session() : r.session;
    for (HistoryEntry& e : session.history()->range(wanted, r.start, r.stop))
      if (e.session != c.work->history_session || e.line != c.work->number) out.push_back(std::move(e));
  }
  return out;
}

int to_int(const std::string& text, const std::string& what) {
  std::string_view rest = text;
  const auto value = number(rest);
  if (!value || !rest.empty()) usage(what + " needs a number, found " + text);
  return *value;
}

}  // namespace

Coro<void> history(MagicContext& c, const MagicLine& line) {
  // The pattern is the rest of the line, blanks and all.
  MagicLine before = line;
  std::optional<std::string> pattern;
  const std::string padded = " " + line.arguments + " ";
  if (const auto at = padded.find(" -g "); at != std::string::npos) {
    before.arguments = padded.substr(0, at);
    std::string rest = padded.substr(at + 4);
    rest.erase(rest.find_last_not_of(' ') + 1);
    rest.erase(0, rest.find_first_not_of(' '));
    pattern = rest;
  }
  const Arguments arguments = read_arguments(before, "noul:f:");
  std::vector<HistoryEntry> entries;
  const int limit = arguments.has('l') ? to_int(arguments.options.at('l'), "%history -l") : 0;
  Session& session = c.kernel.session();
  if (pattern) {
    if (pattern->find_first_of("*?[") == std::string::npos) pattern = "*" + *pattern + "*";
    entries = session.history()->search(*pattern, limit, arguments.has('u'));
    std::erase_if(entries, [&](const HistoryEntry& e) {
      return e.session == c.work->history_session && e.line == c.work->number;
    });
  } else if (arguments.has('l')) {
    if (!arguments.words.empty()) usage("%history takes ranges or -l, not both");
    entries = session.history()->tail(limit == INT_MAX ? limit : limit + 1);
    std::erase_if(entries, [&](const HistoryEntry& e) {
      return e.session == c.work->history_session && e.line == c.work->number;
    });
    while (entries.size() > static_cast<std::size_t>(limit)) entries.erase(entries.begin());
  } else {
    entries = entries_of(c, arguments.words);
  }
  std::string text;
  for (const HistoryEntry& e : entries) {
    if (arguments.has('n') || pattern) {
      std::string place = std::to_string(e.line);
      if (e.session != c.shell.history_session()) place = std::to_string(e.session) + "/" + place;
      text += (place.size() < 4 ? std::string(4 - place.size(), ' ') : "") + place + ": ";
      if (e.input.find('\n') != std::string::npos) text += "\n";
    }
    text += e.input;
    if (!text.ends_with('\n')) text += '\n';
    if (arguments.has('o') && !e.output.empty()) text += e.output + (e.output.ends_with('\n') ? "" : "\n");
  }
  if (!arguments.has('f')) {
    print(c, text);
    co_return;
  }
  const std::string path = expand_home(arguments.options.at('f'));
  if (std::filesystem::exists(path) && !confirm(c, "File " + path + " exists. Overwrite (y/[n])? ")) {
    print(c, "Nothing done.\n");
    co_return;
  }
  if (!(std::ofstream(path, std::ios::binary) << text << std::flush))
    usage("%history -f " + path + ": cannot be written");
}

Coro<void> save(MagicContext& c, const MagicLine& line) {
  const Arguments arguments = read_arguments(line, "fa");
  if (arguments.words.empty()) usage("%save needs the name of a file, then ranges of cells such as 2-5 7");
  std::string path = expand_home(arguments.words[0]);
  if (std::filesystem::path(path).extension().empty()) path += ".cpp";
  const auto entries = entries_of(c, {arguments.words.begin() + 1, arguments.words.end()});
  if (entries.empty()) usage("%save " + path + ": no cell is in these ranges");
  const bool append = arguments.has('a');
  if (!append && !arguments.has('f') && std::filesystem::exists(path) &&
      !confirm(c, "File " + path + " exists. Overwrite (y/[n])? ")) {
    print(c, "Nothing done.\n");
    co_return;
  }
  std::string text;
  for (const HistoryEntry& e : entries) text += e.input + (e.input.ends_with('\n') ? "" : "\n");
  std::ofstream out(path, append ? std::ios::binary | std::ios::app : std::ios::binary);
  if (!(out << text << std::flush)) usage("%save " + path + ": cannot be written");
  print(c, "The following cells were " + std::string(append ? "appended" : "written") + " to " + path + ":\n" + text);
}

}  // namespace caller::kernel::magics
