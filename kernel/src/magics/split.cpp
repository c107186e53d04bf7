#include "magics/split.hpp"

#include <cctype>
#include <string_view>

namespace caller::kernel {
namespace {

std::string_view trim(std::string_view s) {
  while (!s.empty() && std::isspace(static_cast<unsigned char>(s.front()))) s.remove_prefix(1);
  while (!s.empty() && std::isspace(static_cast<unsigned char>(s.back()))) s.remove_suffix(1);
  return s;
}

bool is_word(std::string_view s) {
  for (const char c : s)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_') return false;
  return !s.empty();
}

// `name?` and `name??`; with a C++ name only where nothing follows, else it may be the begin of `a ? b : c`.
bool read_question(std::string_view line, bool last, MagicLine& out) {
  if (line.size() < 2 || !line.ends_with('?')) return false;
  const bool twice = line.ends_with("??");
  std::string_view name = line;
  name.remove_suffix(twice ? 2 : 1);
  std::string_view word = name;
  while (word.starts_with('%')) word.remove_prefix(1);
  if (name == word) {
    if (!last) return false;
    for (const char c : name)
      if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_' && c != ':' && c != '.' &&
          static_cast<unsigned char>(c) < 0x80)
        return false;
    if (name.empty()) return false;
  } else if (!is_word(word) || name.size() - word.size() > 2) {
    return false;
  }
  out.name.assign(twice ? 2 : 1, '?');
  out.arguments = name;
  return true;
}

bool read_magic(std::string_view line, MagicLine& out) {
  if (line.starts_with('!')) {
    out.name = std::string(1, line[0]);
    out.arguments = trim(line.substr(1));
    return !out.arguments.empty() && line[1] != '=';
  }
  if (line.starts_with('?')) {
    out.name = std::string(line.starts_with("??") ? 2 : 1, line[0]);
    out.arguments = trim(line.substr(out.name.size()));
    return true;
  }
  if (!line.starts_with('%')) return false;
  out.whole_cell = line.starts_with("%%");
  line.remove_prefix(out.whole_cell ? 2 : 1);
  if (line.starts_with(':')) return false;  // a digraph: %: is #
  std::size_t end = 0;
  while (end < line.size() && !std::isspace(static_cast<unsigned char>(line[end]))) ++end;
  out.name = line.substr(0, end);
  out.arguments = trim(line.substr(end));
  return is_word(out.name);
}

}  // namespace

SplitCell split_magics(const std::string& cell) {
  SplitCell out;
  std::size_t pos = 0;
  int number = 0;
  while (pos < cell.size()) {
    const std::size_t end = std::min(cell.find('\n', pos), cell.size());
    const std::string_view raw(cell.data() + pos, end - pos);
    const std::string_view line = trim(raw);
    ++number;
    MagicLine magic;
    magic.line = number;
    if (line.empty() || line.starts_with("//")) {
      out.code += raw;
    } else if (read_question(line, trim(std::string_view(cell).substr(end)).empty(), magic) ||
               read_magic(line, magic)) {
      if (magic.whole_cell) {
        if (!out.magics.empty()) break;
        if (end < cell.size()) magic.body = cell.substr(end + 1);
        out.magics.push_back(std::move(magic));
        out.code.clear();
        return out;
      }
      out.magics.push_back(std::move(magic));
    } else {
      break;
    }
    if (end < cell.size()) out.code += '\n';
    pos = end + 1;
  }
  if (pos < cell.size()) out.code += cell.substr(pos);
  return out;
}

}  // namespace caller::kernel
