// The library of functions, put together of the texts in lua/.
#include "scripts.hpp"

#include <caller/task/status.hpp>
#include <caller/task/store.hpp>

#include "../app.hpp"
#include "lua/texts.hpp"

namespace caller::task::redis {

namespace {

/// The table of states, as Lua.
std::string table_of_states() {
  std::string names = "local NAMES = {", runnable = "local RUNNABLE = {", owned = "local OWNED = {",
              final = "local FINAL = {", next = "local NEXT = {";
  for (std::size_t i = 0; i < kStatusCount; ++i) {
    const StatusRule& r = kStatusRules[i];
    const std::string at = "[" + std::to_string(i) + "] = ";
    names += at + "'" + std::string(r.name) + "', ";
    if (r.runnable) runnable += at + "true, ";
    if (r.owned) owned += at + "true, ";
    if (r.final) final += at + "true, ";
    next += at + "{";
    for (std::size_t n = 0; n < kStatusCount; ++n)
      if (may_follow(r.status, static_cast<Status>(n))) next += "[" + std::to_string(n) + "] = true, ";
    next += "}, ";
  }
  std::string out;
  for (const std::string* table : {&names, &runnable, &owned, &final, &next}) out += *table + "}\n";
  const std::pair<const char*, Status> used[] = {{"REGISTERED", Status::registered},
                                                 {"SCHEDULED", Status::scheduled},
                                                 {"CC", Status::concurrency_controlled},
                                                 {"REROUTED", Status::rerouted},
                                                 {"RETRY", Status::retry},
                                                 {"PENDING", Status::pending},
                                                 {"RUNNING", Status::running},
                                                 {"KILLED", Status::killed},
                                                 {"PENDING_RECOVERY", Status::pending_recovery},
                                                 {"RUNNING_RECOVERY", Status::running_recovery},
                                                 {"SUCCESS", Status::success},
                                                 {"FAILED", Status::failed},
                                                 {"CC_FINAL", Status::concurrency_controlled_final},
                                                 {"CANCELLED", Status::cancelled}};
  for (const auto& [name, status] : used)
    out += std::string("local ") + name + " = " + std::to_string(static_cast<int>(status)) + "\n";
  out += "local WATCH, CHANGE = '" + std::string(kWatchKey) + "', '" + std::string(kChangeKey) + "'\n";
  const auto lifetime = std::chrono::microseconds(kChangeLifetime).count();
  out += "local CHANGE_LIFETIME = " + std::to_string(lifetime) + "\n";
  return out;
}

}  // namespace

// The numbers of the states are stored: new ones may only be added behind the others.
static_assert(static_cast<int>(Status::registered) == 0 && static_cast<int>(Status::pending) == 5 &&
              static_cast<int>(Status::running) == 6 && static_cast<int>(Status::success) == 12 &&
              static_cast<int>(Status::cancelled) == 15);

namespace {

/// One step of the library, by its place in `Scripts`.
struct Step {
  Script Scripts::* at;
  const char* name;
  const char* body;
};
constexpr Step kSteps[] = {{&Scripts::add, "add", lua::kAdd},
                           {&Scripts::add_plain, "add_plain", lua::kAddPlain},
                           {&Scripts::take, "take", "return take()\n"},
                           {&Scripts::change, "change", "return change()\n"},
                           {&Scripts::code_ended, "code_ended", lua::kCodeEnded},
                           {&Scripts::next, "next", lua::kNext},
                           {&Scripts::get, "get", lua::kGet},
                           {&Scripts::history, "history", lua::kHistory},
                           {&Scripts::await, "await", lua::kAwait},
                           {&Scripts::await_all, "await_all", lua::kAwaitAll},
                           {&Scripts::list, "list", lua::kList},
                           {&Scripts::wait_for, "wait_for", lua::kWaitFor},
                           {&Scripts::check_cycle, "check_cycle", lua::kCheckCycle},
                           {&Scripts::cancel, "cancel", lua::kCancel},
                           {&Scripts::heartbeat, "heartbeat", lua::kHeartbeat},
                           {&Scripts::forget_runner, "forget_runner", lua::kForgetRunner},
                           {&Scripts::runners, "runners", lua::kRunners},
                           {&Scripts::recover, "recover", lua::kRecover},
                           {&Scripts::purge, "purge", lua::kPurge},
                           {&Scripts::release, "release", lua::kRelease},
                           {&Scripts::counts, "counts", lua::kCounts},
                           {&Scripts::value, "value", lua::kValue},
                           {&Scripts::set_value, "set_value", lua::kSetValue},
                           {&Scripts::values, "values", lua::kListValues},
                           {&Scripts::put_data, "put_data", lua::kPutData},
                           {&Scripts::data, "data", lua::kData}};

Scripts make_scripts() {
  const std::string base = table_of_states() + lua::kPrelude;
  const std::string common = base + lua::kAdding + lua::kValues + lua::kAwaiting + "local function change()" +
                             lua::kChange + "end\n" + lua::kTaking + "local function take()" + lua::kTake + "end\n" +
                             lua::kGiving;
  std::string steps;
  for (const Step& s : kSteps) steps += std::string(s.name) + "\n" + s.body;
  // Libraries of several versions of this one live beside each other, each under a name of its own.
  const std::string prefix = "caller_" + detail::sha1_of(common + steps).substr(0, 12);
  Scripts out;
  out.library = "#!lua name=" + prefix + "\n" + common;
  for (const Step& s : kSteps) {
    Script& script = out.*s.at;
    script.function = prefix + "_" + s.name;
    out.library += "redis.register_function('" + script.function +
                   "', function(keys, arguments)\nbegin(keys, arguments)\n" + s.body + "end)\n";
  }
  out.requests.text = "local given = ARGV\n" + base + "begin(KEYS, given)\n" + lua::kRequests;
  return out;
}

}  // namespace

const Scripts& scripts() {
  static const Scripts all = make_scripts();
  return all;
}

}  // namespace caller::task::redis
