#include "spec_search.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <caller/tube/spec.hpp>

#include "words.hpp"

namespace caller::tube {

namespace {

namespace fs = std::filesystem;
using detail::Tree;

struct Definition {
  std::string yaml, name;
  int first_line;
};
struct Cached {
  fs::file_time_type time;
  std::string id;
};
/// What all threads share. The files' ids are remembered as long as the files do not change.
struct Search {
  std::mutex mutex;
  std::vector<fs::path> added;
  std::map<std::string, Definition, std::less<>> defined;
  std::map<std::string, Cached> ids;
};
Search& search() {
  static Search s;
  return s;
}

std::vector<fs::path> folders(const Search& s) {
  std::vector<fs::path> found(s.added.rbegin(), s.added.rend());
  if (const char* env = std::getenv("CALLER_TUBE_PATH")) {
    std::istringstream in(env);
    for (std::string folder; std::getline(in, folder, ':');)
      if (!folder.empty()) found.emplace_back(folder);
  }
  return found;
}

/// The id a file gives itself in a line of its own at the top level; empty if it gives none.
std::string id_in(const fs::path& path) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    for (const std::string_view key : {"noob_id:", "tube_id:"}) {
      if (!line.starts_with(key)) continue;
      std::string id = line.substr(key.size());
      if (const std::size_t comment = id.find(" #"); comment != std::string::npos) id.resize(comment);
      const auto junk = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '"' || c == '\''; };
      id.erase(id.begin(), std::find_if_not(id.begin(), id.end(), junk));
      id.erase(std::find_if_not(id.rbegin(), id.rend(), junk).base(), id.end());
      return id;
    }
  }
  return {};
}

/// Calls `visit(id, path)` for each file that has an id, until it returns true.
template <class Visit>
bool each_file(Search& s, Visit&& visit) {
  for (const fs::path& folder : folders(s)) {
    std::error_code error;
    std::vector<fs::path> files;
    for (fs::recursive_directory_iterator i(folder, fs::directory_options::skip_permission_denied, error), end;
         !error && i != end; i.increment(error)) {
      const fs::path extension = i->path().extension();
      if ((extension == ".yaml" || extension == ".yml") && i->is_regular_file(error)) files.push_back(i->path());
    }
    std::sort(files.begin(), files.end());  // the same tube wins on every machine
    for (const fs::path& file : files) {
      const fs::file_time_type time = fs::last_write_time(file, error);
      if (error) continue;
      const auto [at, is_new] = s.ids.try_emplace(file.string());
      if (is_new || at->second.time != time) at->second = {time, id_in(file)};
      if (!at->second.id.empty() && visit(at->second.id, file)) return true;
    }
  }
  return false;
}

std::optional<Tree> try_id(const std::string& id) {
  Definition definition;
  fs::path file;
  {
    Search& s = search();
    const std::lock_guard lock(s.mutex);
    if (const auto found = s.defined.find(id); found != s.defined.end()) {
      definition = found->second;
    } else if (!each_file(s, [&](const std::string& known, const fs::path& path) {
                 if (known == id) file = path;
                 return known == id;
               })) {
      return std::nullopt;
    }
  }
  if (!file.empty()) return detail::load_file(file);
  return detail::parse_yaml(definition.yaml, definition.name, definition.first_line);
}

[[noreturn]] void no_such_tube(const std::string& source) {
  std::vector<std::string> ids;
  for (const auto& [id, file] : known_ids()) ids.push_back(id);
  std::string text = "no tube \"" + source + "\": no such id" + detail::did_you_mean(source, ids) + " (searched: ";
  const std::vector<fs::path> path = search_path();
  if (path.empty()) text += "no folders; CALLER_TUBE_PATH is not set";
  for (std::size_t i = 0; i < path.size(); ++i) text += (i ? ", " : "") + path[i].string();
  throw Error(Errc::not_found, text + "), and no such file");
}

}  // namespace

void add_search_path(fs::path folder) {
  Search& s = search();
  const std::lock_guard lock(s.mutex);
  std::erase(s.added, folder);
  s.added.push_back(std::move(folder));
}

std::vector<fs::path> search_path() {
  Search& s = search();
  const std::lock_guard lock(s.mutex);
  return folders(s);
}

std::string define(std::string_view yaml, std::string name, int first_line) {
  TubeSpec spec = TubeSpec::from_text(yaml, name, first_line);
  Search& s = search();
  const std::lock_guard lock(s.mutex);
  s.defined.insert_or_assign(spec.id, Definition{std::string(yaml), std::move(name), first_line});
  return std::move(spec.id);
}

std::vector<std::pair<std::string, std::string>> known_ids() {
  std::map<std::string, std::string> found;
  Search& s = search();
  const std::lock_guard lock(s.mutex);
  for (const auto& [id, definition] : s.defined) found.emplace(id, "");
  each_file(s, [&](const std::string& id, const fs::path& path) {
    found.emplace(id, path.string());
    return false;
  });
  return {found.begin(), found.end()};
}

namespace detail {

Tree load_file(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error))
    throw Error(Errc::not_found, "\"" + path.string() + "\" is a folder, not a specification");
  std::ifstream in(path, std::ios::binary);
  if (!in && errno == ENOENT)
    throw Error(Errc::not_found, "there is no file \"" + path.string() +
                                     "\"; a tube is named by the path of its file, or by an id that is in one of the "
                                     "folders of --path or CALLER_TUBE_PATH");
  if (!in)
    throw Error(Errc::not_found, "cannot read \"" + path.string() + "\": " + std::generic_category().message(errno));
  const std::string text(std::istreambuf_iterator<char>(in), {});
  return parse_yaml(text, path.string(), 1);
}

Findable findable() {
  Search& s = search();
  const std::lock_guard lock(s.mutex);
  Findable found;
  for (const fs::path& folder : s.added) found.folders.push_back(fs::absolute(folder));
  for (const auto& [id, definition] : s.defined)
    found.texts.push_back({definition.yaml, definition.name, definition.first_line});
  return found;
}

Tree load_id(const std::string& id) {
  if (std::optional<Tree> found = try_id(id)) return std::move(*found);
  no_such_tube(id);
}

Tree load_tree(const std::string& source) {
  if (std::optional<Tree> found = try_id(source)) return std::move(*found);
  std::error_code error;
  const bool named_as_file = source.ends_with(".yaml") || source.ends_with(".yml");
  if (named_as_file || fs::exists(source, error)) return load_file(source);
  no_such_tube(source);
}

}  // namespace detail
}  // namespace caller::tube
