// Magics about files: putting one into a cell, running one, writing one.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "interpreter/string_literal.hpp"
#include "magics/functions.hpp"
#include "protocol/json_text.hpp"
#include "session/kernel.hpp"

namespace caller::kernel::magics {
namespace {

namespace fs = std::filesystem;

// Says in the traceback where the text came from, which the numbers of its lines belong to.
void name_origin(MagicContext& c, const std::string& origin) {
  if (CellError* error = c.error()) error->traceback.insert(error->traceback.begin(), "while running " + origin + ":");
}

// The code cells of a notebook.
std::vector<std::string> cells_of(const std::string& path, const std::string& text) {
  if (nested_too_deep(text))
    usage("%run " + path + ": is nested deeper than " + std::to_string(kDeepestJson) + " levels");
  const json file = json::parse(text, nullptr, false);
  if (!file.is_object() || !field<json>(file, "cells", nullptr).is_array())
    usage("%run " + path + ": is not a notebook of format 4");
  std::vector<std::string> out;
  for (const json& cell : file["cells"]) {
    if (!cell.is_object() || field<std::string>(cell, "cell_type", "") != "code") continue;
    const json source = field<json>(cell, "source", "");
    std::string code;
    if (source.is_string()) code = source.get<std::string>();
    if (source.is_array())
      for (const json& line : source)
        if (line.is_string()) code += line.get<std::string>();
    out.push_back(std::move(code));
  }
  return out;
}

// The program's own entry, as a statement; empty where the newest `main` takes what nobody can give.
std::string call_of_main(const std::string& type, const Arguments& arguments) {
  if (type == "int ()")
    return "if (const int caller_code_ = main()) throw std::runtime_error(\"main returned \" + "
           "std::to_string(caller_code_));";
  if (type != "int (int, char **)" && type != "int (int, const char **)") return {};
  std::string list;
  for (const auto& word : arguments.words) list += string_literal(word) + ", ";
  const std::string pointer = type == "int (int, char **)" ? "const_cast<char**>(caller_list_)" : "caller_list_";
  return "{ const char* caller_list_[] = {" + list + "nullptr}; if (const int caller_code_ = main(" +
         std::to_string(arguments.words.size()) + ", " + pointer +
         ")) throw std::runtime_error(\"main returned \" + std::to_string(caller_code_)); }";
}

}  // namespace

Coro<void> load(MagicContext& c, const MagicLine& line) {
  const std::string text = read_file("%load", expand_home(line.arguments));
  const std::lock_guard lock(c.work->mutex);
  c.work->payload.push_back(
      {{"source", "set_next_input"}, {"text", "// %load " + line.arguments + "\n" + text}, {"replace", true}});
  co_return;
}

Coro<void> run(MagicContext& c, const MagicLine& line) {
  Arguments arguments = read_arguments(line, "");
  if (arguments.words.empty()) usage("%run needs a file of C++ code or a notebook");
  const std::string path = arguments.words[0] = expand_home(arguments.words[0]);
  const std::string text = read_file("%run", path);
  if (fs::path(path).extension() == ".ipynb") {
    int number = 0;
    for (const std::string& cell : cells_of(path, text)) {
      ++number;
      co_await c.run_cell(cell);
      if (c.error()) {
        name_origin(c, path + ", code cell " + std::to_string(number));
        co_return;
      }
    }
    co_return;
  }
  const std::string folder = fs::absolute(path).parent_path().string();
  auto added = c.kernel.with_interpreter([folder](Interpreter& i) { i.add_include_path(folder); });  // its own includes
  co_await added;
  co_await c.run_code(text, false);
  if (c.error()) {
    name_origin(c, path);
    co_return;
  }
  // A program is also run, not only declared.
  if (text.find("main") == std::string::npos) co_return;
  auto after = c.kernel.with_interpreter([](Interpreter& i) { return i.symbols(); });
  const auto names = co_await after;
  for (auto it = names.rbegin(); it != names.rend(); ++it) {
    if (it->name != "main" || it->kind != "function") continue;
    const std::string call = call_of_main(it->type, arguments);
    if (call.empty())
      usage("%run " + path + ": main has the type " + it->type + "; known are int () and int (int, char **)");
    co_await c.run_code(call, false);
    if (c.error()) name_origin(c, path);
    co_return;
  }
}

Coro<void> writefile(MagicContext& c, const MagicLine& line) {
  const Arguments arguments = read_arguments(line, "a");
  if (arguments.words.size() != 1) usage("%%writefile needs the name of one file");
  const std::string path = expand_home(arguments.words[0]);
  const bool append = arguments.has('a');
  const bool there = fs::exists(path);
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | (append ? O_APPEND : O_TRUNC), 0666);
  if (fd < 0) usage("%%writefile " + path + ": " + std::strerror(errno));
  std::size_t done = 0;
  int error = 0;
  while (done < line.body.size() && error == 0) {
    const ssize_t n = ::write(fd, line.body.data() + done, line.body.size() - done);
    if (n > 0)
      done += static_cast<std::size_t>(n);
    else if (errno != EINTR)
      error = errno;
  }
  if (::close(fd) != 0 && error == 0) error = errno;
  if (error != 0) usage("%%writefile " + path + ": " + std::strerror(error));
  print(c, (!there ? "Writing " : append ? "Appending to " : "Overwriting ") + path + "\n");
  co_return;
}

}  // namespace caller::kernel::magics
