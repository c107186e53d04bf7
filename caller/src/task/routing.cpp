// What becomes of calls: their identities and keys, and the invocations they are or lead to.
#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <utility>

#include "app.hpp"

namespace caller::task::detail {

namespace {

std::string key_of(Concurrency kind, const TaskDefinition& definition, const CallBytes& call) {
  switch (kind) {
    case Concurrency::DISABLED:
      return {};
    case Concurrency::TASK:
      return definition.id;
    case Concurrency::ARGUMENTS:
      return definition.id + "#" + args_id(definition, call);
    case Concurrency::KEYS: {
      const auto& keys = definition.options.key_arguments;
      auto named = named_of(definition, call);
      std::erase_if(named, [&](const auto& a) { return std::find(keys.begin(), keys.end(), a.first) == keys.end(); });
      return definition.id + "#" + args_id(named);
    }
  }
  return {};
}

/// No object: it is none, or goes deeper than those can go who compare and write it.
nlohmann::json read_object(Format format, const std::string& bytes) {
  try {
    (void)Document(format, bytes);
  } catch (const SerializationError&) {
    return {};
  }
  return format == Format::json ? nlohmann::json::parse(bytes, nullptr, false)
                                : nlohmann::json::from_cbor(bytes, true, false);
}

std::string words_of(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// In words: which arguments of the stored call are others.
std::string difference(Format format, const TaskDefinition& definition, const std::string& stored,
                       const CallBytes& call) {
  const auto there = read_object(format, stored);
  if (!there.is_object()) return "the stored arguments cannot be read";
  std::string out;
  for (const auto& [name, json] : named_of(definition, call)) {
    const auto here = nlohmann::json::parse(json, nullptr, false);
    const auto it = there.find(name);
    if (it != there.end() && *it == here) continue;
    out += (out.empty() ? "" : ", ") + name + ": " + (it == there.end() ? "missing" : words_of(*it)) +
           ", called with " + json;
  }
  return out;
}

/// `data`: contents by hash, which must be in the store before the calls are.
std::vector<NewInvocation> prepared(const AppCore& app, const TaskDefinition& definition,
                                    const std::vector<CallBytes>& calls, const Run* run, const std::string& id,
                                    std::map<std::string, std::string>& data) {
  const TaskOptions& options = definition.options;
  std::vector<NewInvocation> list;
  list.reserve(calls.size());
  for (const CallBytes& call : calls) {
    NewInvocation n;
    n.id = id.empty() ? new_uuid() : id;
    n.task_id = definition.id;
    n.call_id.reserve(definition.id.size() + 65);
    n.call_id.append(definition.id).append(1, '#');
    append_args_id(n.call_id, definition, call);
    std::vector<std::pair<std::string, std::string>> parts;
    n.args = app.data.packed_args(definition, call, parts);
    for (auto& [hash, content] : parts) {
      n.data.push_back(hash);
      data.emplace(hash, std::move(content));
    }
    n.queue = options.queue;
    n.priority = options.priority;
    if (!app.runs_here()) n.delay = options.delay;  // who makes such a call waits for it
    if (!options.call_result_cache) n.registration_key = key_of(options.registration_concurrency, definition, call);
    n.running_key = key_of(options.running_concurrency, definition, call);
    n.reroute = options.reroute_on_concurrency_control;
    n.refuse_other_call = options.on_diff_non_key_args_raise;
    if (run) n.parent_id = run->id;
    if (options.force_new_workflow) n.workflow_id = n.id;
    list.push_back(std::move(n));
  }
  return list;
}

/// Two calls made at once may be of one kind as little as one that was made before.
void refuse_other_calls(const AppCore& app, const TaskDefinition& definition, const std::vector<CallBytes>& calls,
                        const std::vector<NewInvocation>& list) {
  if (!definition.options.on_diff_non_key_args_raise) return;
  std::unordered_map<std::string_view, std::size_t> first;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (list[i].registration_key.empty()) continue;  // found among results that are kept instead
    const auto [known, fresh] = first.try_emplace(list[i].registration_key, i);
    if (fresh || list[known->second].call_id == list[i].call_id) continue;
    throw InvocationConcurrencyWithDifferentArgumentsError(
        definition.id, {}, difference(app.options.format, definition, calls[known->second].args, calls[i]));
  }
}

std::vector<Routed> settled(AppCore& app, const TaskDefinition& definition, const std::vector<CallBytes>& calls,
                            std::vector<Added> added) {
  std::vector<Routed> out;
  out.reserve(added.size());
  for (std::size_t i = 0; i < added.size(); ++i) {
    Routed routed{std::move(added[i].id), added[i].reused, {}};
    if (added[i].reused)
      routed.diff_arg = difference(app.options.format, definition, app.data.unpack(std::move(added[i].args)), calls[i]);
    if (added[i].refused)
      throw InvocationConcurrencyWithDifferentArgumentsError(definition.id, routed.id, routed.diff_arg);
    out.push_back(std::move(routed));
  }
  return out;
}

/// One that has a result or is under way, for calls whose results are kept.
std::optional<Added> kept_call(Store& store, const std::optional<std::string>& id) {
  if (!id) return std::nullopt;
  try {
    const InvocationRecord r = store.get(*id).wait();
    if (r.status != Status::success && is_final(r.status)) return std::nullopt;
    return Added{r.id, true, false, r.call_id, r.args};
  } catch (const InvocationNotFoundError&) {  // purged
    return std::nullopt;
  }
}

/// The call's last invocation is a value of the store. Whoever replaces it adds the new one in the same step.
Added add_or_find_kept(const AppCore& app, Store& store, const NewInvocation& call) {
  const std::string key = "kept:" + call.call_id;
  for (;;) {
    const std::optional<std::string> last = store.value(key).wait();
    if (auto kept = kept_call(store, last)) return std::move(*kept);
    ValueChange change{key, last ? ValueChange::If::equal : ValueChange::If::absent, last.value_or("")};
    change.value = call.id;
    change.lifetime = 2 * app.options.auto_final_invocation_purge;
    change.then.push_back(call);
    if (store.set_value(std::move(change)).wait()) return {call.id, false, false, {}, {}};
  }
}

/// Whether nothing but being added becomes of calls of the task, made by no other task.
bool is_simple(const AppCore& app, const TaskDefinition& definition, const CallBytes& call) {
  const TaskOptions& o = definition.options;
  return o.registration_concurrency == Concurrency::DISABLED && o.running_concurrency == Concurrency::DISABLED &&
         !o.call_result_cache && o.delay.count() == 0 && !app.data.is_large(call.args.size());
}

bool are_simple(const AppCore& app, const TaskDefinition& definition, const std::vector<CallBytes>& calls) {
  return std::all_of(calls.begin(), calls.end(),
                     [&](const CallBytes& call) { return is_simple(app, definition, call); });
}

std::vector<Added> added_by(const Pending<std::vector<Added>>& adding) {
  (void)ends_soon(adding);
  (void)adding.wait_done();
  return std::move(adding.result());  // nobody else has it
}

/// Adds calls that are simple to a store that shares its invocations.
void route_simple(LocalStore& store, const TaskDefinition& definition, std::span<const CallBytes> calls, Routed* out) {
  constexpr std::size_t kUuid = 36;
  struct Names {  // of this thread's next calls
    std::vector<LocalDraft> drafts;
    std::vector<LocalRef> refs;
    std::string call_ids;
    std::vector<std::size_t> ends;
  };
  thread_local Names kept;
  Names names = std::move(kept);  // who is told of the calls may make some, too
  names.call_ids.clear();
  names.drafts.clear();
  names.refs.resize(calls.size());
  names.ends.clear();
  for (std::size_t i = 0; i < calls.size(); ++i) {
    out[i].id.resize(kUuid);
    put_new_uuid(out[i].id.data());
    LocalDraft& d = names.drafts.emplace_back();
    d.id = out[i].id;
    d.task_id = definition.id;
    d.queue = definition.options.queue;
    d.args = calls[i].args;
    d.priority = definition.options.priority;
    d.reroute = definition.options.reroute_on_concurrency_control;
  }
  for (const CallBytes& call : calls) {
    names.call_ids.append(definition.id).append(1, '#');
    append_args_id(names.call_ids, definition, call);
    names.ends.push_back(names.call_ids.size());
  }
  std::size_t begin = 0;
  for (std::size_t i = 0; i < calls.size(); begin = names.ends[i++])
    names.drafts[i].call_id = std::string_view(names.call_ids).substr(begin, names.ends[i] - begin);
  store.add_new(names.drafts, names.refs.data());
  for (std::size_t i = 0; i < calls.size(); ++i) out[i].local = std::move(names.refs[i]);
  kept = std::move(names);
}

}  // namespace

Routed route_one_now(const AppPtr& app, const DefinitionPtr& definition, CallBytes call) {
  LocalStore* const local = app->local_store();
  if (!local || in_run() || app->runs_here() || !is_simple(*app, *definition, call))
    return std::move(route_now(app, definition, std::vector<CallBytes>(1, std::move(call))).front());
  app->triggers.tell(app->store());
  Routed out{};
  route_simple(*local, *definition, {&call, 1}, &out);
  return out;
}

std::vector<Routed> route_now(const AppPtr& app, const DefinitionPtr& definition, const std::vector<CallBytes>& calls,
                              const std::string& id) {
  Store& store = store_of(*app);
  app->triggers.tell(store);
  LocalStore* const local = app->local_store();
  if (local && id.empty() && !in_run() && !app->runs_here() && !calls.empty() && are_simple(*app, *definition, calls)) {
    std::vector<Routed> out(calls.size());
    route_simple(*local, *definition, calls, out.data());
    return out;
  }
  const auto run = current_run();
  std::map<std::string, std::string> data;
  std::vector<NewInvocation> list = prepared(*app, *definition, calls, run.get(), id, data);
  refuse_other_calls(*app, *definition, calls, list);
  if (run)
    for (const auto& n : list) store.check_cycle(run->id, n.task_id, n.call_id).wait();
  std::vector<Pending<void>> puts;
  for (auto& [hash, content] : data) puts.push_back(store.put_data(hash, std::move(content)));
  for (const auto& put : puts) put.wait();
  std::vector<Added> added;
  if (definition->options.call_result_cache) {
    for (const auto& n : list) added.push_back(add_or_find_kept(*app, store, n));
  } else {
    added = added_by(store.add(std::move(list)));
  }
  auto out = settled(*app, *definition, calls, std::move(added));
  if (app->runs_here()) {
    for (const auto& routed : out)
      if (!routed.reused && (id.empty() || !is_final(store.get(routed.id).wait().status))) run_here(app, routed.id);
    after_changes(app);
  }
  return out;
}

void Batches::add(const std::vector<CallBytes>& batch) {
  if (app_->local_store() || in_run() || app_->runs_here() || !are_simple(*app_, *definition_, batch)) {
    settle(std::exchange(adding_, std::nullopt));
    std::vector<Routed> routed = route_now(app_, definition_, batch);
    std::move(routed.begin(), routed.end(), std::back_inserter(all_));
    return;
  }
  Store& store = store_of(*app_);
  app_->triggers.tell(store);
  std::map<std::string, std::string> none;  // what is large is not simple
  settle(std::exchange(adding_, store.add(prepared(*app_, *definition_, batch, nullptr, {}, none))));
}

void Batches::settle(const std::optional<Pending<std::vector<Added>>>& adding) {
  if (!adding) return;
  for (Added& one : added_by(*adding)) all_.push_back({std::move(one.id), one.reused});
}

Batches::~Batches() {
  if (!adding_) return;
  try {
    leave_alone(*adding_);
  } catch (...) {  // no memory: then it is reported
  }
}

NewInvocation triggered_call(AppCore& app, const TaskDefinition& definition, const CallBytes& call, std::string id) {
  std::map<std::string, std::string> data;
  NewInvocation n = std::move(prepared(app, definition, {call}, nullptr, id, data).front());
  for (auto& [hash, content] : data) store_of(app).put_data(hash, std::move(content)).wait();
  return n;
}

}  // namespace caller::task::detail
