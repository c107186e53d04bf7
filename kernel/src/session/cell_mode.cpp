#include "session/cell_mode.hpp"

#include <cmath>
#include <cstdlib>
#include <sstream>
#include <string_view>

namespace caller::kernel {
namespace {

// Takes `queue`, `task` or `thread name=X backend=B`; false, with nothing changed, when it is anything else.
bool read_mode(std::string_view text, CellRequest& cell) {
  std::istringstream words{std::string(text)};
  std::string word, name, backend;
  if (!(words >> word)) return false;
  RunMode mode;
  if (word == "queue")
    mode = RunMode::queue;
  else if (word == "task")
    mode = RunMode::task;
  else if (word == "thread")
    mode = RunMode::thread;
  else
    return false;
  while (words >> word) {
    if (mode != RunMode::thread) return false;
    if (word.starts_with("name=") && word.size() > 5)
      name = word.substr(5);
    else if (word.starts_with("backend=") && word.size() > 8)
      backend = word.substr(8);
    else
      return false;
  }
  cell.mode = mode;
  cell.thread_name = name;
  cell.backend = backend;
  return true;
}

bool read_first_line(CellRequest& cell) {
  const std::size_t end = std::min(cell.code.find('\n'), cell.code.size());
  std::string_view line(cell.code.data(), end);
  while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
  std::size_t skip = 0;
  if (line.starts_with("//"))
    skip = 2;
  else if (line.starts_with("%") && !line.starts_with("%%"))
    skip = 1;
  if (skip == 0 || !read_mode(line.substr(skip), cell)) return false;
  cell.code.replace(0, end, "");
  return true;
}

bool is_true(std::string_view text) { return text == "true" || text == "True" || text == "1"; }

}  // namespace

CellRequest read_cell(const json& content, const json& metadata) {
  CellRequest cell;
  cell.code = field<std::string>(content, "code", "");
  cell.silent = field<bool>(content, "silent", false);
  cell.store_history = !cell.silent && field<bool>(content, "store_history", true);
  cell.stop_on_error = field<bool>(content, "stop_on_error", true);

  bool decided = false;
  for (const json& item : field<json>(metadata, "tags", json::array())) {
    if (!item.is_string()) continue;
    const auto tag = item.get<std::string>();
    if (tag == "raises-exception") {
      cell.raises_exception = true;
    } else if (tag.starts_with("stop-on-error=")) {
      cell.stop_on_error = is_true(std::string_view(tag).substr(14));
    } else if (tag.starts_with("timeout=")) {
      char* end = nullptr;
      const double seconds = std::strtod(tag.c_str() + 8, &end);
      if (end != tag.c_str() + 8 && *end == '\0' && std::isfinite(seconds) && seconds > 0 && seconds < 1e9)
        cell.timeout = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(seconds));
    } else if (!decided) {
      decided = read_mode(tag, cell);
    }
  }
  if (!decided && cell.silent) {
    decided = true;
    cell.mode = RunMode::task;
  }
  CellRequest from_line = cell;
  if (read_first_line(from_line)) {  // the line goes away in any case, it only loses its say
    if (!decided) return from_line;
    cell.code = from_line.code;
  }
  return cell;
}

}  // namespace caller::kernel
