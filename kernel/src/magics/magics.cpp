#include "magics/magics.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>

#include <caller/caller.hpp>

#include "magics/functions.hpp"
#include "magics/nearest.hpp"
#ifdef CALLER_HAVE_TASK
#include "magics/task_magic.hpp"
#endif
#include "protocol/error.hpp"
#include "protocol/utf8.hpp"
#include "protocol/words.hpp"
#include "session/kernel.hpp"

namespace caller::kernel {
namespace magics {

void usage(const std::string& text) { throw KernelError(KernelErrc::magic, text); }

void print(MagicContext& c, const std::string& text) {
  c.kernel.session().iopub().stream(c.work->request, StreamName::out, text);
}

std::string format_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  const auto width = [](const std::string& s) { return code_points(s, s.size()); };
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i == widths.size()) widths.push_back(0);
      widths[i] = std::max(widths[i], width(row[i]));
    }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) line += row[i] + std::string(widths[i] - width(row[i]) + 2, ' ');
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

void page(MagicContext& c, const std::map<std::string, std::string>& data) {
  const std::lock_guard lock(c.work->mutex);
  c.work->payload.push_back({{"source", "page"}, {"data", data}, {"start", 0}});
}

bool confirm(MagicContext& c, const std::string& question) {
  std::string answer = "y";
  try {
    answer = c.kernel.session().ask(question, false);
  } catch (const KernelError& e) {
    if (e.code() != KernelErrc::stdin_not_allowed) throw;
  }
  return answer == "y" || answer == "Y" || answer == "yes";
}

Arguments read_arguments(const MagicLine& line, const std::string& known) {
  const std::string name = (line.whole_cell ? "%%" : "%") + line.name;
  Arguments out;
  std::vector<std::string> words;
  try {
    words = split_words(line.arguments);
  } catch (const std::invalid_argument& e) {
    usage(name + ": " + e.what());
  }
  bool options = true;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (options && word == "--") {
      options = false;
      continue;
    }
    if (!options || word.size() < 2 || word[0] != '-') {
      out.words.push_back(word);
      continue;
    }
    for (std::size_t k = 1; k < word.size(); ++k) {
      const auto at = known.find(word[k]);
      if (at == std::string::npos || word[k] == ':')
        usage(name + " has no option -" + std::string(1, word[k]) + "; " + name + "? says how it is written");
      std::string value;
      if (at + 1 < known.size() && known[at + 1] == ':') {
        value = word.substr(k + 1);
        if (value.empty() && i + 1 < words.size()) value = words[++i];
        if (value.empty()) usage(name + " -" + std::string(1, word[k]) + " needs a value");
        out.options[word[k]] = value;
        break;
      }
      out.options[word[k]] = value;
    }
  }
  return out;
}

std::string read_file(const std::string& magic, const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!in) usage(magic + " " + path + ": cannot be read: " + std::strerror(errno));
  return text;
}

std::string expand_home(const std::string& path) {
  if (path != "~" && !path.starts_with("~/")) return path;
  const char* home = std::getenv("HOME");
  return (home ? home : "/") + path.substr(1);
}

}  // namespace magics

namespace {

using namespace magics;
using Function = Coro<void> (*)(MagicContext&, const MagicLine&);

struct Magic {
  Function line = nullptr;  // %name
  Function cell = nullptr;  // %%name
  const char* synopsis = "";
  const char* help = "";     // one line
  const char* details = "";  // the rest of it
};

Coro<void> lsmagic(MagicContext&, const MagicLine&);
Coro<void> misplaced_mode(MagicContext&, const MagicLine&);

// What read_cell takes off the first line of a cell; here are those that stand anywhere else, or are written wrongly.
const std::map<std::string, Magic>& modes() {
  static const std::map<std::string, Magic> magics = {
      {"queue",
       {misplaced_mode, nullptr, "%queue", "run the cell after those before it, as cells are",
        "In the first line of a cell; // queue says the same."}},
      {"task",
       {misplaced_mode, nullptr, "%task", "run the cell as a task: the next cell starts at once",
        "In the first line of a cell; // task says the same. %%task is another magic: the cell becomes a task of an\n"
        "application."}},
      {"thread",
       {misplaced_mode, nullptr, "%thread [name=X] [backend=B]", "run the cell on another thread",
        "In the first line of a cell; // thread says the same. Without a name: on any thread that is free; with one:\n"
        "on the thread of the child Caller of that name, which has the event loop B (asio, uv)."}},
  };
  return magics;
}

const std::map<std::string, Magic>& table() {
  static const std::map<std::string, Magic> magics = {
      {"!", {command, nullptr, "!COMMAND", "run a shell command", "It is run by /bin/sh; an interrupt ends it."}},
      {"?", {question, nullptr, "?NAME, NAME?", "what is known about a name or a magic", ""}},
      {"??", {question, nullptr, "??NAME, NAME??", "the same with its source", ""}},
      {"bash", {nullptr, command, "%%bash", "run the cell as a shell script", ""}},
      {"callers", {callers, nullptr, "%callers", "all Callers of the process", ""}},
      {"cd", {cd, nullptr, "%cd [FOLDER]", "change the working folder", "Without a folder: to the home folder."}},
      {"connect_info", {connect_info, nullptr, "%connect_info", "how to connect another client", ""}},
      {"cxxflags",
       {cxxflags, nullptr, "%cxxflags [FLAGS]", "show or add compiler flags",
        "-D, -U, -I, -isystem, -L, -l, -O0 to -O3, -W and -w hold for all later cells. What cannot change while the\n"
        "compiler runs (-std, -f, -m) is given when the kernel is installed: caller kernel install --cxxflags."}},
      {"env", {env, nullptr, "%env [NAME[=VALUE]]", "show or set environment variables", ""}},
      {"history",
       {history, nullptr, "%history [-n] [-o] [-u] [-f FILE] [-l N | RANGES] [-g PATTERN]", "show earlier cells",
        "-n: with their numbers; -o: with their results; -l N: the last N of all sessions; -g: those of all sessions\n"
        "that match a pattern of * and ?, or contain a text; -u: each but once; -f: into a file.\n"
        "Ranges: 4  2-5 (5 included)  2:5 (not)  ~1/7 (the session before)  243/1-5  ~8/1-~6/5."}},
      {"include_path", {include_path, nullptr, "%include_path FOLDER", "add a folder for includes", ""}},
      {"interrupts",
       {interrupts, nullptr, "%interrupts", "the latest interrupts, what they reached and how long that took", ""}},
      {"lib",
       {lib, nullptr, "%lib NAME", "load a shared library",
        "NAME stands for libNAME.so; a path or the name of a file can be given, too."}},
      {"load", {load, nullptr, "%load FILE", "put a file into the cell", ""}},
      {"lsmagic", {lsmagic, nullptr, "%lsmagic", "this list", ""}},
      {"opt", {opt, opt, "%opt LEVEL, %%opt LEVEL", "optimise the cell at level 0 to 3", ""}},
      {"pkg_config",
       {pkg_config, nullptr, "%pkg_config NAME...", "use a library that pkg-config knows",
        "Adds its include folders and definitions and loads its libraries."}},
      {"pwd", {pwd, nullptr, "%pwd", "the working folder", ""}},
      {"reset",
       {reset, nullptr, "%reset [-f]", "forget what the cells have declared",
        "Asks before, where the client can be asked, unless -f is given. Names and macros go; includes and using\n"
        "directives stay, and objects live on, as running work may use them. The count of cells goes on."}},
      {"run",
       {run, nullptr, "%run FILE.cpp [ARGUMENTS] or %run NOTEBOOK.ipynb", "run a file or the cells of a notebook",
        "In this session, so that what it declares is there afterwards. A file's main is called with the arguments."}},
      {"save",
       {save, nullptr, "%save [-f] [-a] FILE [RANGES]", "save cells to a file",
        "-f: also over an existing file; -a: at its end. Ranges as for %history; without any, the whole session."}},
      {"subshell", {subshell, nullptr, "%subshell", "this cell's subshell, and all of them", ""}},
      {"time", {time_code, time_code, "%time CODE, %%time", "run code once and show how long it took", ""}},
      {"timeit", {timeit, timeit, "%timeit CODE, %%timeit", "run code many times and show the best time", ""}},
#ifdef CALLER_HAVE_TASK
      {"task",
       {nullptr, run_task,
        "%%task [--runner thread|sync] [--app ID] [--sqlite FILE | --url URL] [--name ID] [--retries N] [--timeout S] "
        "[--priority N]",
        "run the cell as a task, and show it and all that comes of it",
        "The code is a cell's: what it declares stays, its last expression is the result.\n"
        "--runner: on a thread of the task's runner (thread), or here (sync).\n"
        "--app: the application; that of a cell if one has made it, else in memory, or in the store that is given:\n"
        "--sqlite: a file; --url: redis://…  --name: the task's id, in place of cell[N].\n"
        "--retries: so often it is tried again after an exception; --timeout: then it has failed; --priority: of the\n"
        "queue. Calls of tasks in the code are its children. An interrupt cancels the task.\n"
        "Functions of cells become tasks by app.task(f): see <caller/kernel/tasks.hpp>."}},
#endif
#ifdef CALLER_HAVE_TUBE
      {"tube",
       {nullptr, run_tube,
        "%%tube [--runner sync|async|thread|cluster] [-n N] [--input K=V]... [--name ID] [--plot] [--plugin LIB]...",
        "run the cell as a tube, a dataflow graph in YAML",
        "Functions, lambdas and classes of earlier cells are node types by their names: parameters are slots, the "
        "signal\n"
        "is `value` (others: [[clang::annotate(\"signals\", \"low\", \"high\")]] before a function that returns a "
        "tuple).\n"
        "--runner: on the cell's thread (sync), with coroutines and workers (async), or several epochs at once "
        "(thread).\n"
        "-n: how many results; without it until a source ends, or once if there is no source.\n"
        "--input: an input the tube declares, as YAML; --name: its id, in place of noob_id; --plot: draw the graph.\n"
        "--plugin: a shared object that registers types. Results are shown, the last one as the cell's.\n"
        "Afterwards the tube is the variable tubes::ID (what no name can hold is `_` there), and other tubes find it "
        "by\n"
        "its id: caller::tube::SynchronousRunner r(tubes::my_id);"}},
#endif
      {"who", {who, nullptr, "%who", "what the cells have defined", ""}},
      {"writefile", {nullptr, writefile, "%%writefile [-a] FILE", "write the cell to a file", "-a: at its end."}},
  };
  return magics;
}

// Null: there is none.
const Magic* find(const std::string& name, bool whole_cell) {
  if (const auto it = modes().find(name); it != modes().end() && !whole_cell) return &it->second;
  const auto it = table().find(name);
  if (it == table().end() || !(whole_cell ? it->second.cell : it->second.line)) return nullptr;
  return &it->second;
}

// As they are written, sorted; of a name, the line's before the cell's.
std::vector<std::pair<std::string, const Magic*>> all() {
  std::vector<std::pair<std::string, const Magic*>> out;
  for (const auto* magics : {&modes(), &table()})
    for (const auto& [name, magic] : *magics) {
      const bool word = std::isalpha(static_cast<unsigned char>(name[0])) != 0;
      if (magic.line) out.emplace_back((word ? "%" : "") + name, &magic);
      if (magic.cell) out.emplace_back("%%" + name, &magic);
    }
  const auto key = [](const auto& entry) {
    return std::pair(entry.first.substr(entry.first.find_first_not_of('%')), entry.first.size());
  };
  std::sort(out.begin(), out.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
  return out;
}

Coro<void> lsmagic(MagicContext& c, const MagicLine&) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, magic] : all()) rows.push_back({name, magic->help});
  print(c, format_table(rows));
  co_return;
}

Coro<void> misplaced_mode(MagicContext&, const MagicLine& line) {
  usage("%" + line.name + " says how the cell runs: it must be the cell's first line, of the form " +
        modes().at(line.name).synopsis);
}

[[noreturn]] void unknown(const MagicLine& line) {
  std::vector<std::pair<std::size_t, std::string>> near;
  for (const auto& entry : all()) {
    const std::string name = entry.first.substr(entry.first.find_first_not_of('%'));
    if (entry.first.starts_with("%%") == line.whole_cell && entry.first != name)
      near.emplace_back(distance(line.name, name), name);
  }
  std::sort(near.begin(), near.end());
  const std::string sign = line.whole_cell ? "%%" : "%";
  std::string text = "there is no magic " + sign + line.name + "; the nearest are";
  for (std::size_t i = 0; i < std::min<std::size_t>(3, near.size()); ++i)
    text += (i ? ", " : " ") + sign + near[i].second;
  usage(text + " (%lsmagic lists all)");
}

}  // namespace

Coro<void> run_magic(MagicContext& context, const MagicLine& line) {
  const Magic* const magic = find(line.name, line.whole_cell);
  if (!magic) unknown(line);
  return (line.whole_cell ? magic->cell : magic->line)(context, line);
}

std::string magic_help(const std::string& name) {
  const auto start = name.find_first_not_of('%');
  if (start == std::string::npos) return {};
  const std::string word = name.substr(start);
  const Magic* magic = find(word, start == 2);
  if (!magic && start < 2) magic = find(word, true);  // there is only the cell's
  if (!magic) return {};
  const std::string details = magic->details;
  return std::string(magic->synopsis) + "\n" + magic->help + "\n" + (details.empty() ? "" : "\n" + details + "\n");
}

std::vector<std::string> magic_names() {
  std::vector<std::string> out;
  for (const auto& [name, magic] : all())
    if (name.starts_with('%')) out.push_back(name);
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace caller::kernel
