// Messages and epochs on the runner's side of a cluster.
#include "hub.hpp"

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <utility>

#include <poll.h>
#include <sched.h>

#include <caller/tube/codec.hpp>

namespace caller::tube {

using namespace detail;
using Hub = ClusterRunner::Hub;

namespace {
constexpr std::size_t kMeasured = 16;  // epochs after which it is known how much one takes
constexpr std::size_t kUnmeasured = 8;
constexpr std::size_t kLeastAhead = 4;
constexpr std::size_t kManyAhead = 512;
using Clock = std::chrono::steady_clock;
constexpr auto kSpin = std::chrono::microseconds(50);
constexpr auto kOthersRun = std::chrono::microseconds(200);  // lent to others, who had more to do than to pass it on
}  // namespace

Hub::Hub(ClusterRunner& owner, ClusterOptions given)
    : runner(owner),
      options(std::move(given)),
      layout(lay_out(owner.impl().graph, options.groups)),
      replica(owner.impl().core, layout.owner, kRunner, true),
      fingerprint(detail::fingerprint(owner.impl().graph)),
      processes(layout.processes()) {
  if (options.max_pending == 0) options.max_pending = 1;
  add_elsewhere();
  Impl& r = runner.impl();
  write_cbor(tube_bytes, Map{{"spec", spec_map(r.graph.spec)}, {"inputs", r.graph.inputs}});
  r.elsewhere.assign(r.graph.nodes.size(), 1);
  r.core.on_kept = nullptr;  // assets live with their nodes
  replica.on_awaited = [this](const Ready& ready) {
    Impl& impl = runner.impl();
    if (impl.callbacks.empty()) return;
    impl.frame->reset(ready);
    impl.notify_ready(*impl.frame);
  };
  replica.on_failed = [this](const Ready& ready, std::exception_ptr error) {
    Impl& impl = runner.impl();
    impl.frame->reset(ready);
    impl.frame->collect();
    try {
      try {
        std::rethrow_exception(error);
      } catch (...) {
        impl.rethrow_of(*impl.frame);
      }
    } catch (...) {
      error = std::current_exception();
    }
    give_up(ready.instance->root, error, true);
  };
  replica.on_unreadable = [this](const RecordHead& head, const std::exception_ptr& error) {
    if (Instance* root = replica.find(head.epoch)) give_up(root, error, true);
  };
  replica.on_ended = [this](const RecordHead& head) { end_stream(head); };
}
Hub::~Hub() { shut_down(); }

// ------------------------------------------------------------------------------------------------ messages

void Hub::send(std::uint32_t process, zmq::message_t message) {
  try {
    socket->send(zmq::buffer(processes[process].route), zmq::send_flags::sndmore);
    socket->send(message, zmq::send_flags::none);
  } catch (const zmq::error_t& e) {
    // It is not there any more; the end of the process says so.
    if (e.num() != EHOSTUNREACH) throw;
  }
}
void Hub::broadcast(std::string text) {
  zmq::message_t whole = taken(text);
  for (std::uint32_t p = 0; p < processes.size(); ++p) {
    if (!processes[p].started) continue;
    zmq::message_t shared;
    shared.copy(whole);
    send(p, std::move(shared));
  }
}

bool Hub::receive() {
  bool any = false;
  zmq::message_t from, body;
  while (socket->recv(from, zmq::recv_flags::dontwait)) {
    (void)socket->recv(body, zmq::recv_flags::dontwait);
    any = true;
    const std::string_view route = view(from);
    std::uint32_t p = 0;
    while (p < processes.size() && processes[p].route != route) ++p;
    if (p == processes.size() || !processes[p].started) continue;  // a process that was given up
    handle(p, view(body));
    run_ready();
  }
  return any;
}

void Hub::wait(int timeout_ms) {
  if (socket->get(zmq::sockopt::events) & ZMQ_POLLIN) return;
  if (timeout_ms < 0 && epochs.size() == 1 && spin.worth_it() && message_is_near()) return;
  std::vector<pollfd> fds{{socket_fd, POLLIN, 0}};
  std::vector<std::uint32_t> watched;
  for (std::uint32_t p = 0; p < processes.size(); ++p) {
    if (!processes[p].started) continue;
    fds.push_back({processes[p].child.watch(), POLLIN, 0});
    watched.push_back(p);
  }
  if (::poll(fds.data(), fds.size(), timeout_ms) <= 0) return;
  bool ended = false;
  for (std::size_t i = 0; i < watched.size(); ++i) ended |= fds[i + 1].revents != 0;
  if (!ended) return;
  (void)receive();  // what it still said comes first
  for (std::size_t i = 0; i < watched.size(); ++i)
    if (fds[i + 1].revents != 0 && processes[watched[i]].child.ended()) lost(watched[i]);
}

/// Looks for a message for a moment, without sleeping: the processor stays awake, and every thread on the way of a
/// single epoch finds one to run on. Others who want this processor get it at once.
bool Hub::message_is_near() {
  const Clock::time_point begin = Clock::now();
  for (Clock::time_point before = begin;;) {
    pollfd one{socket_fd, POLLIN, 0};
    if (::poll(&one, 1, 0) != 0) {
      spin.succeeded();
      return true;
    }
    ::sched_yield();
    const Clock::time_point now = Clock::now();
    if (now - before > kOthersRun) {
      spin.unwelcome();
      return false;
    }
    if (now - begin > kSpin) {
      spin.missed();
      return false;
    }
    before = now;
  }
}

void Hub::pump() {
  if (!receive()) wait(-1);
}

void Hub::handle(std::uint32_t p, std::string_view bytes_of) {
  Process& process = processes[p];
  ByteReader reader(bytes_of);
  switch (static_cast<Message>(reader.byte())) {
    case Message::event:
      handle_events(bytes_of, reader);
      return;
    case Message::identify: {
      const Map content = content_of(reader);
      if (const Value* e = content.find("error")) {
        process.failed = error_from(*e);
        return;
      }
      if (content.at("fingerprint").to<std::uint64_t>() != fingerprint) {
        process.failed = std::make_exception_ptr(
            Error(Errc::invalid_specification, "the program " + std::to_string(process.child.pid()) +
                                                   " that runs nodes of the tube " + runner.impl().graph.spec.id +
                                                   " knows other node types than this one"));
        return;
      }
      process.endpoint = content.at("endpoint").as<std::string>();
      return;
    }
    case Message::status: {
      Map content = content_of(reader);
      if (const Value* number = content.find("round"))
        process.answered_round = number->to<std::uint64_t>();
      else
        process.answer = std::move(content);
      return;
    }
    case Message::error:
      handle_error(content_of(reader));
      return;
    case Message::warning:
      warn(content_of(reader).at("text").as<std::string>());
      return;
    default:
      ByteReader::malformed("an unknown message");
  }
}

void Hub::handle_events(std::string_view all, ByteReader& reader) {
  bytes += all.size();
  RecordHead head;
  std::string_view values;
  while (!reader.empty()) {
    read_record(reader, head, values);
    replica.arrived(head, values);
    run_ready();
  }
}

void Hub::handle_error(const Map& content) {
  Impl& r = runner.impl();
  Instance* root = replica.find(content.at("epoch").to<std::uint64_t>());
  if (!root || root->error || root->closed) return;
  const std::exception_ptr error = error_from(content.at("error"));
  if (!r.callbacks.empty()) {
    try {
      std::rethrow_exception(error);
    } catch (const NodeError& e) {
      Epoch epoch(root->number);
      if (const std::uint32_t n = r.graph.find(e.node()); n != kNone) {
        std::vector<std::uint32_t> maps;
        for (std::uint32_t at = r.graph.nodes[n].region; at != 0; at = r.graph.regions[at].parent)
          maps.insert(maps.begin(), r.graph.regions[at].map);
        const List items = content.at("items").items();
        for (std::size_t i = 0; i < maps.size() && i < items.size(); ++i)
          epoch = epoch / EpochSegment{r.graph.nodes[maps[i]].id, items[i].to<std::uint64_t>()};
      }
      r.notify(MetaEvent{MetaEvent::Type::error, std::chrono::system_clock::now(), e.node(), epoch, e.cause()});
    } catch (...) {
    }
  }
  give_up(root, error, true);
}

// ------------------------------------------------------------------------------------------------ epochs

void Hub::run_ready() {
  Impl& r = runner.impl();
  Ready ready;
  while (replica.next(ready)) {
    // Only a gather of inputs alone lives here.
    try {
      r.frame->reset(ready);
      if (!r.callbacks.empty()) r.notify_ready(*r.frame);
      r.core.run_special(ready);
    } catch (...) {
      replica.on_failed(ready, std::current_exception());
    }
  }
}

std::size_t Hub::window() const {
  if (runner.impl().graph.sequential) return 1;
  if (bytes_per_epoch == 0) return std::min(kUnmeasured, options.max_pending);
  const double fit = static_cast<double>(options.max_bytes) / bytes_per_epoch;
  if (fit >= static_cast<double>(options.max_pending)) return options.max_pending;
  return std::max<std::size_t>(1, static_cast<std::size_t>(fit));
}

void Hub::begin(std::vector<std::optional<Value>> inputs, std::uint64_t count) {
  Impl& r = runner.impl();
  const std::uint64_t first = r.core.next_number();
  std::string with, without;
  if (told.empty()) {
    std::vector<std::uint8_t> enabled(r.graph.nodes.size());
    for (std::uint32_t n = 0; n < enabled.size(); ++n) enabled[n] = r.core.enabled(n);
    told = to_be_told(r.graph, layout, alive_nodes(r.graph, enabled));
  }
  for (std::uint32_t p = 0; p < processes.size(); ++p) {
    // A single epoch is waited for: every message less is a thread less to be woken on its way. Of many, each process
    // learns at once, and can be ready for what comes.
    if (count == 1 && !told[p]) continue;
    std::string& text = layout.uses_inputs[p] ? with : without;
    if (text.empty())
      text = process_message(first, count, layout.uses_inputs[p] ? inputs : std::vector<std::optional<Value>>());
    send(p, zmq::message_t(text));
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    epochs.push_back(replica.begin(i + 1 < count ? inputs : std::move(inputs)));
    run_ready();
  }
}

void Hub::fill(std::size_t in_flight, std::size_t wanted) {
  Impl& r = runner.impl();
  if (r.exhausted) return;
  const std::size_t most = std::min({window(), in_flight, ahead});
  if (epochs.size() >= most || wanted == 0) return;
  const std::size_t room = std::min(most - epochs.size(), wanted);
  // Credit is given by the handful: each gift is a message, and what belongs together travels together. Handfuls are
  // small enough that every process has one while others are on their way.
  if (room < wanted && room * (most < kManyAhead ? 4 : 8) < most) return;
  replace_lost();
  begin(r.take_inputs({}), room);
}

void Hub::give_up(Instance* root, const std::exception_ptr& error, bool tell) {
  const std::uint64_t number = root->number;
  if (!replica.give_up(number, error) || !tell) return;
  broadcast(message(Message::epoch_ended, Map{{"epochs", List{Value(number)}}}));
}

/// A source has ended: its epoch, and those after it, have no result.
void Hub::end_stream(const RecordHead& head) {
  Impl& r = runner.impl();
  r.exhausted = true;
  const auto end = std::make_exception_ptr(EndOfStream("the source \"" + r.graph.nodes.at(head.node).id +
                                                       "\" of the tube " + r.graph.spec.id + " has ended"));
  List numbers;
  for (Instance* root : epochs) {
    if (root->number < head.epoch || !replica.give_up(root->number, end)) continue;
    root->ended_stream = true;
    numbers.push_back(root->number);
  }
  if (!numbers.empty()) broadcast(message(Message::epoch_ended, Map{{"epochs", std::move(numbers)}}));
}

void Hub::start_run() {
  ahead = kUnmeasured;
  ahead_taken = 0;
  ahead_since = std::chrono::steady_clock::now();
}

Result Hub::take() {
  Impl& r = runner.impl();
  while (!epochs.empty() && !epochs.front()->closed) pump();
  if (epochs.empty()) return {};  // lost, and passed over
  Instance* root = epochs.front();
  epochs.pop_front();
  if (++bytes_epochs == kMeasured) {
    bytes_per_epoch = std::max(1.0, static_cast<double>(std::exchange(bytes, 0)) / kMeasured);
    bytes_epochs = 0;
  }
  if (++ahead_taken >= ahead) {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::max(1e-6, std::chrono::duration<double>(now - ahead_since).count());
    const double fits = static_cast<double>(ahead_taken) / seconds / 4;
    ahead = std::clamp(static_cast<std::size_t>(fits), kLeastAhead, std::max(kLeastAhead, 4 * ahead));
    ahead_taken = 0;
    ahead_since = now;
  }
  r.current = root;
  struct Leave {
    Hub& hub;
    Instance* instance;
    ~Leave() {
      Impl& impl = hub.runner.impl();
      hub.replica.forget(instance);
      if (instance->ended_stream)
        impl.core.release(instance);
      else
        impl.keep(instance);
      impl.current = nullptr;
    }
  } leave{*this, root};
  if (root->error) std::rethrow_exception(root->error);
  runner.after_process();
  return runner.collect_return();
}

void Hub::drain() {
  while (std::any_of(epochs.begin(), epochs.end(), [](const Instance* e) { return !e->closed; })) pump();
}

/// Nothing that has begun is wanted any more.
void Hub::drop_all() {
  if (!context) return;
  const auto reason = std::make_exception_ptr(std::runtime_error("the epoch was given up"));
  (void)replica.give_up_before(runner.next_epoch(), reason);
  broadcast(message(Message::epoch_ended, Map{{"before", runner.next_epoch()}}));
  for (; !epochs.empty(); epochs.pop_front()) discard(epochs.front());
}
void Hub::discard(Instance* root) {
  replica.forget(root);
  runner.impl().core.release(root);
}

// ------------------------------------------------------------------------------------------------ losses

void Hub::lost(std::uint32_t p) {
  Impl& r = runner.impl();
  Process& process = processes[p];
  process.started = process.opened = false;
  std::vector<std::string> ids;
  std::string named;
  for (const std::uint32_t n : layout.nodes[p]) {
    ids.push_back(r.graph.nodes[n].id);
    named += (named.empty() ? "\"" : ", \"") + ids.back() + "\"";
  }
  std::vector<Instance*> open;
  for (Instance* root : epochs)
    if (!root->closed) open.push_back(root);
  std::string text = std::string("the process of the node") + (ids.size() > 1 ? "s " : " ") + named + " of the tube " +
                     r.graph.spec.id + " (pid " + std::to_string(process.child.pid()) + ") " + process.child.end_text();
  if (!open.empty()) text += " in epoch " + std::to_string(open.front()->number);
  const auto error = std::make_exception_ptr(
      ProcessError(ids, process.child.pid(), process.child.signal(), process.child.exit_code(), text));
  // Of an epoch that has not ended nobody can say what its process had done: none of it counts.
  (void)replica.give_up_before(r.core.next_number(), error);
  broadcast(message(Message::epoch_ended, Map{{"before", r.core.next_number()}}));
  const bool passed_over = options.restart && free_running;
  for (std::size_t i = 0; i < open.size(); ++i) {
    if (!r.callbacks.empty())
      for (const std::string& id : ids)
        r.notify(
            MetaEvent{MetaEvent::Type::error, std::chrono::system_clock::now(), id, r.core.epoch_of(open[i]), text});
    if (i == 0 && !passed_over) continue;  // the one that take() throws
    std::erase(epochs, open[i]);
    discard(open[i]);
  }
  if (passed_over)
    warn(text + "; it is replaced, and " + std::to_string(open.size()) + " epochs are lost");
  else if (open.empty())
    lost_error = error;
}

void Hub::throw_lost() { std::rethrow_exception(std::exchange(lost_error, nullptr)); }

/// Before an epoch of a call of its own.
void Hub::ensure() {
  wait(0);
  if (lost_error && !options.restart) throw_lost();
  if (lost_error) {
    try {
      throw_lost();
    } catch (const std::exception& e) {
      warn(std::string(e.what()) + "; it is replaced");
    }
  }
  replace_lost();
}

}  // namespace caller::tube
