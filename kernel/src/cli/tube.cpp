#include "tube.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <type_traits>
#include <utility>

#include <sys/wait.h>
#include <unistd.h>

#include <caller/tube/all.hpp>

#include "terminal.hpp"

namespace caller::kernel::cli {

namespace {

namespace fs = std::filesystem;
using namespace caller::tube;

void prepare(const TubeOptions& options) {
  for (const std::string& folder : options.folders) {
    if (!fs::is_directory(folder)) throw std::runtime_error("--path " + folder + " is no folder");
    add_search_path(folder);
  }
  for (const std::string& plugin : options.plugins) registry().load_plugin(plugin);
}

/// Shows the line an error is in, with a mark below the place, as compilers do.
void show_line(const SpecError& e) {
  std::ifstream in(e.file());
  std::string line;
  for (int i = 0; i < e.line() && std::getline(in, line); ++i) {
  }
  if (!in || e.line() == 0) return;
  std::cerr << "  " << line << "\n  " << std::string(static_cast<std::size_t>(std::max(0, e.column() - 1)), ' ')
            << coloured("^", Colour::red, STDERR_FILENO) << '\n';
}

/// An input from the command line: JSON where it is some, else text.
Value parse_input(const std::string& text) {
  try {
    return from_json(text);
  } catch (const tube::Error&) {
    return text;
  }
}

/// Whole calls' inputs from standard input, one after the other.
class InputReader {
public:
  explicit InputReader(const std::string& format) : list_(format == "json") {
    if (!list_) return;
    const std::string text(std::istreambuf_iterator<char>(std::cin), {});
    items_ = from_json(text).items();
  }
  std::optional<Map> next() {
    if (list_) {
      if (at_ == items_.size()) return std::nullopt;
      const Value& item = items_[at_++];
      return placed([&] { return checked(item); });
    }
    for (std::string line; std::getline(std::cin, line);) {
      ++at_;
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      return placed([&] { return checked(from_json(line)); });
    }
    return std::nullopt;
  }
  /// Calls `body`, and says where the inputs stood that came last if these are what is wrong.
  template <class Body>
  std::invoke_result_t<Body> placed(Body&& body) const {
    const auto place = [this] {
      return std::string("standard input, ") + (list_ ? "element " : "line ") + std::to_string(at_) + ": ";
    };
    try {
      return body();
    } catch (const InputMissingError& e) {
      throw std::runtime_error(place() + e.what());
    } catch (const tube::Error& e) {
      if (e.code() != tube::Errc::wrong_type && e.code() != tube::Errc::out_of_range) throw;
      throw std::runtime_error(place() + e.what());
    }
  }

private:
  static Map checked(const Value& v) {
    if (v.kind() != Kind::map)
      throw tube::Error(tube::Errc::wrong_type, "expected an object of inputs, found " + v.repr());
    return v.entries();
  }
  bool list_;
  List items_;
  std::size_t at_ = 0;
};

/// Results as lines, or as one list.
class ResultWriter {
public:
  explicit ResultWriter(const std::string& format) : list_(format == "json") {
    if (list_) std::cout << '[';
  }
  void write(const Result& result) {
    const std::string text = to_json(*result, Unsayable::describe);
    if (list_)
      std::cout << (count_ ? ",\n " : "") << text;
    else
      std::cout << text << '\n' << std::flush;
    ++count_;
  }
  void finish() {
    if (list_) std::cout << "]\n";
    std::cout.flush();
  }
  std::size_t count() const { return count_; }

private:
  bool list_;
  std::size_t count_ = 0;
};

/// A line that says how far the run is: on a terminal drawn anew at most ten times a second, elsewhere once, at the
/// end.
class Progress {
public:
  Progress(bool on, std::optional<std::size_t> total) : on_(on), total_(total) {}
  ~Progress() {
    if (!on_ || !seen_) return;
    draw();
    std::fputs("\n", stderr);
  }
  void update(std::size_t results, std::uint64_t epochs) {
    if (!on_) return;
    results_ = results;
    epochs_ = epochs;
    const auto now = std::chrono::steady_clock::now();
    if (std::exchange(seen_, true) && now - last_ < std::chrono::milliseconds(100)) return;
    last_ = now;
    if (terminal_) draw();
  }

private:
  void draw() const {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
    std::fprintf(stderr, "%s%zu%s results, %llu epochs, %.1f s, %.0f epochs/s%s", terminal_ ? "\r" : "", results_,
                 total_ ? (" of " + std::to_string(*total_)).c_str() : "", static_cast<unsigned long long>(epochs_),
                 seconds, seconds > 0 ? static_cast<double>(epochs_) / seconds : 0.0, terminal_ ? "\033[K" : "");
  }

  const bool on_, terminal_ = ::isatty(STDERR_FILENO) != 0;
  bool seen_ = false;
  std::size_t results_ = 0;
  std::uint64_t epochs_ = 0;
  std::optional<std::size_t> total_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now(), last_;
};

std::unique_ptr<TubeRunner> make_runner(const std::string& name, const Tube& tube) {
  if (name == "sync") return std::make_unique<SynchronousRunner>(tube);
  if (name == "async") return std::make_unique<AsyncRunner>(tube);
  if (name == "cluster") return std::make_unique<ClusterRunner>(tube);
  return std::make_unique<ThreadRunner>(tube);
}

int run(const TubeOptions& options) {
  prepare(options);
  const TubeSpec spec = TubeSpec::from_any(options.spec);
  Map given, per_call;
  for (const auto& [name, text] : options.inputs) {
    const InputSpec* input = spec.find_input(name);
    Value value = parse_input(text);
    // A text that looks like a number stays a text where one is wanted.
    if (input && input->type == "str" && value.kind() != Kind::string) value = text;
    if (input && input->scope == InputScope::process)
      per_call.set(name, std::move(value));
    else
      given.set(name, std::move(value));
  }
  const Tube tube = Tube::from_spec(spec, given);
  const bool reads = std::any_of(spec.input.begin(), spec.input.end(), [&](const InputSpec& i) {
    return i.scope == InputScope::process && i.required && !per_call.contains(i.id) && !given.contains(i.id);
  });
  const std::unique_ptr<TubeRunner> runner = make_runner(options.runner, tube);
  ResultWriter writer(options.output_format);
  Progress progress(options.progress, options.n);
  const auto note = [&](const Result& result) {
    if (result) writer.write(result);
    progress.update(writer.count(), runner->next_epoch());
  };
  if (reads) {
    InputReader reader(options.input_format);
    runner->init();
    while (!options.n || writer.count() < *options.n) {
      const std::optional<Map> inputs = reader.next();
      if (!inputs) break;
      Map all = per_call;
      for (const auto& [name, value] : *inputs) all.set(name, value);
      try {
        note(reader.placed([&] { return runner->process(all); }));
      } catch (const EndOfStream&) {
        break;
      }
    }
    runner->deinit();
  } else if (!per_call.empty()) {
    runner->init();
    try {
      while (!options.n || writer.count() < *options.n) note(runner->process(per_call));
    } catch (const EndOfStream&) {
    }
    runner->deinit();
  } else {
    for (const Result& result : runner->iter(options.n)) note(result);
  }
  writer.finish();
  return 0;
}

std::string counted(std::size_t n, const char* what) { return std::to_string(n) + " " + what + (n == 1 ? "" : "s"); }

int check(const TubeOptions& options) {
  prepare(options);
  const TubeSpec spec = TubeSpec::from_any(options.spec);
  Map given;
  for (const auto& [name, text] : options.inputs) given.set(name, parse_input(text));
  // Inputs that only the run will give stand in by their type, so that everything else is checked.
  for (const InputSpec& i : spec.input) {
    if (i.scope != InputScope::tube || !i.required || given.contains(i.id)) continue;
    if (i.type == "int")
      given.set(i.id, 0);
    else if (i.type == "float")
      given.set(i.id, 0.0);
    else if (i.type == "bool")
      given.set(i.id, true);
    else if (i.type == "list" || i.type == "tuple" || i.type == "set")
      given.set(i.id, List{});
    else if (i.type == "dict")
      given.set(i.id, Map{});
    else
      given.set(i.id, "");
  }
  const Tube tube = Tube::from_spec(spec, given);
  const auto layers = tube.generations();
  if (options.json) {
    List nodes, edges;
    for (const NodeInfo& n : tube.nodes()) {
      List slots, signals, maps;
      for (const Slot& s : n.slots) slots.push_back(Map{{"name", s.name}, {"type", s.type}, {"optional", s.optional}});
      for (const Signal& s : n.signals) signals.push_back(Map{{"name", s.name}, {"type", s.type}});
      for (const std::string& m : n.below_maps) maps.push_back(m);
      nodes.push_back(Map{{"id", n.id},
                          {"type", n.type},
                          {"enabled", n.enabled},
                          {"stateful", n.stateful},
                          {"slots", slots},
                          {"signals", signals},
                          {"below_maps", maps}});
    }
    for (const Edge& e : tube.edges())
      edges.push_back(Map{{"from", e.source_node + "." + e.source_signal},
                          {"to", e.target_node},
                          {"slot", e.target_slot},
                          {"required", e.required}});
    std::cout << to_json(Map{{"id", tube.id()}, {"nodes", nodes}, {"edges", edges}}) << '\n';
    return 0;
  }
  std::cout << tube.id() << ": " << counted(tube.nodes().size(), "node") << ", " << counted(tube.edges().size(), "edge")
            << ", " << counted(layers.size(), "generation") << '\n';
  return 0;
}

/// Hands the graph to Graphviz. Errors: std::runtime_error if there is no `dot`, or it fails.
void draw(const std::string& text, const std::string& output, const std::string& format) {
  const fs::path input = fs::temp_directory_path() / ("caller-tube-" + std::to_string(::getpid()) + ".dot");
  std::ofstream(input) << text;
  const pid_t child = ::fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (child == 0) {
    const std::string type = "-T" + format;
    ::execlp("dot", "dot", type.c_str(), "-o", output.c_str(), input.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  std::error_code ignored;
  fs::remove(input, ignored);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
    throw std::runtime_error("drawing needs the program `dot`: install the package graphviz, or write a .dot file");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw std::runtime_error("`dot` could not draw " + output);
}

int plot(const TubeOptions& options) {
  prepare(options);
  const TubeSpec spec = TubeSpec::from_any(options.spec);
  Map given;
  for (const auto& [name, text] : options.inputs) given.set(name, parse_input(text));
  const std::string text = Tube::from_spec(spec, given).dot();
  std::string format = fs::path(options.output).extension().string();
  if (!format.empty()) format.erase(0, 1);
  if (options.output.empty()) {
    std::cout << text;
    return 0;
  }
  const fs::path folder = fs::path(options.output).parent_path();
  if (!folder.empty() && !fs::is_directory(folder))
    throw std::runtime_error("there is no folder " + folder.string() + " for " + options.output +
                             "; make it, or correct its name");
  if (format == "dot" || format == "gv") {
    std::ofstream out(options.output);
    if (!(out << text << std::flush)) throw std::runtime_error(options.output + " cannot be written");
  } else if (format == "svg" || format == "png" || format == "pdf") {
    draw(text, options.output, format);
  } else {
    throw std::runtime_error("cannot draw a \"" + format + "\" file: expected .svg, .png, .pdf or .dot");
  }
  return 0;
}

int types(const TubeOptions& options) {
  prepare(options);
  List list;
  for (const std::string& name : registry().names()) {
    const auto type = registry().find(name);
    List slots, signals, params;
    for (const Slot& s : type->slots) slots.push_back(s.name + (s.optional || s.fallback ? "?" : ""));
    for (const Slot& s : type->params) params.push_back(s.name + (s.optional || s.fallback ? "?" : ""));
    for (const Signal& s : type->signals) signals.push_back(s.name);
    list.push_back(Map{{"type", name},
                       {"slots", slots},
                       {"params", params},
                       {"signals", signals},
                       {"stateful", type->stateful},
                       {"source", type->source}});
  }
  if (options.json) {
    std::cout << to_json(list) << '\n';
    return 0;
  }
  const auto joined = [](const Value& words) {
    std::string text;
    for (const Value& w : words.items()) text += (text.empty() ? "" : ", ") + w.as<std::string>();
    return text;
  };
  for (const Value& t : list) {
    std::cout << t["type"].as<std::string>() << "(" << joined(t["slots"]) << ")";
    const std::string params = joined(t["params"]), signals = joined(t["signals"]);
    if (!params.empty() && params != joined(t["slots"])) std::cout << " {" << params << "}";
    if (!signals.empty()) std::cout << " -> " << signals;
    std::cout << '\n';
  }
  for (const std::string& name : registry().asset_names()) std::cout << "asset " << name << '\n';
  return 0;
}

int reporting(int (*command)(const TubeOptions&), const TubeOptions& options) {
  try {
    return command(options);
  } catch (const SpecError& e) {
    complain("caller tube", e.what());
    show_line(e);
    return 1;
  }
}

}  // namespace

int tube_run(const TubeOptions& options) { return reporting(&run, options); }
int tube_check(const TubeOptions& options) { return reporting(&check, options); }
int tube_plot(const TubeOptions& options) { return reporting(&plot, options); }
int tube_types(const TubeOptions& options) { return reporting(&types, options); }

}  // namespace caller::kernel::cli
