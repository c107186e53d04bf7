// `%%tube`: a cell that is a tube.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <vector>

#include <caller/caller.hpp>
#include <caller/kernel/display.hpp>
#include <caller/tube/json.hpp>
#include <caller/tube/registry.hpp>

#include "magics/command.hpp"
#include "magics/functions.hpp"
#include "magics/long_options.hpp"
#include "magics/tube_errors.hpp"
#include "magics/tube_nodes.hpp"
#include "magics/tube_progress.hpp"
#include "magics/tube_run.hpp"
#include "session/kernel.hpp"

namespace caller::kernel::magics {
namespace {

using tube::Result;
using tube::SpecError;
using tube::Tube;
using tube::TubeSpec;
using tube::Value;

constexpr std::chrono::minutes kCompileTimeout{2};  // of the cells that a process of nodes needs
constexpr std::size_t kLongText = 2000;             // of a result that is shown
constexpr std::size_t kLongJson = 100'000;          // of one that is given as a document, too

struct Options {
  std::string runner = "sync", name;
  std::optional<std::size_t> n;
  std::vector<std::pair<std::string, std::string>> inputs;
  std::vector<std::string> plugins;
  bool plot = false;
};

Options read_options(const MagicLine& line) {
  LongOptions given(line, "%%tube");
  Options out;
  while (given.next()) {
    const std::string& option = given.word();
    const auto value = [&](const char* what) {
      auto text = given.value();
      if (!text) usage("%%tube " + option + " needs " + what);
      return *std::move(text);
    };
    if (option == "--runner") {
      out.runner = value("the name of a runner");
      const auto& runners = tube_runners();
      if (std::find(runners.begin(), runners.end(), out.runner) == runners.end())
        usage("%%tube --runner: there is no runner \"" + out.runner + "\"; there are " + joined(runners));
    } else if (option == "-n") {
      const std::string text = value("a number of results");
      std::size_t used = 0;
      try {
        if (!text.empty() && text.find_first_not_of("0123456789") == std::string::npos)
          out.n = std::stoull(text, &used);
      } catch (const std::out_of_range&) {
      }
      if (!out.n) usage("%%tube -n needs a number of results, found \"" + text + "\"");
    } else if (option == "--input") {
      const std::string text = value("an input, as name=value");
      const std::size_t at = text.find('=');
      if (at == 0 || at == std::string::npos) usage("%%tube --input needs name=value, found \"" + text + "\"");
      out.inputs.emplace_back(text.substr(0, at), text.substr(at + 1));
    } else if (option == "--name") {
      out.name = value("an id");
    } else if (option == "--plugin") {
      out.plugins.push_back(expand_home(value("a shared object")));
    } else if (option == "--plot") {
      out.plot = true;
    } else if (option.starts_with("-")) {
      usage("%%tube has no option " + option + "; %%tube? says how it is written");
    } else {
      usage("%%tube takes options only, found \"" + option + "\": the specification begins in the next line");
    }
    if (given.has_value()) usage("%%tube " + option + " takes no value");
  }
  return out;
}

/// An input as it would be read in a specification; what is no value there is text.
Value parse_input(const std::string& text) {
  try {
    return tube::from_json(text);
  } catch (const tube::Error&) {
  }
  const bool plain = text.find(": ") == std::string::npos && text.find(" #") == std::string::npos &&
                     text.find('\n') == std::string::npos && !text.ends_with(":") && !text.starts_with("input.");
  if (plain && !text.empty()) {
    try {
      const TubeSpec spec =
          TubeSpec::from_text("noob_id: x\nnodes:\n  n:\n    type: t\n    params:\n      v: " + text + "\n");
      const Value* v = spec.nodes.at(0).params.find("v");
      if (v && spec.nodes.size() == 1 && spec.nodes[0].params.size() == 1) return *v;
    } catch (const tube::Error&) {
    }
  }
  return text;
}

/// The specification with this id instead of its own, line for line.
std::string named(const std::string& yaml, const std::string& id, bool& added) {
  std::string out;
  bool replaced = false;
  std::istringstream in(yaml);
  for (std::string line; std::getline(in, line);) {
    const bool its = line.starts_with("noob_id:") || line.starts_with("tube_id:");
    if (its && !replaced) line = "noob_id: " + id;
    replaced |= its;
    out += line + "\n";
  }
  added = !replaced;
  return replaced ? out : "noob_id: " + id + "\n" + out;
}

/// The error of a specification as the compiler's are shown: with the place in the cell, and the line.
CellError describe(const SpecError& e, const std::string& cell, const std::string& yaml, int first_line) {
  const tube::Place& place = e.place();
  std::string where = place.str(), at;
  if (place.line > 0) at = "line " + std::to_string(place.line) + ", column " + std::to_string(place.column);
  if (place.file.starts_with("Cell [") && place.line > 0) where = place.file + ", " + at;
  std::string text = e.what();
  if (const std::string prefix = place.str() + ": "; text.starts_with(prefix)) text.erase(0, prefix.size());
  CellError out;
  out.ename = "SpecError";
  out.evalue = text;
  if (place.line > 0) out.evalue += " (" + (place.file == cell ? at : where) + ")";
  out.traceback.push_back((where.empty() ? "" : where + ": ") + "\x1b[0;31merror\x1b[0m: " + text);
  if (place.file == cell && place.line >= first_line) {
    std::istringstream in(yaml);
    std::string line;
    for (int i = first_line; i <= place.line; ++i)
      if (!std::getline(in, line)) return out;
    out.traceback.push_back("  " + line);
    std::string mark = "  ";
    for (int i = 1; i < place.column; ++i)
      mark += static_cast<std::size_t>(i) <= line.size() && line[static_cast<std::size_t>(i) - 1] == '\t' ? '\t' : ' ';
    out.traceback.push_back(mark + "\x1b[0;32m^\x1b[0m");
  }
  return out;
}

/// Whether anything in there makes values of itself, so that it may come to an end.
bool has_source(const TubeSpec& spec, std::set<std::string>& seen) {
  if (!seen.insert(spec.id).second) return false;
  for (const tube::NodeSpec& node : spec.nodes) {
    if (node.type != "tube") {
      const auto type = tube::registry().find(node.type);
      if (type && type->source) return true;
      continue;
    }
    const Value* child = node.params.find("tube");
    try {
      if (child && child->kind() == tube::Kind::string &&
          has_source(TubeSpec::from_any(child->as<std::string>()), seen))
        return true;
      if (const tube::Map* map = child ? child->find<tube::Map>() : nullptr)
        if (has_source(TubeSpec::from_map(*map), seen)) return true;
    } catch (const tube::Error&) {  // built already: it cannot be
    }
  }
  return false;
}

/// A file that goes with this.
struct TemporaryFile {
  explicit TemporaryFile(const std::string& text) {
    path = (std::filesystem::temp_directory_path() / "caller-tube-XXXXXX").string();
    const int fd = ::mkstemp(path.data());
    if (fd < 0) throw std::system_error(errno, std::generic_category(), "a temporary file for the graph");
    ::close(fd);
    std::ofstream(path) << text;
  }
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  std::string path;
};

/// The graph as a picture, by Graphviz. Without it the cell says so and goes on: what it computes does not depend on
/// it.
Coro<void> plot(MagicContext& c, const Tube& tube) {
  struct Drawn {
    int code = 0;
    std::string out, err;
  };
  const auto file = std::make_shared<TemporaryFile>(tube.dot());
  auto draw = Caller::current().to_thread([file](std::stop_token stop) {
    Drawn d;
    d.code = run_command(
        "dot -Tsvg '" + file->path + "'", [&](int fd, std::string_view bytes) { (fd == 1 ? d.out : d.err) += bytes; },
        stop);
    return d;
  });
  const Drawn drawn = co_await draw;
  const std::size_t begin = drawn.out.find("<svg");
  if (drawn.code != 0 || begin == std::string::npos) {
    c.kernel.session().write(
        StreamName::err, drawn.code == 127 ? "--plot: drawing needs the program `dot`: install the package graphviz\n"
                                           : "--plot: `dot` could not draw the graph: " + drawn.err + "\n");
    co_return;
  }
  std::string picture = drawn.out.substr(begin);
  // A wide graph is made smaller to fit the page, unless nothing could be read then.
  constexpr double kReadable = 1600;  // points
  const std::size_t width = picture.find("width=\"");
  if (width != std::string::npos && std::atof(picture.c_str() + width + 7) < kReadable)
    picture.insert(4, " style=\"max-width:100%;height:auto\"");
  kernel::detail::publish_display(
      {{"image/svg+xml", picture},
       {"text/plain", "<graph of the tube " + tube.id() + ": " + std::to_string(tube.nodes().size()) + " nodes, " +
                          std::to_string(tube.edges().size()) + " edges>"}},
      {}, "", false);
}

std::string text_of(const Result& result) {
  std::string text = tube::to_json(*result, tube::Unsayable::describe);
  if (text.size() <= kLongText) return text;
  std::size_t end = kLongText;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end) + "… (" + std::to_string(text.size()) + " bytes)";
}

/// All results but the last one, which is the cell's.
void show_earlier(const TubeRun& run) {
  std::vector<std::pair<std::size_t, const Result*>> shown;
  for (const Result& r : run.first) shown.emplace_back(shown.size(), &r);
  for (const Result& r : run.last)
    shown.emplace_back(run.count - run.last.size() + shown.size() - run.first.size(), &r);
  if (shown.size() < 2) return;
  shown.pop_back();
  std::string text;
  std::size_t next = 0;
  for (const auto& [number, result] : shown) {
    if (number != next) text += "… " + std::to_string(number - next) + " more\n";
    text += std::to_string(number) + ": " + text_of(*result) + "\n";
    next = number + 1;
  }
  text.pop_back();
  kernel::detail::publish_display({{"text/plain", text}}, {}, "", false);
}

void show_last(const TubeRun& run) {
  if (run.first.empty()) return;
  const Result& last = run.last.empty() ? run.first.back() : run.last.back();
  MimeBundle data{{"text/plain", text_of(last)}};
  const tube::Kind kind = last.value().kind();
  if (kind == tube::Kind::list || kind == tube::Kind::map) {
    try {
      std::string document = tube::to_json(*last);
      if (document.size() <= kLongJson) data["application/json"] = std::move(document);
    } catch (const tube::Error&) {  // objects: there is the text
    }
  }
  kernel::detail::publish_result(data, {});
}

/// Everything until the tube can run. `yaml` is the text as it is read, `first_line` the number of its first line.
Coro<std::shared_ptr<TubeRun>> prepare(MagicContext& c, const Options& options, const std::string& yaml,
                                       const std::string& cell, int first_line) {
  const TubeSpec spec = TubeSpec::from_text(yaml, cell, first_line);
  const CellTypes of_cells = co_await register_nodes(c, spec, options.runner == "cluster");
  tube::Map given, each;
  for (const auto& [name, text] : options.inputs) {
    const tube::InputSpec* input = spec.find_input(name);
    if (!input) {
      std::vector<std::string> names;
      for (const tube::InputSpec& i : spec.input) names.push_back(i.id);
      usage("%%tube --input " + name + ": the tube has no such input; it has " +
            (names.empty() ? "none" : joined(names)));
    }
    Value value = parse_input(text);
    if (input->type == "str" && value.kind() != tube::Kind::string) value = text;  // it only looks like a number
    (input->scope == tube::InputScope::process ? each : given).set(name, std::move(value));
  }
  const Tube tube = Tube::from_spec(spec, given);
  for (const tube::InputSpec& input : spec.input)
    if (input.scope == tube::InputScope::process && input.required && !each.contains(input.id) &&
        !given.contains(input.id))
      usage("%%tube: the tube " + spec.id + " needs the input \"" + input.id + "\" (" + input.type + "): --input " +
            input.id + "=…");
  tube::define(yaml, cell, first_line);
  co_await declare_tube(c, tube);
  auto run = std::make_shared<TubeRun>(tube, std::make_shared<TubeWatch>(c.active, tube));
  run->inputs = std::move(each);
  run->n = options.n;
  if (!of_cells.nodes.empty() || !of_cells.assets.empty()) {
    run->cluster.start_timeout = kCompileTimeout;
    run->cluster.program = [&kernel = c.kernel, spec, of_cells](const std::vector<std::string>& nodes) {
      return cell_program(kernel, spec, of_cells, nodes);
    };
  }
  std::set<std::string> seen;
  if (!run->n && !has_source(spec, seen)) run->n = 1;
  co_return run;
}

}  // namespace

Coro<void> run_tube(MagicContext& c, const MagicLine& line) {
  const Options options = read_options(line);
  if (line.body.find_first_not_of(" \t\r\n") == std::string::npos)
    usage("%%tube needs a specification: YAML in the lines below it");
  for (const std::string& plugin : options.plugins) load_plugin_once(c.kernel, plugin);
  const std::string cell = "Cell [" + std::to_string(c.work->number) + "]";
  std::string yaml = line.body;
  int first_line = line.line + 1;
  if (!options.name.empty()) {
    bool added = false;
    yaml = named(yaml, options.name, added);
    first_line -= added;
  }
  std::shared_ptr<TubeRun> run;
  std::optional<CellError> wrong;
  try {
    run = co_await prepare(c, options, yaml, cell, first_line);
  } catch (const SpecError& e) {
    wrong = describe(e, cell, yaml, first_line);
  }
  if (wrong) {
    c.fail(std::move(*wrong));
    co_return;
  }
  if (options.plot) co_await plot(c, run->tube);

  const auto progress = std::make_shared<TubeProgress>(run->watch, run->tube.id() + ", " + options.runner, run->n);
  Pending<void> ticking = c.kernel.control().call_soon([progress] { return keep_ticking(progress); });
  struct StopTicking {
    Pending<void>& ticking;
    ~StopTicking() { ticking.cancel(); }
  } const stop_ticking{ticking};
  std::exception_ptr error;
  try {
    co_await run_tube_with(c, options.runner, run);
  } catch (...) {
    error = std::current_exception();
  }
  using End = TubeProgress::End;
  progress->finish(run->watch->stopped() ? End::interrupted
                   : error               ? End::failed
                   : run->ended          ? End::source_ended
                                         : End::done);
  show_earlier(*run);
  if (error) {
    std::optional<CellError> remote = describe_remote(c, error);
    if (!remote) std::rethrow_exception(error);
    c.fail(std::move(*remote));
    co_return;
  }
  show_last(*run);
}

}  // namespace caller::kernel::magics
