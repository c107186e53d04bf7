// Starting, asking and ending the processes of a cluster.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>

#include <caller/tube/codec.hpp>
#include <caller/tube/registry.hpp>

#include "../spec_search.hpp"
#include "foreign.hpp"
#include "hub.hpp"
#include "program.hpp"

namespace caller::tube {

using namespace detail;
using Clock = std::chrono::steady_clock;
using Hub = ClusterRunner::Hub;

namespace {

std::string listed(const Graph& g, const std::vector<std::uint32_t>& nodes) {
  std::string text;
  for (const std::uint32_t n : nodes) text += (text.empty() ? "\"" : ", \"") + g.nodes[n].id + "\"";
  return text;
}

std::vector<std::string> ids_of(const Graph& g, const std::vector<std::uint32_t>& nodes) {
  std::vector<std::string> ids;
  for (const std::uint32_t n : nodes) ids.push_back(g.nodes[n].id);
  return ids;
}

/// A worker could not build a tube that was built here: its program knows less.
[[noreturn]] void explain(const std::exception_ptr& error, const std::string& nodes, bool own) {
  try {
    std::rethrow_exception(error);
  } catch (const SpecError& e) {
    throw SpecError(e.place(), e.key(),
                    e.message() + " in the process of " + nodes + ", which knows the types " +
                        (own ? "that this program registers before it calls cluster_main()"
                             : "that are built in and those of plugins; a program with others calls cluster_main()"));
  }
}

}  // namespace

/// What every process is told; `self`, `address` and `incarnation` are added.
Map Hub::common_setup() const {
  const Graph& g = runner.impl().graph;
  const Findable found = findable();
  List folders, texts, plugins, enabled;
  for (const auto& folder : found.folders) folders.push_back(folder.string());
  for (const auto& text : found.texts)
    texts.push_back(Map{{"yaml", text.yaml}, {"name", text.name}, {"line", text.first_line}});
  for (const auto& plugin : registry().plugins()) plugins.push_back(plugin.string());
  for (std::uint32_t n = 0; n < g.nodes.size(); ++n) enabled.push_back(runner.impl().core.enabled(n) ? 1 : 0);
  Map setup{{"meeting", meeting->as_map()}, {"runner", endpoint}, {"processes", layout.processes()},
            {"owner", layout.owner},        {"enabled", enabled}, {"epoch", runner.next_epoch()},
            {"folders", folders},           {"texts", texts},     {"plugins", plugins}};
  if (options.program) setup.set("types", types_of(g));
  return setup;
}

template <class Done>
void Hub::wait_for_all(std::string_view what, std::optional<std::chrono::milliseconds> timeout, Done&& done) {
  const Clock::time_point until = Clock::now() + timeout.value_or(std::chrono::milliseconds(0));
  for (;;) {
    (void)receive();
    std::string missing;
    for (std::uint32_t p = 0; p < processes.size(); ++p) {
      Process& process = processes[p];
      if (process.started && !done(process))
        missing += (missing.empty() ? "" : ", ") + listed(runner.impl().graph, layout.nodes[p]);
    }
    if (missing.empty()) return;
    int left = -1;
    if (timeout) {
      left = static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count());
      if (left <= 0)
        throw ProcessError({}, 0, 0, 0,
                           "the tube " + runner.impl().graph.spec.id + ": no answer within " +
                               std::to_string(timeout->count()) + " ms, " + std::string(what) +
                               ", from the process of " + missing);
    }
    wait(left);
  }
}

void Hub::bring_up() {
  const bool first = !context;
  if (first) {
    meeting = make_meeting(options.transport, sockets);
    context.emplace(1);
    socket.emplace(make_socket(*context, zmq::socket_type::router));
    endpoint = listen(*socket, *meeting, "runner", options.address);
    socket_fd = socket->get(zmq::sockopt::fd);
  }
  const bool own = program_is_worker();
  const Map common = common_setup();
  for (std::uint32_t p = 0; p < processes.size(); ++p) {
    Process& process = processes[p];
    if (process.started) continue;
    const ClusterGroup* group = layout.group[p];
    std::vector<std::string> command = group ? group->worker : std::vector<std::string>();
    if (command.empty() && options.program) {
      if (!process.program) process.program = options.program(ids_of(runner.impl().graph, layout.nodes[p]));
      command = process.program->worker;
    }
    if (command.empty()) command = options.worker;
    if (command.empty()) command.push_back(own ? "/proc/self/exe" : find_worker());
    if (process.child.pid() != 0) ++process.incarnation;
    process.route = std::to_string(p) + "." + std::to_string(process.incarnation);
    process.endpoint.clear();
    process.failed = nullptr;
    process.opened = false;
    Map setup = common;
    setup.set("self", p);
    setup.set("incarnation", process.incarnation);
    setup.set("address", group && !group->address.empty() ? group->address : options.address);
    if (process.program && !process.program->payload.empty()) setup.set("payload", process.program->payload);
    process.child = start_node(command, to_cbor(setup) + tube_bytes);
    process.started = true;
  }
  wait_for_all("to its start", options.start_timeout, [](const Process& p) { return !p.endpoint.empty() || p.failed; });
  for (std::uint32_t p = 0; p < processes.size(); ++p) {
    Process& process = processes[p];
    if (!process.failed) continue;
    if (process.started) send(p, zmq::message_t(message(Message::stop)));
    process.child.leave(options.stop_timeout);
    process.child.stop(std::chrono::milliseconds(100));
    process.started = false;
    explain(std::exchange(process.failed, nullptr), listed(runner.impl().graph, layout.nodes[p]), own);
  }
  if (lost_error) throw_lost();
  ++round;
  List endpoints;
  for (const Process& process : processes) endpoints.push_back(process.endpoint);
  broadcast(message(Message::announce, Map{{"round", round}, {"endpoints", endpoints}}));
  wait_for_all("that its peers can reach it", options.start_timeout,
               [&](const Process& p) { return p.answered_round == round; });
  if (lost_error) throw_lost();
}

void Hub::open_nodes() {
  std::string start = message(Message::start, Map{});
  for (std::uint32_t p = 0; p < processes.size(); ++p) {
    if (processes[p].opened) continue;
    processes[p].answer.reset();
    send(p, zmq::message_t(start));
  }
  wait_for_all("to opening its nodes", std::nullopt, [](const Process& p) { return p.opened || p.answer; });
  std::exception_ptr error;
  for (Process& process : processes) {
    if (process.opened || !process.answer) continue;
    if (const Value* e = process.answer->find("error")) {
      if (!error) error = error_from(*e);
    } else {
      process.opened = true;
    }
  }
  if (lost_error && !options.restart) throw_lost();
  if (error) {
    close_nodes();
    std::rethrow_exception(error);
  }
}

void Hub::close_nodes() noexcept {
  // When a process is lost, what the others compute is wanted by nobody, and may be without end.
  std::optional<std::chrono::milliseconds> patience;
  if (!complete()) patience = options.stop_timeout / 4;
  try {
    const std::string text = message(Message::deinit, Map{});
    for (std::uint32_t p = 0; p < processes.size(); ++p) {
      if (!processes[p].opened || !processes[p].started) continue;
      processes[p].answer.reset();
      send(p, zmq::message_t(text));
    }
    wait_for_all("to closing its nodes", patience, [](const Process& p) { return !p.opened || p.answer; });
  } catch (const std::exception& e) {
    warn("closing the nodes of the tube " + runner.impl().graph.spec.id + ": " + e.what());
    for (Process& process : processes) {
      if (!process.started || !process.opened || process.answer) continue;
      process.child.stop(std::chrono::milliseconds(0));
      process.started = false;
    }
  }
  for (Process& process : processes) process.opened = false;
  if (lost_error) {
    try {
      throw_lost();
    } catch (const std::exception& e) {
      warn(e.what());
    }
  }
}

void Hub::set_enabled(std::uint32_t node, bool on) {
  const std::string text = message(Message::enable, Map{{"node", node}, {"on", on}});
  for (std::uint32_t p = 0; p < processes.size(); ++p) {
    processes[p].answer.reset();
    if (processes[p].started) send(p, zmq::message_t(text));
  }
  wait_for_all("to a change of nodes", std::nullopt, [](const Process& p) { return p.answer.has_value(); });
  if (lost_error && !options.restart) throw_lost();
  for (const Process& process : processes)
    if (process.answer)
      if (const Value* e = process.answer->find("error")) std::rethrow_exception(error_from(*e));
}

std::vector<ClusterProcess> Hub::ask_all() {
  const std::string text = message(Message::query);
  for (std::uint32_t p = 0; p < processes.size(); ++p) {
    processes[p].answer.reset();
    if (processes[p].started) send(p, zmq::message_t(text));
  }
  wait_for_all("to how it stands", std::nullopt, [](const Process& p) { return p.answer.has_value(); });
  const Graph& g = runner.impl().graph;
  std::vector<ClusterProcess> found;
  for (std::uint32_t p = 0; p < processes.size(); ++p) {
    const Process& process = processes[p];
    ClusterProcess one;
    for (const std::uint32_t n : layout.nodes[p]) one.nodes.push_back(g.nodes[n].id);
    one.pid = process.child.pid();
    one.running = process.started;
    one.endpoint = process.endpoint;
    one.restarts = process.incarnation;
    if (process.answer) {
      const auto number = [&](const char* key) { return process.answer->at(key).to<std::uint64_t>(); };
      one.received = number("received");
      one.messages = number("messages");
      one.sent = number("sent");
      one.open_most = number("open_most");
      one.held_most = number("held_most");
    }
    found.push_back(std::move(one));
  }
  return found;
}

bool Hub::complete() const {
  return std::all_of(processes.begin(), processes.end(), [](const Process& p) { return p.started; });
}
void Hub::replace_lost() {
  if (!context || complete()) return;
  bring_up();
  if (runner.running()) open_nodes();
}

void Hub::shut_down() noexcept {
  if (!context) return;
  try {
    for (std::uint32_t p = 0; p < processes.size(); ++p)
      if (processes[p].started && !processes[p].route.empty()) send(p, zmq::message_t(message(Message::stop)));
  } catch (const std::exception&) {  // they see their channel close
  }
  const Clock::time_point until = Clock::now() + options.stop_timeout;
  for (Process& process : processes) {
    if (process.endpoint.empty()) continue;  // it does not hear yet: the end of its channel ends it
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now());
    process.child.leave(std::max(left, std::chrono::milliseconds(0)));
  }
  for (Process& process : processes) {
    process.child.stop(std::chrono::milliseconds(100));
    process.started = process.opened = false;
  }
  lost_error = nullptr;
  socket.reset();
  context.reset();
  socket_fd = -1;
  sockets.remove();
}

}  // namespace caller::tube
