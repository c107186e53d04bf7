#include "worker.hpp"

#include <algorithm>
#include <cerrno>
#include <stdexcept>

#include <caller/tube/codec.hpp>
#include <caller/tube/registry.hpp>

#include "foreign.hpp"

namespace caller::tube::detail {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

namespace {
constexpr std::size_t kBatchBytes = 64 << 10;
constexpr auto kBatchAge = 500us;          // a value waits no longer for others to go with it
constexpr std::uint64_t kTicks = 100'000;  // some 30 to 100 us
constexpr auto kLookEvery = 1ms;           // how often messages are looked for while there is work
}  // namespace

// ------------------------------------------------------------------------------------------------ nodes

NodeRunner::NodeRunner(Tube tube, std::vector<std::uint8_t> elsewhere) : TubeRunner(std::move(tube)) {
  impl().elsewhere = std::move(elsewhere);
}
NodeRunner::~NodeRunner() { close(); }
void NodeRunner::close() {
  try {
    guarded([this] { deinit(); });
  } catch (const std::exception& e) {
    warn(std::string("closing nodes failed: ") + e.what());
  }
}
void NodeRunner::guarded(const std::function<void()>& body) const {
  if (hooks && hooks->call)
    hooks->call(body);
  else
    body();
}
void NodeRunner::call_node(Firing& firing) {
  if (hooks && hooks->call)
    hooks->call([&] { TubeRunner::call_node(firing); });
  else
    TubeRunner::call_node(firing);
}
const char* NodeRunner::class_name() const noexcept { return "ClusterRunner"; }

bool NodeRunner::call(Frame& frame, Firing& firing, const Ready& ready) {
  Impl& r = impl();
  frame.reset(ready);
  frame.node = &get_node(firing);
  if (!frame.plan->node_assets.empty()) r.open_node_assets(frame);
  collect_input(firing);
  before_call_node(firing);
  call_node(firing);
  after_call_node(firing);
  return !frame.call->stream_ended();
}

// ------------------------------------------------------------------------------------------------ coming up

Worker::Worker(const Map& setup, const WorkerHooks& hooks)
    : hooks_(hooks),
      meeting_(Meeting::from_map(setup.at("meeting").entries())),
      self_(setup.at("self").to<std::uint32_t>()),
      processes_(setup.at("processes").to<std::size_t>()),
      address_(setup.at("address").as<std::string>()),
      incarnation_(setup.at("incarnation").to<std::size_t>()),
      commands_(make_socket(context_, zmq::socket_type::dealer)),
      events_(make_socket(context_, zmq::socket_type::pull)),
      peers_(processes_) {
  const std::string name = std::to_string(self_) + "." + std::to_string(incarnation_);
  commands_.set(zmq::sockopt::routing_id, name);
  connect(commands_, meeting_, setup.at("runner").as<std::string>());
  add_elsewhere();
  set_warning_handler([this](const std::string& text) {
    const std::lock_guard lock(warnings_mutex_);
    warnings_.push_back(text);
  });
  try {
    endpoint_ = listen(events_, meeting_, name, address_);
    build(setup);
    send(message(Message::identify, Map{{"endpoint", endpoint_}, {"fingerprint", fingerprint(*whole_->graph())}}));
  } catch (...) {
    send(message(Message::identify, Map{{"error", told(std::current_exception())}}));
  }
}
Worker::~Worker() {
  set_warning_handler({});
  commands_.set(zmq::sockopt::linger, 200);
}

void Worker::build(const Map& setup) {
  for (const Value& folder : setup.at("folders").items()) add_search_path(folder.as<std::string>());
  for (const Value& plugin : setup.at("plugins").items()) registry().load_plugin(plugin.as<std::string>());
  if (hooks_.prepare) hooks_.prepare(setup.contains("payload") ? setup.at("payload").as<std::string>() : "");
  if (const Value* types = setup.find("types")) foreign_ = add_foreign_types(types->entries());
  for (const Value& text : setup.at("texts").items())
    (void)define(text["yaml"].as<std::string>(), text["name"].as<std::string>(), text["line"].to<int>());
  whole_ = Tube::from_spec(TubeSpec::from_map(setup.at("spec").entries()), setup.at("inputs").entries());
  const Graph& g = *whole_->graph();
  layout_ = layout_of(g, setup.at("owner").to<std::vector<std::uint32_t>>(), processes_);
  enabled_ = setup.at("enabled").to<std::vector<std::uint8_t>>();
  check_types();
  if (enabled_.size() != g.nodes.size()) throw Error(Errc::wrong_type, "the tube has another number of nodes");
  Projection p = project(g, layout_, self_);
  needed_ = std::move(p.needed);
  std::vector<std::uint8_t> elsewhere;
  for (const std::uint32_t owner : layout_.owner) elsewhere.push_back(owner != self_);
  runner_ = std::make_unique<NodeRunner>(Tube(std::move(p.graph)), std::move(elsewhere));
  runner_->hooks = &hooks_;
  TubeRunner::Impl& r = runner_->state();
  replica_ = std::make_unique<Replica>(r.core, layout_.owner, self_, false);
  granted_ = setup.at("epoch").to<std::uint64_t>();
  replica_->count_from(granted_);
  replica_->on_failed = [this](const Ready& ready, const std::exception_ptr& error) {
    // A map or gather that fails here fails in the runner's process, too, and it says so.
    (void)replica_->give_up(ready.instance->number, error);
  };
  replica_->on_unreadable = [this](const RecordHead& head, const std::exception_ptr& error) {
    report(head, error);
    (void)replica_->give_up(head.epoch, error);
  };
  replica_->on_ended = [this](const RecordHead& head) {
    static const std::exception_ptr end = std::make_exception_ptr(EndOfStream("a source has ended"));
    if (!replica_->give_up(head.epoch, end) && head.epoch >= runner_->next_epoch()) given_up_.insert(head.epoch);
  };
  r.core.on_closed = [this](Instance* root) { closed_.push_back(root); };
  r.core.on_skipped = [this](const Ready& ready) {
    if (layout_.owner[ready.node] != self_) return;
    append(replica_->head_of(ready, RecordHead::Kind::skipped), {}, 0);
  };
  firing_ = std::make_unique<Firing>(*r.frame);
  enable_all();
}

/// Whatever runs here must be more than a description.
void Worker::check_types() const {
  const auto known = [&](const NodePlan& node, const std::string& type, const char* what) {
    if (foreign_.contains(type))
      throw SpecError({}, "nodes." + node.id + ".type", std::string("unknown type ") + what + "\"" + type + "\"");
  };
  const auto check = [&](const auto& self, const Graph& g, const NodePlan& node) -> void {
    known(node, node.type->name, "");
    for (const std::vector<std::uint32_t>* list : {&node.assets_used, &node.node_assets})
      for (const std::uint32_t a : *list) known(node, g.assets[a].type->name, "of asset ");
    if (!node.child) return;
    for (const NodePlan& inner : node.child->nodes) self(self, *node.child, inner);
  };
  if (foreign_.empty()) return;
  for (const std::uint32_t n : layout_.nodes.at(self_)) check(check, *whole_->graph(), whole_->graph()->nodes[n]);
}

Value Worker::told(const std::exception_ptr& error) const {
  return error_value(error, hooks_.where ? hooks_.where(error) : std::vector<std::string>());
}

/// Nodes of others count as enabled if they can run at all, which their own inputs, unknown here, decide.
void Worker::enable_all() {
  const std::vector<std::uint8_t> alive = alive_nodes(*whole_->graph(), enabled_);
  Core& core = runner_->state().core;
  for (std::uint32_t n = 0; n < enabled_.size(); ++n) {
    const bool mine = layout_.owner[n] == self_ || layout_.owner[n] == kEverywhere;
    core.enable(n, needed_[n] && (mine ? enabled_[n] : alive[n]));
  }
}

// ------------------------------------------------------------------------------------------------ messages

void Worker::send(std::string bytes) { commands_.send(taken(bytes), zmq::send_flags::none); }
void Worker::send_warnings() {
  std::vector<std::string> texts;
  {
    const std::lock_guard lock(warnings_mutex_);
    texts.swap(warnings_);
  }
  for (std::string& text : texts) send(message(Message::warning, Map{{"text", std::move(text)}}));
}
void Worker::answer(const char* what, Map content) {
  send_warnings();
  content.set("done", what);
  send(message(Message::status, content));
}
void Worker::report(const RecordHead& where, const std::exception_ptr& error) {
  flush();
  List items;
  for (std::size_t i = 1; i < where.key.size(); ++i) items.push_back(static_cast<std::uint32_t>(where.key[i]));
  send(message(Message::error, Map{{"epoch", where.epoch}, {"items", items}, {"error", told(error)}}));
}

void Worker::run() {
  zmq::pollitem_t items[2] = {{commands_.handle(), 0, ZMQ_POLLIN, 0}, {events_.handle(), 0, ZMQ_POLLIN, 0}};
  bool idle = !replica_;  // who could not build the tube waits to be told to go
  while (!stopping_) {
    if (idle) {
      send_warnings();
      try {
        zmq::poll(items, 2, -1ms);
      } catch (const zmq::error_t& e) {
        if (e.num() != EINTR) throw;
      }
    }
    drain();
    if (!replica_) continue;
    bool more = apply_pending();
    more = work() || more;
    reap();
    more = apply_pending() || more;
    idle = !more;
    if (idle) flush();
  }
  flush();
}

void Worker::drain() {
  last_look_ = Clock::now();
  zmq::message_t m;
  // Commands first: a grant, then what belongs to it.
  for (zmq::socket_t* socket : {&commands_, &events_}) {
    while (!stopping_ && socket->recv(m, zmq::recv_flags::dontwait)) {
      try {
        handle(view(m));
      } catch (const std::exception& e) {  // of nobody who belongs here
        warn(std::string("a message to a process of nodes is passed over: ") + e.what());
      }
    }
    if (replica_ && !stopping_) (void)apply_pending();  // values of epochs that have begun need not be held
  }
}

void Worker::handle(std::string_view bytes) {
  ByteReader reader(bytes);
  const auto kind = static_cast<Message>(reader.byte());
  if (!replica_ && kind != Message::stop) return;
  switch (kind) {
    case Message::stop:
      stopping_ = true;
      break;
    case Message::event:
      handle_events(reader);
      break;
    case Message::ping: {
      const std::uint64_t round = reader.varint();
      heard(round, static_cast<std::uint32_t>(reader.varint()));
      break;
    }
    case Message::announce:
      announce(content_of(reader));
      break;
    case Message::process:
      grant(read_grant(reader));
      break;
    case Message::enable:
    case Message::start:
    case Message::deinit:
      pending_.push_back({kind, {}, content_of(reader)});
      break;
    case Message::epoch_ended:
      give_up(content_of(reader));
      break;
    case Message::query:
      answer("query", Map{{"received", replica_->received},
                          {"messages", messages_},
                          {"sent", sent_},
                          {"open_most", open_most_},
                          {"held_most", replica_->held_most}});
      break;
    default:
      ByteReader::malformed("an unknown message");
  }
}

void Worker::handle_events(ByteReader& reader) {
  ++messages_;
  RecordHead head;
  std::string_view values;
  while (!reader.empty()) {
    read_record(reader, head, values);
    // A peer's message has all that it emitted; what is of no use here is passed over.
    if (head.node >= needed_.size() || !needed_[head.node]) continue;
    if (head.epoch >= granted_ && !layout_.uses_inputs[self_]) {
      // A peer has begun an epoch, so there is one: of single ones nobody else says so.
      grant({head.epoch, 1, {}});
      (void)apply_pending();
    }
    replica_->arrived(head, values);
    replica_->advance();
  }
}

void Worker::announce(const Map& content) {
  round_ = content.at("round").to<std::uint64_t>();
  const List endpoints = content.at("endpoints").items();
  for (const std::uint32_t p : layout_.peers[self_]) {
    const std::string& endpoint = endpoints.at(p).as<std::string>();
    if (!peers_[p] || peers_[p]->endpoint != endpoint) {
      peers_[p].reset();
      Peer& peer = peers_[p].emplace(Peer{endpoint, make_socket(context_, zmq::socket_type::push)});
      connect(peer.socket, meeting_, endpoint);
    }
    std::string ping(1, static_cast<char>(Message::ping));
    write_varint(ping, round_);
    write_varint(ping, self_);
    peers_[p]->socket.send(taken(ping), zmq::send_flags::none);
  }
  round_open_ = true;
  heard(round_, self_);
}

/// The barrier: a node is ready when every peer was heard on the way its values will come.
void Worker::heard(std::uint64_t round, std::uint32_t from) {
  heard_.emplace(round, from);
  if (!round_open_) return;
  for (const std::uint32_t p : layout_.sources[self_])
    if (!heard_.contains({round_, p})) return;
  round_open_ = false;
  heard_.erase(heard_.begin(), heard_.upper_bound({round_, static_cast<std::uint32_t>(processes_)}));
  answer("announce", Map{{"round", round_}});
}

void Worker::give_up(const Map& content) {
  static const std::exception_ptr reason = std::make_exception_ptr(std::runtime_error("the epoch was given up"));
  // A list of single ones, or all before one.
  if (const Value* before = content.find("before")) {
    over_before_ = before->to<std::uint64_t>();
    (void)replica_->give_up_before(over_before_, reason);
  } else {
    for (const Value& v : content.at("epochs").items()) {
      const auto number = v.to<std::uint64_t>();
      if (!replica_->give_up(number, reason) && number >= runner_->next_epoch()) given_up_.insert(number);
    }
  }
  reap();
}

// ------------------------------------------------------------------------------------------------ work

bool Worker::apply_pending() {
  bool any = false;
  while (!pending_.empty()) {
    Pending& p = pending_.front();
    if (p.kind == Message::process) {
      if (open_ > 0 && whole_->graph()->sequential) break;
      begin(p.grant);
      if (p.grant.count == 0) pending_.pop_front();
      any = true;
      continue;
    }
    if (open_ > 0) break;
    const Pending now = std::move(p);
    pending_.pop_front();
    if (now.kind == Message::enable)
      set_enabled(now.content);
    else if (now.kind == Message::start)
      open_nodes();
    else
      close_nodes();
    any = true;
  }
  return any;
}

/// Epochs that this process was not told of have begun, too: what it needs of them is on its way, or it will hear that
/// they were given up.
void Worker::grant(Grant given) {
  const std::uint64_t end = given.first + given.count;
  if (end <= granted_) return;
  given.first = granted_;
  given.count = end - granted_;
  granted_ = end;
  pending_.push_back({Message::process, std::move(given), {}});
}

void Worker::begin(Grant& grant) {
  TubeRunner::Impl& r = runner_->state();
  const std::size_t at_once = r.graph.sequential ? 1 : static_cast<std::size_t>(grant.count);
  for (std::size_t i = 0; i < at_once; ++i, ++grant.first, --grant.count) {
    std::vector<std::optional<Value>> inputs;
    if (!r.graph.process_inputs.empty()) {
      inputs = grant.inputs;
      inputs.resize(r.graph.process_inputs.size());
    }
    ++open_;
    open_most_ = std::max<std::uint64_t>(open_most_, open_);
    Instance* root = replica_->begin(std::move(inputs));
    const bool unwanted = (!given_up_.empty() && given_up_.erase(grant.first) > 0) || grant.first < over_before_;
    if (unwanted || r.exhausted) {
      (void)replica_->give_up(grant.first, std::make_exception_ptr(std::runtime_error("the epoch was given up")));
      continue;
    }
    try {
      runner_->guarded([&] { r.open_process_assets(root); });
    } catch (...) {
      report({RecordHead::Kind::values, grant.first, 0, U"0"}, std::current_exception());
      (void)replica_->give_up(grant.first, std::current_exception());
    }
  }
  replica_->advance();
}

void Worker::set_enabled(const Map& content) {
  const auto n = content.at("node").to<std::uint32_t>();
  const bool on = content.at("on").to<bool>();
  TubeRunner::Impl& r = runner_->state();
  try {
    if (layout_.owner.at(n) == self_ && runner_->running() && r.nodes[n]) {
      if (on) {
        runner_->guarded([&] { r.nodes[n]->init(r.context); });
        r.opened.push_back(n);
      } else if (std::erase(r.opened, n) > 0) {
        runner_->guarded([&] { r.nodes[n]->deinit(r.context); });
      }
    }
  } catch (...) {
    answer("enable", Map{{"error", told(std::current_exception())}});
    return;
  }
  enabled_.at(n) = on;
  enable_all();
  answer("enable");
}

void Worker::open_nodes() {
  try {
    runner_->guarded([this] { runner_->init(); });
    answer("start");
  } catch (...) {
    answer("start", Map{{"error", told(std::current_exception())}});
  }
}
void Worker::close_nodes() {
  runner_->close();
  answer("deinit");
}

/// True if there is more to do.
bool Worker::work() {
  if (!replica_) return false;
  Ready ready;
  while (replica_->next(ready)) {
    fire(ready);
    if (closed_.size() > 64) reap();
    if (batch_.size() >= kBatchBytes) flush();
    // The clock is looked at now and then: nodes may be quicker than a look.
    if (const std::uint64_t tick = ticks(); tick - last_tick_ < kTicks)
      continue;
    else
      last_tick_ = tick;
    const Clock::time_point now = Clock::now();
    if (!batch_.empty() && now - batch_since_ >= kBatchAge) flush();
    if (now - last_look_ >= kLookEvery) return true;
  }
  return false;
}

void Worker::fire(const Ready& ready) {
  TubeRunner::Impl& r = runner_->state();
  Frame& frame = *r.frame;
  try {
    if (r.core.is_special(ready.node)) {  // a gather that nobody else runs
      frame.reset(ready);
      frame.collect();
      const std::uint32_t signal = r.graph.nodes[ready.node].first_signal;
      r.core.run_special(ready);
      const Cell& cell = r.core.cell(ready.instance, signal);
      const Value value = cell.state == Cell::State::present ? cell.value : Value(no_event);
      emit(ready, {&value, 1});
      return;
    }
    if (!runner_->call(frame, *firing_, ready)) {
      r.close_node_assets(frame);
      r.exhausted = true;
      append(replica_->head_of(ready, RecordHead::Kind::ended), {}, 0);
      const std::uint64_t first = ready.instance->number;
      const auto end = std::make_exception_ptr(EndOfStream("a source has ended"));
      for (std::uint64_t n = first; n < r.core.next_number(); ++n) (void)replica_->give_up(n, end);
      return;
    }
    emit(ready, frame.out);
    runner_->handle_events(*firing_);
    if (!frame.assets.empty()) r.close_node_assets(frame);
  } catch (...) {
    fail(ready);
  }
}

void Worker::fail(const Ready& ready) {
  TubeRunner::Impl& r = runner_->state();
  std::exception_ptr error;
  try {
    r.rethrow_of(*r.frame);
  } catch (...) {
    error = std::current_exception();
  }
  r.close_node_assets(*r.frame);
  r.taken.clear();
  report(replica_->head_of(ready, RecordHead::Kind::values), error);
  (void)replica_->give_up(ready.instance->number, error);
}

void Worker::emit(const Ready& ready, std::span<const Value> values) {
  append(replica_->head_of(ready, RecordHead::Kind::values), values,
         runner_->state().graph.nodes[ready.node].first_signal);
}

void Worker::append(const RecordHead& head, std::span<const Value> values, std::uint32_t first_signal) {
  if (batch_.empty()) {
    batch_ += static_cast<char>(Message::event);
    batch_since_ = last_look_;
  }
  const std::size_t before = batch_.size();
  try {
    write_record(batch_, head, [&] {
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::size_t at = batch_.size();
        try {
          write_cbor(batch_, values[i]);
        } catch (const Error& e) {
          batch_.resize(at);
          const std::uint32_t signal = first_signal + static_cast<std::uint32_t>(i);
          const NodePlan& node = whole_->graph()->nodes[head.node];
          if (layout_.must_cross[signal])
            throw Error(Errc::wrong_type, "the signal \"" + node.shape->signals[i].name + "\": " + e.what());
          write_cbor(batch_, Value(Elsewhere{type_name(values[i].type())}));
        }
      }
    });
  } catch (...) {
    batch_.resize(before);
    throw;
  }
  ++sent_;
}

void Worker::flush() {
  if (batch_.size() <= 1) {
    batch_.clear();
    return;
  }
  zmq::message_t m = taken(batch_);
  for (const std::uint32_t p : layout_.peers[self_]) {
    if (!peers_[p]) continue;
    zmq::message_t shared;
    shared.copy(m);  // the bytes are the same ones
    peers_[p]->socket.send(shared, zmq::send_flags::none);
  }
  commands_.send(m, zmq::send_flags::none);
}

/// Epochs that have ended here.
void Worker::reap() {
  TubeRunner::Impl& r = runner_->state();
  while (!closed_.empty()) {
    const std::vector<Instance*> ended = std::exchange(closed_, {});
    for (Instance* root : ended) {
      --open_;
      if (!root->error)
        for (auto& [asset, value] : r.taken) r.core.assets[asset] = std::move(value);
      r.taken.clear();
      r.close_process_assets(root);
      replica_->forget(root);
      r.core.release(root);
    }
  }
}

}  // namespace caller::tube::detail
