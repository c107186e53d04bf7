// What the compile thread answers: completion, inspection, completeness. Cursors come and go in code points.
#include <algorithm>
#include <map>
#include <string>

#include "magics/magics.hpp"
#include "magics/split.hpp"
#include "protocol/utf8.hpp"
#include "session/kernel.hpp"

namespace caller::kernel {
namespace {

// The cell with its magic lines blanked out, byte for byte, so that offsets stay.
std::string cxx_only(const std::string& cell) {
  const SplitCell split = split_magics(cell);
  std::string out = cell;
  for (const MagicLine& magic : split.magics) {
    std::size_t pos = 0;
    for (int line = 1; line < magic.line; ++line) pos = out.find('\n', pos) + 1;
    const std::size_t end = magic.whole_cell ? out.size() : std::min(out.find('\n', pos), out.size());
    for (; pos < end; ++pos)
      if (out[pos] != '\n') out[pos] = ' ';
  }
  return out;
}

const char* to_text(Completeness::Status status) {
  switch (status) {
    case Completeness::Status::complete:
      return "complete";
    case Completeness::Status::incomplete:
      return "incomplete";
    case Completeness::Status::invalid:
      return "invalid";
    case Completeness::Status::unknown:
      break;
  }
  return "unknown";
}

// The part of the line before the cursor when that is the name of a magic being typed.
std::optional<std::string> magic_prefix(const std::string& code, std::size_t cursor) {
  const std::size_t start = cursor == 0 ? 0 : code.rfind('\n', cursor - 1) + 1;
  const std::string line = code.substr(start, cursor - start);
  if (line.empty() || line[0] != '%' || line.find_first_of(" \t") != std::string::npos) return std::nullopt;
  return line;
}

// The help of the magic whose line the cursor is on; empty where it is on none.
std::string help_at(const std::string& code, std::size_t cursor) {
  const auto line = 1 + std::count(code.begin(), code.begin() + static_cast<std::ptrdiff_t>(cursor), '\n');
  for (const MagicLine& magic : split_magics(code).magics) {
    if (magic.line != line) continue;
    if (magic.name == "?" || magic.name == "??")
      return magic.arguments.starts_with('%') ? magic_help(magic.arguments) : "";
    return magic_help((magic.whole_cell ? "%%" : "") + magic.name);
  }
  return {};
}

std::size_t cursor_of(const json& content, const std::string& code) {
  const int points = field<int>(content, "cursor_pos", -1);
  return points < 0 ? code.size() : byte_offset(code, static_cast<std::size_t>(points));
}

}  // namespace

void Kernel::on_complete(RequestScope& scope) {
  const auto code = field<std::string>(scope.content(), "code", "");
  const std::size_t cursor = cursor_of(scope.content(), code);
  Completions found;
  if (const auto typed = magic_prefix(code, cursor)) {
    found.start = cursor - typed->size();
    found.end = cursor;
    for (const std::string& name : magic_names())
      if (name.starts_with(*typed)) found.items.push_back({name, "magic", "", magic_help(name)});
  } else {
    found = require_interpreter().complete(cxx_only(code), cursor);
  }
  const std::size_t start = code_points(code, found.start), end = code_points(code, found.end);
  json matches = json::array(), types = json::array();
  for (const auto& item : found.items) {
    matches.push_back(item.text);
    types.push_back(
        {{"start", start}, {"end", end}, {"text", item.text}, {"type", item.type}, {"signature", item.signature}});
    if (!item.brief.empty()) types.back()["documentation"] = item.brief;
  }
  scope.reply({{"status", "ok"},
               {"matches", std::move(matches)},
               {"cursor_start", start},
               {"cursor_end", end},
               {"metadata", {{"_jupyter_types_experimental", std::move(types)}}}});
}

void Kernel::on_inspect(RequestScope& scope) {
  const auto code = field<std::string>(scope.content(), "code", "");
  const std::size_t cursor = cursor_of(scope.content(), code);
  std::map<std::string, std::string> found;
  if (const std::string help = help_at(code, cursor); !help.empty())
    found["text/plain"] = help;
  else
    found = require_interpreter().inspect(cxx_only(code), cursor, field<int>(scope.content(), "detail_level", 0));
  scope.reply({{"status", "ok"},
               {"found", !found.empty()},
               {"data", found.empty() ? json::object() : json(found)},
               {"metadata", json::object()}});
}

void Kernel::on_is_complete(RequestScope& scope) {
  const auto code = field<std::string>(scope.content(), "code", "");
  const SplitCell split = split_magics(code);
  if (!split.magics.empty() && split.code.find_first_not_of(" \t\r\n") == std::string::npos)
    return scope.reply({{"status", "complete"}, {"indent", ""}});
  const Completeness result = require_interpreter().is_complete(split.code);
  scope.reply({{"status", to_text(result.status)}, {"indent", result.indent}});
}

}  // namespace caller::kernel
