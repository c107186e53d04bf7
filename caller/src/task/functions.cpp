// Functions of notebooks as tasks: what their compiler has written down of them, and how another process makes them
// again.
#include <atomic>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "app.hpp"

namespace caller::task::detail {

namespace {

struct Function {
  std::string key, fault;
  std::vector<Param> params;
};

struct Functions {
  std::mutex mutex;
  std::map<const void*, Function> by_address;
  std::map<std::string, CellSource> sources;
  std::map<std::string, AppPtr> apps;  // shared ones
  std::map<std::string, std::weak_ptr<AppCore>> living;
};

Functions& functions() {
  // Never destroyed: default arguments are code of cells, which goes before what ends with the process.
  static auto* all = new Functions;
  return *all;
}

constexpr std::size_t kHash = 12;  // hexadecimal digits in an id

}  // namespace

bool know_function(const void* address, std::string key, std::vector<Param> params, std::string fault) {
  Functions& all = functions();
  const std::lock_guard lock(all.mutex);
  all.by_address.insert_or_assign(address, Function{std::move(key), std::move(fault), std::move(params)});
  return true;
}

void keep_source(const std::string& key, CellSource source) {
  Functions& all = functions();
  const std::lock_guard lock(all.mutex);
  all.sources.insert_or_assign(key, std::move(source));
}

Known known_function(const void* address, const TaskOptions& options) {
  Functions& all = functions();
  const std::lock_guard lock(all.mutex);
  const auto found = all.by_address.find(address);
  if (found == all.by_address.end())
    throw TaskRoutingError("",
                           "app.task(f): f must be a function, a coroutine function or a variable that is a lambda, of "
                           "a cell and given by its name; of anything else give the id and the names of the "
                           "parameters: app.task(\"id\", f, {\"x\", …})");
  const Function& f = found->second;
  if (!f.fault.empty()) throw TaskRoutingError("", "app.task(f): " + f.fault);
  const auto source = all.sources.find(f.key);
  if (source == all.sources.end()) throw TaskRoutingError("", "app.task(f): the source of the function is not known");
  const CellSource& s = source->second;
  Known out;
  out.params = f.params;
  const std::string how = options_json(options);
  out.id = s.id.empty() ? s.name + "@" + sha1_of(s.hash + how).substr(0, kHash) : s.id;
  if (s.json.empty()) return out;
  auto json = nlohmann::json::parse(s.json);
  json["options"] = nlohmann::json::parse(how);
  out.source = json.dump();
  return out;
}

namespace {
std::string source_key(const std::string& task_id) { return "source:" + task_id; }
}  // namespace

void publish_source(Store& store, const TaskDefinition& definition) {
  ValueChange change;
  change.key = source_key(definition.id);
  change.value = definition.source;
  store.set_value(std::move(change)).wait();
}

std::optional<std::string> stored_source(Store& store, const std::string& task_id) {
  return store.value(source_key(task_id)).wait();
}

void share_app(const std::string& app_id, AppPtr app) {
  Functions& all = functions();
  const std::lock_guard lock(all.mutex);
  if (app)
    all.apps.insert_or_assign(app_id, std::move(app));
  else
    all.apps.erase(app_id);
}

AppPtr shared_app(const std::string& app_id) {
  Functions& all = functions();
  const std::lock_guard lock(all.mutex);
  const auto found = all.apps.find(app_id);
  return found == all.apps.end() ? nullptr : found->second;
}

AppPtr make_app(AppOptions options, Config config) {
  // A worker that makes the cells of a notebook again has that application already: under the name that the cells give
  // it, or under the one that is configured here.
  if (AppPtr shared = shared_app(options.app_id)) return shared;
  auto made = std::make_shared<AppCore>(std::move(options), std::move(config));
  if (AppPtr shared = shared_app(made->options.app_id)) return shared;
  Functions& all = functions();
  const std::lock_guard lock(all.mutex);
  all.living.insert_or_assign(made->options.app_id, made);
  return made;
}

AppPtr inline_app(const AppPtr& app) {
  AppOptions how = app->options;
  how.store = app->shared_store();
  Config config = app->config();
  config.assign("app.dev_mode", "true");
  return std::make_shared<AppCore>(std::move(how), std::move(config), false);
}

AppPtr living_app(const std::string& app_id) {
  Functions& all = functions();
  const std::lock_guard lock(all.mutex);
  const auto found = all.living.find(app_id);
  return found == all.living.end() ? nullptr : found->second.lock();
}

// ---- guards ----

namespace {
std::atomic<CellGuard> cell_guard{nullptr};
}

void set_cell_guard(CellGuard guard) noexcept { cell_guard = guard; }

DefinitionPtr guarded(const DefinitionPtr& definition) {
  const CellGuard guard = cell_guard;
  if (!guard || !definition->plain) return definition;
  auto out = std::make_shared<TaskDefinition>(*definition);
  out->stops = true;
  out->plain = [guard, body = definition->plain](Format format, std::string_view args, std::stop_token stop) {
    return guard([&] { return body(format, args, stop); }, stop);
  };
  return out;
}

// ---- options as data ----

namespace {

using nlohmann::json;

}  // namespace

std::string options_json(const TaskOptions& o) {
  json retry_for = json::array();
  for (const ErrorType& e : o.retry_for) retry_for.push_back(e.name);
  return json{{"parallel_batch_size", o.parallel_batch_size},
              {"retry_for", retry_for},
              {"max_retries", o.max_retries},
              {"retry_backoff",
               {{"first", o.retry_backoff.first.count()},
                {"factor", o.retry_backoff.factor},
                {"most", o.retry_backoff.most.count()}}},
              {"running_concurrency", static_cast<int>(o.running_concurrency)},
              {"registration_concurrency", static_cast<int>(o.registration_concurrency)},
              {"key_arguments", o.key_arguments},
              {"on_diff_non_key_args_raise", o.on_diff_non_key_args_raise},
              {"reroute_on_concurrency_control", o.reroute_on_concurrency_control},
              {"timeout", o.timeout.count()},
              {"delay", o.delay.count()},
              {"priority", o.priority},
              {"call_result_cache", o.call_result_cache},
              {"disable_cache_args", o.disable_cache_args},
              {"force_new_workflow", o.force_new_workflow},
              {"queue", o.queue}}
      .dump();
}

TaskOptions options_from_json(const std::string& text) {
  TaskOptions o;
  try {
    const json j = json::parse(text);
    o.parallel_batch_size = j.at("parallel_batch_size").get<int>();
    o.max_retries = j.at("max_retries").get<int>();
    const json& backoff = j.at("retry_backoff");
    o.retry_backoff.first = std::chrono::milliseconds(backoff.at("first").get<std::int64_t>());
    o.retry_backoff.factor = backoff.at("factor").get<double>();
    o.retry_backoff.most = std::chrono::milliseconds(backoff.at("most").get<std::int64_t>());
    o.running_concurrency = static_cast<Concurrency>(j.at("running_concurrency").get<int>() & 3);
    o.registration_concurrency = static_cast<Concurrency>(j.at("registration_concurrency").get<int>() & 3);
    o.key_arguments = j.at("key_arguments").get<std::vector<std::string>>();
    o.on_diff_non_key_args_raise = j.at("on_diff_non_key_args_raise").get<bool>();
    o.reroute_on_concurrency_control = j.at("reroute_on_concurrency_control").get<bool>();
    o.timeout = std::chrono::milliseconds(j.at("timeout").get<std::int64_t>());
    o.delay = std::chrono::milliseconds(j.at("delay").get<std::int64_t>());
    o.priority = j.at("priority").get<int>();
    o.call_result_cache = j.at("call_result_cache").get<bool>();
    o.disable_cache_args = j.at("disable_cache_args").get<std::vector<std::string>>();
    o.force_new_workflow = j.at("force_new_workflow").get<bool>();
    o.queue = j.at("queue").get<std::string>();
  } catch (const json::exception& e) {
    throw SerializationError(std::string("the options of a task cannot be read: ") + e.what());
  }
  return o;
}

}  // namespace caller::task::detail
