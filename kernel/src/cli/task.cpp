#include "task.hpp"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "jit.hpp"
#include "terminal.hpp"

namespace caller::kernel::cli {

namespace {

using namespace caller::task;
using nlohmann::json;

/// As printable(), for text of several lines.
std::string printable_lines(const std::string& text) {
  std::string out;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    out += (begin ? "\n" : "") + printable(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

std::string dump(const json& value, int indent = -1) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

/// 2026-01-31T12:00:00.123Z
std::string shown(Time at) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(at);
  const std::time_t seconds = std::chrono::system_clock::to_time_t(whole);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[40];
  const auto n = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + n, sizeof text - n, ".%03dZ",
                static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(at - whole).count()));
  return text;
}

Colour colour_of(Status status) {
  switch (status) {
    case Status::success:
      return Colour::green;
    case Status::failed:
      return Colour::red;
    case Status::pending:
    case Status::running:
    case Status::paused:
    case Status::resumed:
      return Colour::blue;
    case Status::retry:
    case Status::killed:
    case Status::pending_recovery:
    case Status::running_recovery:
      return Colour::yellow;
    case Status::cancelled:
    case Status::concurrency_controlled_final:
      return Colour::grey;
    default:
      return Colour::none;
  }
}
Cell shown(Status status) { return {std::string(name(status)), colour_of(status)}; }

/// What `runner start` says about its runner.
void assign_runner(const TaskFlags& flags, Config& config) {
  if (!flags.runner.empty()) config.assign("app.runner", flags.runner);
  if (!flags.slots.empty()) config.assign("runner.slots", flags.slots);
  if (!flags.queues.empty()) {
    ConfigText queues;
    queues.name = "runner.queues";
    queues.items = flags.queues;
    queues.list = true;
    config.assign(std::move(queues));
  }
  ConfigText worker;  // processes of the runner are this program, with the same words
  worker.name = "runner.worker";
  worker.items = {std::filesystem::canonical("/proc/self/exe").string()};
  worker.items.insert(worker.items.end(), flags.words.begin(), flags.words.end());
  worker.list = true;
  config.option(std::move(worker));
}

/// What goes too deep to be written is not read, either.
json read(Format format, const std::string& bytes) {
  json out(json::value_t::discarded);
  try {
    (void)Document(format, bytes);
    out = format == Format::json ? json::parse(bytes, nullptr, false) : json::from_cbor(bytes, true, false);
  } catch (const SerializationError&) {
  }
  if (out.is_discarded()) return "(cannot be read)";
  return out;
}

json value_of(const App& app, std::string bytes, bool whole) {
  if (ClientDataStore::is_reference(bytes)) {
    if (!whole) return "(large)";
    try {
      bytes = app.client_data_store().resolve(std::move(bytes));
    } catch (const UnreadableError& e) {
      return "(" + std::string(e.what()) + ")";
    } catch (const SerializationError&) {
      return "(cannot be read)";
    }
  }
  return read(app.serializer(), bytes);
}

/// `whole`: with large arguments and results, too.
json as_json(const App& app, const InvocationRecord& r, bool whole) {
  json out = {{"id", r.id},
              {"task", r.task_id},
              {"status", std::string(name(r.status))},
              {"arguments", value_of(app, r.args, whole)},
              {"queue", r.queue},
              {"priority", r.priority},
              {"retries", r.retries},
              {"created", shown(r.created)},
              {"changed", shown(r.changed)}};
  if (!r.parent_id.empty()) out["parent"] = r.parent_id;
  if (!r.owner.empty()) out["runner"] = r.owner;
  if (r.status == Status::success) out["result"] = value_of(app, r.result, whole);
  if (r.status == Status::failed) out["exception"] = read(Format::json, r.exception);
  return out;
}

Status status_named(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::toupper(c); });
  if (const auto found = status_of(text)) return *found;
  std::string all;
  for (const auto& rule : kStatusRules) all += (all.empty() ? "" : ", ") + std::string(rule.name);
  throw std::runtime_error("there is no status \"" + printable(text) + "\"; there are " + all);
}

}  // namespace

int runner_start(const TaskFlags& flags) {
  AppOptions options;
  std::unique_ptr<Jit> jit;  // goes after the application
  if (flags.jit) {
    jit = make_jit([](const std::string& text) { complain("caller", printable_lines(text)); });
    options.find_task = [&jit](const App& app, const std::string& task_id) { jit->find(app, task_id); };
  }
  const App app = opened(flags, [&](Config& config) { assign_runner(flags, config); }, std::move(options));
  require_shared(app, true);
  if (!flags.jit && app.task_ids().empty())
    throw std::runtime_error(
        "a runner without tasks has nothing to execute; give a library of them: --app libtasks.so, or --jit for those "
        "of notebooks");
  if (flags.is_worker) {
    worker_main(app);  // does not return
    throw std::runtime_error("a runner of another application started this process; the settings changed meanwhile");
  }
  if (app.conf().runner_name == "sync")
    throw std::runtime_error("a SyncRunner executes the calls of its own process alone; choose another one");
  if (flags.jit && app.conf().runner_name != "thread")
    throw std::runtime_error("--jit compiles into this process, so it needs the thread runner, and not \"" +
                             printable(app.conf().runner_name) + "\"; give --runner thread");
  Runner& runner = app.runner();
  const RunEnd end = runner.run([&] {
    std::cout << "Runner " << runner.id() << " executes tasks of application " << printable(app.app_id()) << " from "
              << printable(app.store().description()) << "; Ctrl-C ends it" << std::endl;
  });
  if (end == RunEnd::drained) return 0;
  complain("caller", end == RunEnd::handed_back
                         ? "what was at work was handed back to the queue"
                         : "something at work did not end when it was asked to; it runs again when the lease is over");
  if (end == RunEnd::abandoned) ::_exit(1);  // nothing that waits for it
  return 1;
}

int runner_list(const TaskFlags& flags) {
  const App app = shared(flags);
  const auto list = app.store().runners().wait();
  if (flags.json) {
    json out = json::array();
    for (const auto& r : list)
      out.push_back({{"id", r.id},
                     {"description", r.description},
                     {"started", shown(r.started)},
                     {"last_heartbeat", shown(r.last_heartbeat)},
                     {"lease_until", shown(r.lease_until)}});
    std::cout << dump(out, 2) << '\n';
    return 0;
  }
  if (list.empty()) {
    std::cout << "No runner of application " << printable(app.app_id())
              << " lives; `caller runner start --app LIB` starts one.\n";
    return 0;
  }
  std::vector<std::vector<Cell>> rows{{"ID", "STARTED", "LAST HEARTBEAT", "DESCRIPTION"}};
  for (const auto& r : list)
    rows.push_back({printable(r.id), shown(r.started), shown(r.last_heartbeat), printable(r.description)});
  print_table(rows);
  return 0;
}

int task_list(const TaskFlags& flags) {
  const App app = shared(flags);
  std::optional<Status> status;
  if (!flags.status.empty()) status = status_named(flags.status);
  const auto list = app.store().list(flags.task_id, status, flags.offset, flags.limit).wait();
  if (flags.json) {
    json out = json::array();
    for (const auto& r : list) out.push_back(as_json(app, r, false));
    std::cout << dump(out, 2) << '\n';
    return 0;
  }
  std::vector<std::vector<Cell>> rows{{"ID", "STATUS", "TASK", "CREATED", "RETRIES"}};
  for (const auto& r : list)
    rows.push_back(
        {printable(r.id), shown(r.status), printable(r.task_id), shown(r.created), std::to_string(r.retries)});
  print_table(rows);
  std::string counts;
  for (const auto& [one, n] : app.store().counts().wait())
    counts += (counts.empty() ? "" : ", ") + std::to_string(n) + " " + std::string(name(one));
  std::cout << (counts.empty() ? "No invocations." : "In all: " + counts) << '\n';
  return 0;
}

int task_show(const TaskFlags& flags) {
  const App app = shared(flags);
  const InvocationRecord r = app.store().get(flags.id).wait();
  json out = as_json(app, r, true);
  out["history"] = json::array();
  for (const auto& h : app.store().history(r.id).wait()) {
    out["history"].push_back({{"status", std::string(name(h.status))}, {"at", shown(h.at)}});
    if (!h.owner.empty()) out["history"].back()["runner"] = h.owner;
  }
  if (flags.json) {
    std::cout << dump(out, 2) << '\n';
    return 0;
  }
  std::vector<std::vector<Cell>> rows;
  for (const char* key : {"id", "task", "status", "arguments", "result", "exception", "parent", "runner", "queue",
                          "priority", "retries", "created", "changed"}) {
    const auto it = out.find(key);
    if (it == out.end()) continue;
    const bool is_text = it->is_string() && std::string_view(key) != "result";
    const std::string text = printable(is_text ? it->get<std::string>() : dump(*it));
    rows.push_back({key, std::string_view(key) == "status" ? shown(r.status) : Cell(text)});
  }
  for (const auto& h : out["history"])
    rows.push_back({"", h["at"].get<std::string>() + " " + h["status"].get<std::string>() +
                            (h.contains("runner") ? " by " + printable(h["runner"].get<std::string>()) : "")});
  print_table(rows);
  return 0;
}

int task_retry(const TaskFlags& flags) {
  const App app = shared(flags);
  for (const auto& id : flags.ids) std::cout << app.retry(id) << '\n';
  return 0;
}

int task_cancel(const TaskFlags& flags) {
  const App app = shared(flags);
  int code = 0;
  for (const auto& id : flags.ids) {
    if (app.store().cancel(id).wait()) continue;
    complain("caller", "invocation " + printable(id) + " has ended already");
    code = 1;
  }
  return code;
}

int task_purge(const TaskFlags& flags) {
  const App app = shared(flags);
  std::optional<std::chrono::nanoseconds> older;
  if (!flags.older_than.empty()) {
    ConfigText time;
    time.name = "--older-than";
    time.items = {flags.older_than};
    time.where = "command line";
    older = ConfigType<std::chrono::nanoseconds>::read(time);
  }
  if (!flags.yes) {
    std::size_t all = 0;
    for (const auto& [status, n] : app.store().counts().wait()) all += n;
    complain("caller", std::string("this would forget ") + (older ? "what ended long ago of " : "all of ") +
                           std::to_string(all) + " invocations of application " + printable(app.app_id()) +
                           "; add --yes to do it");
    return 1;
  }
  std::cout << "Forgot " << app.store().purge(older).wait() << " invocations.\n";
  return 0;
}

int config_show(const TaskFlags& flags) {
  const App app = opened(flags);
  const Config config = app.config();
  if (!flags.section.empty() && !config.knows(flags.section)) {
    std::string all;
    for (const auto& c : config.classes()) all += (all.empty() ? "" : ", ") + c.name;
    throw std::runtime_error("there is no section \"" + printable(flags.section) + "\"; there are " + all);
  }
  auto values = config.show(flags.section);
  if (flags.section.empty() || flags.section == "task")
    for (const auto& id : app.task_ids())
      for (auto& v : config.show("task", id)) values.push_back(std::move(v));
  if (flags.json) {
    json out = json::array();
    for (const auto& v : values)
      out.push_back({{"name", v.name},
                     {"value", v.list ? json(v.items) : json(v.text())},
                     {"source", std::string(name(v.source))},
                     {"where", v.where}});
    std::cout << dump(out, 2) << '\n';
    return 0;
  }
  std::vector<std::vector<Cell>> rows;
  for (const auto& v : values) rows.push_back({printable(v.name), "=", printable(v.text()), printable(v.place())});
  print_table(rows);
  return 0;
}

}  // namespace caller::kernel::cli
