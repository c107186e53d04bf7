#include "application.hpp"

#include <dlfcn.h>

#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <utility>

namespace caller::kernel::cli {

using namespace caller::task;

std::string printable(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 32 && byte != 127) {
      out += c;
    } else {
      char code[8];
      std::snprintf(code, sizeof code, "\\x%02x", byte);
      out += code;
    }
  }
  return out;
}

App opened(const ApplicationFlags& flags, const std::function<void(Config&)>& more, AppOptions options) {
  // A library may add runners and stores, which settings are read for: it is loaded first. Why it cannot be is told
  // by App::load().
  for (const auto& library : flags.libraries) {
    const std::string file = library.find('/') == std::string::npos ? "./" + library : library;
    (void)::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  }
  Config config = app_config(ConfigSources::of_process(flags.config));
  if (!flags.app_id.empty()) config.assign("app.app_id", flags.app_id);
  if (!flags.url.empty()) {
    config.assign("app.store", "redis");
    config.assign("redis.url", flags.url);
  }
  if (!flags.sqlite.empty()) {
    const auto folder = std::filesystem::path(flags.sqlite).parent_path();
    if (!folder.empty() && !std::filesystem::is_directory(folder))
      throw std::runtime_error("there is no folder " + folder.string() + " for the file " + flags.sqlite +
                               "; make it, or correct its name");
    config.assign("app.store", "sqlite");
    config.assign("sqlite.path", flags.sqlite);
  }
  if (more) more(config);
  App app(std::move(options), std::move(config));
  for (const auto& library : flags.libraries) app.load(library);
  return app;
}

void require_shared(const App& app, bool makes_the_file) {
  const std::string& store = app.conf().store_name;
  if (store == "memory")
    throw std::runtime_error(
        "invocations in memory are seen by their own process alone; say where they are: --sqlite FILE, --url "
        "redis://HOST, or `store` in caller.toml");
  if (store == "sqlite" && !makes_the_file) {
    const std::string path = app.config().get<std::string>("sqlite", "path");
    if (!std::filesystem::exists(path))
      throw std::runtime_error("there is no file " + path +
                               "; correct its name, or start a runner with it, which makes it");
  }
}

App shared(const ApplicationFlags& flags, const std::function<void(Config&)>& more) {
  App app = opened(flags, more);
  require_shared(app);
  return app;
}

}  // namespace caller::kernel::cli
