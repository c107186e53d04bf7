#include <caller/tube/registry.hpp>

#include <algorithm>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <unordered_set>

#include <dlfcn.h>

#include "builtin.hpp"
#include "words.hpp"

namespace caller::tube {

struct Registry::Impl {
  mutable std::shared_mutex mutex;
  std::map<std::string, std::shared_ptr<const NodeType>, std::less<>> types;
  std::map<std::string, std::shared_ptr<const AssetType>, std::less<>> assets;
  std::vector<std::filesystem::path> plugins;
  std::shared_ptr<void> loading;  ///< the plugin whose types are being registered
};

Registry::Registry() : impl_(std::make_unique<Impl>()) {}
Registry::~Registry() = default;

void Registry::insert(NodeType type, bool replace) {
  const std::unique_lock lock(impl_->mutex);
  type.module = impl_->loading;
  std::string name = type.name;
  if (!replace && impl_->types.contains(name))
    throw Error(Errc::already_registered, "a node type \"" + name + "\" is registered already");
  impl_->types.insert_or_assign(std::move(name), std::make_shared<const NodeType>(std::move(type)));
}

void Registry::insert(AssetType type, bool replace) {
  const std::unique_lock lock(impl_->mutex);
  type.module = impl_->loading;
  std::string name = type.name;
  if (!replace && impl_->assets.contains(name))
    throw Error(Errc::already_registered, "an asset \"" + name + "\" is registered already");
  impl_->assets.insert_or_assign(std::move(name), std::make_shared<const AssetType>(std::move(type)));
}

bool Registry::erase(std::string_view name) {
  const std::unique_lock lock(impl_->mutex);
  const auto drop = [&](auto& table) {
    const auto found = table.find(name);
    if (found == table.end()) return false;
    table.erase(found);
    return true;
  };
  const bool type = drop(impl_->types), asset = drop(impl_->assets);
  return type || asset;
}

std::shared_ptr<const NodeType> Registry::find(std::string_view name) const {
  const std::shared_lock lock(impl_->mutex);
  const auto found = impl_->types.find(name);
  return found == impl_->types.end() ? nullptr : found->second;
}
std::shared_ptr<const AssetType> Registry::find_asset(std::string_view name) const {
  const std::shared_lock lock(impl_->mutex);
  const auto found = impl_->assets.find(name);
  return found == impl_->assets.end() ? nullptr : found->second;
}

namespace {
template <class Table>
std::vector<std::string> keys(const Table& table) {
  std::vector<std::string> names;
  for (const auto& [name, type] : table) names.push_back(name);
  return names;
}
}  // namespace

std::vector<std::string> Registry::names() const {
  const std::shared_lock lock(impl_->mutex);
  return keys(impl_->types);
}
std::vector<std::string> Registry::asset_names() const {
  const std::shared_lock lock(impl_->mutex);
  return keys(impl_->assets);
}
std::vector<std::string> Registry::similar(std::string_view name, bool assets, std::size_t limit) const {
  return detail::nearest(name, assets ? asset_names() : names(), limit);
}

void Registry::load_plugin(const std::filesystem::path& path) {
  // dlopen looks a bare name up in the system's folders; a plugin is named by its path.
  const std::string file = path.has_parent_path() ? path.string() : (std::filesystem::path(".") / path).string();
  void* handle = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char* reason = ::dlerror();
    if (std::error_code error; !std::filesystem::exists(file, error))
      reason = "there is no such file; a plugin is named by the path of its shared object, like ./libmine.so";
    throw Error(Errc::plugin, "cannot load the plugin " + path.string() + ": " + (reason ? reason : "no reason given"));
  }
  // Never unloaded: types, and values of them, may live anywhere.
  const std::shared_ptr<void> module(handle, [](void*) {});
  auto* enter = reinterpret_cast<void (*)(Registry&)>(::dlsym(handle, "caller_tube_plugin"));
  if (!enter)
    throw Error(Errc::plugin, "the plugin " + path.string() +
                                  " has no function `extern \"C\" void caller_tube_plugin(caller::tube::Registry&)`");
  {
    const std::unique_lock lock(impl_->mutex);
    impl_->loading = module;
  }
  struct Loaded {
    Impl& impl;
    ~Loaded() {
      const std::unique_lock lock(impl.mutex);
      impl.loading = nullptr;
    }
  } loaded{*impl_};
  enter(*this);
  const std::filesystem::path absolute = std::filesystem::absolute(file);
  const std::unique_lock lock(impl_->mutex);
  if (std::find(impl_->plugins.begin(), impl_->plugins.end(), absolute) == impl_->plugins.end())
    impl_->plugins.push_back(absolute);
}

std::vector<std::filesystem::path> Registry::plugins() const {
  const std::shared_lock lock(impl_->mutex);
  return impl_->plugins;
}

void Registry::wrong(const NodeType& type, const std::string& message) {
  throw Error(Errc::invalid_specification, "registering \"" + type.name + "\": " + message);
}
void Registry::wrong_count(const NodeType& type, std::size_t named, std::size_t parameters) {
  wrong(type, std::to_string(named) + " names are given for " + std::to_string(parameters) +
                  " parameters (those of injected types are not named)");
}
void Registry::check_slots(const NodeType& type, const std::vector<Slot>& slots) {
  std::unordered_set<std::string_view> seen;
  for (const Slot& s : slots) {
    if (!seen.insert(s.name).second) wrong(type, "two parameters are named \"" + s.name + "\"");
    if (!s.fallback || !s.check) continue;
    try {
      s.check(*s.fallback);
    } catch (const Error& e) {
      wrong(type, "the default of \"" + s.name + "\": " + e.what());
    }
  }
}
void Registry::add_signals(NodeType& type, const std::vector<std::string>& names, std::size_t returned, bool open,
                           const std::string& result) {
  std::unordered_set<std::string_view> seen;
  for (const std::string& name : names) {
    if (!seen.insert(name).second) wrong(type, "two signals are named \"" + name + "\"");
    type.signals.push_back({name, names.size() == 1 ? result : std::string("any"), nullptr});
  }
  if (names.empty()) {
    if (returned > 0) type.signals.push_back({"value", result, nullptr});
    return;
  }
  // One signal takes a whole tuple; several take one part each.
  if (names.size() > 1 && !open && names.size() != returned)
    wrong(type, std::to_string(names.size()) + " signals are named, but " + std::to_string(returned) +
                    " values are returned (" + result + ")");
  if (names.size() == 1 && returned == 0) wrong(type, "a signal is named, but nothing is returned");
}

Registry& registry() {
  static Registry* const process_wide = [] {
    auto* r = new Registry;  // lives as long as the process: tubes may be destroyed by static destructors
    detail::add_special_types(*r);
    detail::add_builtin_types(*r);
    detail::add_testing_types(*r);
    return r;
  }();
  return *process_wide;
}

}  // namespace caller::tube
