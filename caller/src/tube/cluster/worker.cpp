// How a process of nodes comes up: it connects, and builds its part of the tube. And its loop.
#include "worker.hpp"

#include <cerrno>
#include <chrono>
#include <exception>
#include <string>
#include <utility>

#include <caller/tube/registry.hpp>

#include "foreign.hpp"

namespace caller::tube::detail {

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

void Worker::run() {
  zmq::pollitem_t items[2] = {{commands_.handle(), 0, ZMQ_POLLIN, 0}, {events_.handle(), 0, ZMQ_POLLIN, 0}};
  bool idle = !replica_;  // who could not build the tube waits to be told to go
  while (!stopping_) {
    if (idle) {
      send_warnings();
      try {
        zmq::poll(items, 2, std::chrono::milliseconds(-1));
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

}  // namespace caller::tube::detail
