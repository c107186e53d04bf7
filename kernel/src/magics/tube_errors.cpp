#include "magics/tube_errors.hpp"

#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include <caller/tube/cluster.hpp>

#include "session/kernel.hpp"

namespace caller::kernel::magics {
namespace {

/// What a chain of exceptions has of other processes.
struct Remote {
  bool any = false;
  bool no_codec = false;
  std::vector<std::string> lines;
  std::string type;       ///< of the first RemoteError
  bool is_fault = false;  ///< that is one that the process survived
};

void look(const std::exception_ptr& error, Remote& out, int depth) {
  if (depth > 32) return;
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    if (std::string_view(e.what()).find("has no codec (add_codec)") != std::string_view::npos)
      out.any = out.no_codec = true;
    if (const auto* trace = dynamic_cast<const tube::RemoteTrace*>(&e)) {
      out.any = true;
      out.lines = trace->lines();
    }
    if (const auto* remote = dynamic_cast<const tube::RemoteError*>(&e); remote && out.type.empty()) {
      out.any = true;
      out.type = remote->type();
      out.is_fault = remote->type().find("::") == std::string::npos;
    }
    const auto* nested = dynamic_cast<const std::nested_exception*>(&e);
    if (nested && nested->nested_ptr()) look(nested->nested_ptr(), out, depth + 1);
  } catch (...) {
  }
}

/// Names without the namespaces of cells.
std::string without_cells(const std::string& text) {
  static const std::regex space("__cell_[0-9]+::");
  return std::regex_replace(text, space, "");
}

}  // namespace

std::optional<CellError> describe_remote(MagicContext& c, const std::exception_ptr& error) {
  Remote remote;
  look(error, remote, 0);
  if (!remote.any) return std::nullopt;
  CellError out;
  try {
    std::rethrow_exception(error);
  } catch (...) {
    out = c.kernel.describe_current(c.work->number);
  }
  const std::string trace = "caller::tube::RemoteTrace", type = "caller::tube::RemoteError";
  std::erase_if(out.traceback, [&](const std::string& line) { return line.find(trace) != std::string::npos; });
  for (std::string& line : out.traceback)
    if (const std::size_t at = line.find(type); at != std::string::npos) line.replace(at, type.size(), remote.type);
  std::vector<std::string> lines;
  for (const std::string& line : remote.lines) lines.push_back("  " + line);
  if (!out.traceback.empty()) out.traceback.insert(out.traceback.begin() + 1, lines.begin(), lines.end());
  if (out.ename == type) out.ename = remote.type;
  if (remote.is_fault && !remote.lines.empty()) out.evalue += " (" + remote.lines.back() + ")";
  if (remote.no_codec) {
    const std::string hint =
        "a class of a cell crosses if all its members are public and it has no constructors, or by functions beside "
        "it: caller::tube::Value tube_encode(const T&), void tube_decode(const caller::tube::Value&, T&)";
    out.evalue += "; " + hint;
    out.traceback.push_back(hint);
  }
  out.ename = without_cells(out.ename);
  out.evalue = without_cells(out.evalue);
  for (std::string& line : out.traceback) line = without_cells(line);
  return out;
}

}  // namespace caller::kernel::magics
