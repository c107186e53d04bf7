// What all runners share: nodes and assets are made, opened and closed, listeners told, errors named.
#include "runner_impl.hpp"

#include <exception>

#include <caller/error.hpp>
#include <caller/tube/registry.hpp>

namespace caller::tube {

using detail::Cell;
using detail::Frame;
using detail::Instance;
using detail::NodePlan;

namespace detail {
namespace {

/// A tube as a node of another: a runner of its own on the same thread.
class TubeNode final : public Node {
public:
  explicit TubeNode(std::shared_ptr<const Graph> graph) : runner_(Tube(graph)), names_(names_of(*graph)) {}
  void init(const RunnerContext&) override { runner_.init(); }
  void deinit(const RunnerContext&) override { runner_.deinit(); }
  void process(Call& call) override {
    Map inputs;
    const auto slots = call.slot_names();
    for (std::size_t i = 0; i < slots.size(); ++i)
      if (const Value* v = call.arg(i)) inputs.set(slots[i], *v);
    Result result;
    try {
      result = runner_.process(inputs);
    } catch (const EndOfStream&) {
      call.end_stream();
      return;
    }
    if (!result) return;
    if (names_.empty()) {
      call.emit(0, *result);
      return;
    }
    // With positional ones besides, the map is the second part.
    const Value keyed = result.value().kind() == Kind::map ? result.value() : result[1];
    for (std::size_t i = 0; i < names_.size(); ++i)
      if (const Map* map = keyed.find<Map>())
        if (const Value* v = map->find(names_[i])) call.emit(i, *v);
  }

private:
  static std::vector<std::string> names_of(const Graph& g) {
    std::vector<std::string> names;
    if (!g.return_is_scalar)
      for (const ReturnPlan& r : g.returns)
        if (!r.key.empty()) names.push_back(r.key);
    return names;
  }
  SynchronousRunner runner_;
  std::vector<std::string> names_;
};

}  // namespace
}  // namespace detail

TubeRunner::Impl::Impl(TubeRunner& r, Tube t)
    : runner(r), tube(std::move(t)), graph(*tube.graph()), core(tube.graph()) {
  frame = std::make_unique<Frame>(*this, core);
  for (const detail::AssetPlan& plan : graph.assets) assets.push_back(plan.type->make(plan.params));
  core.on_kept = [this](std::uint32_t signal, const Value& value) {
    for (std::uint32_t a = 0; a < graph.assets.size(); ++a)
      if (graph.assets[a].keeps == signal) taken.emplace_back(a, graph.assets[a].copies ? value.deep_copy() : value);
  };
}
TubeRunner::Impl::~Impl() = default;

namespace {
/// Calls `body`. What it throws keeps its type, so a warning says whose it is.
template <class Body>
void named(const detail::Graph& g, const std::string& what, const std::string& id, const std::string& type,
           const char* done, Body&& body) {
  try {
    body();
  } catch (...) {
    warn("the " + what + " \"" + id + "\" (" + type + ") of the tube " + g.spec.id + " cannot be " + done);
    throw;
  }
}
}  // namespace

void TubeRunner::Impl::make_nodes() {
  if (!nodes.empty()) return;
  std::vector<std::unique_ptr<Node>> made(graph.nodes.size());  // a constructor that throws leaves none of them
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const NodePlan& plan = graph.nodes[n];
    if (!elsewhere.empty() && elsewhere[n]) continue;
    if (plan.child)
      made[n] = std::make_unique<detail::TubeNode>(plan.child);
    else if (plan.special == NodeType::Special::none)
      named(graph, "node", plan.id, plan.type->name, "made", [&] { made[n] = plan.type->make(plan.params); });
  }
  nodes = std::move(made);
}

void TubeRunner::Impl::open() {
  context = {runner.class_name(), graph.spec.id, graph.inputs};
  make_nodes();
  try {
    for (std::uint32_t a = 0; a < graph.assets.size(); ++a)
      if (const detail::AssetPlan& plan = graph.assets[a]; plan.scope == AssetScope::runner)
        named(graph, "asset", plan.id, plan.type->name, "opened", [&] { core.assets[a] = assets[a]->open(context); });
    for (std::uint32_t n = 0; n < nodes.size(); ++n) {
      if (!nodes[n] || !core.enabled(n)) continue;
      const NodePlan& plan = graph.nodes[n];
      named(graph, "node", plan.id, plan.type->name, "opened", [&] { nodes[n]->init(context); });
      opened.push_back(n);
    }
  } catch (...) {
    close();
    throw;
  }
}

void TubeRunner::Impl::close() noexcept {
  for (; !opened.empty(); opened.pop_back()) {
    const std::uint32_t n = opened.back();
    try {
      nodes[n]->deinit(context);
    } catch (const std::exception& e) {
      warn("closing the node \"" + graph.nodes[n].id + "\" of the tube " + graph.spec.id + " failed: " + e.what());
    }
  }
  for (std::size_t a = graph.assets.size(); a-- > 0;) {
    if (graph.assets[a].scope != AssetScope::runner || core.assets[a].is_none()) continue;
    assets[a]->close(core.assets[a]);
    core.assets[a] = Value();
  }
}

std::vector<std::optional<Value>> TubeRunner::Impl::take_inputs(const Map& checked) const {
  std::vector<std::optional<Value>> taken_inputs(graph.process_inputs.size());
  for (std::size_t i = 0; i < taken_inputs.size(); ++i) {
    const InputSpec& input = graph.spec.input[graph.process_inputs[i]];
    if (const Value* v = checked.find(input.id))
      taken_inputs[i] = *v;
    else if (const Value* outer = graph.inputs.find(input.id))
      taken_inputs[i] = *outer;
  }
  return taken_inputs;
}

void TubeRunner::Impl::open_process_assets(Instance* root) {
  for (std::uint32_t a = 0; a < graph.assets.size(); ++a)
    if (graph.assets[a].scope == AssetScope::process) root->assets[a] = assets[a]->open(context);
}
void TubeRunner::Impl::close_process_assets(Instance* root) noexcept {
  for (std::size_t a = root->assets.size(); a-- > 0;)
    if (graph.assets[a].scope == AssetScope::process && !root->assets[a].is_none()) assets[a]->close(root->assets[a]);
}
void TubeRunner::Impl::open_node_assets(Frame& f) {
  for (const std::uint32_t a : f.plan->node_assets) f.assets.emplace_back(a, assets[a]->open(context));
}
void TubeRunner::Impl::close_node_assets(Frame& f) noexcept {
  for (; !f.assets.empty(); f.assets.pop_back()) assets[f.assets.back().first]->close(f.assets.back().second);
}

void TubeRunner::Impl::keep(Instance* root) {
  if (kept) core.release(kept);
  kept = root;
}

void TubeRunner::Impl::rethrow_of(const Frame& f) {
  try {
    throw;
  } catch (const PendingCancelled&) {
    throw;
  } catch (const std::exception& e) {
    const std::string epoch = f.epoch().str(), inputs = f.describe();
    NodeError error(f.plan->id, epoch, e.what(),
                    "the node \"" + f.plan->id + "\" (" + f.plan->type->name + ") of the tube " + graph.spec.id +
                        " failed in epoch " + epoch + (inputs.empty() ? "" : " with " + inputs) + ": " + e.what());
    if (!callbacks.empty())
      notify(MetaEvent{MetaEvent::Type::error, std::chrono::system_clock::now(), f.plan->id, f.epoch(), e.what()});
    std::throw_with_nested(std::move(error));
  }
}

void TubeRunner::Impl::notify(const Notice& notice) {
  for (const auto& [number, callback] : callbacks) callback(notice);
}
void TubeRunner::Impl::notify_ready(const Frame& f) {
  notify(MetaEvent{MetaEvent::Type::node_ready, std::chrono::system_clock::now(), f.plan->id, f.epoch(), {}});
}
void TubeRunner::Impl::listen() {
  if (callbacks.empty()) {
    core.on_event = nullptr;
    core.on_closed = nullptr;
    return;
  }
  core.on_event = [this](const Instance* i, std::uint32_t signal, const Cell& c) {
    notify(core.event_of(i, signal, c));
  };
  core.on_closed = [this](Instance* i) {
    notify(MetaEvent{MetaEvent::Type::epoch_ended, std::chrono::system_clock::now(), {}, core.epoch_of(i), {}});
  };
}

void TubeRunner::Impl::check_inputs_for_iteration() const {
  for (const std::uint32_t i : graph.process_inputs) {
    const InputSpec& input = graph.spec.input[i];
    if (input.required && !graph.inputs.contains(input.id))
      throw InputMissingError("the tube " + graph.spec.id + " needs the input \"" + input.id +
                              "\" with each call of process(): iter() and run() cannot give it");
  }
}

void TubeRunner::Impl::no_result() const {
  throw Error(Errc::no_result, "the tube " + graph.spec.id + " gave no result in " +
                                   std::to_string(runner.max_iter_loops) + " calls of process() (max_iter_loops)");
}

void TubeRunner::Impl::check_stream() const {
  if (exhausted) throw EndOfStream("the tube " + graph.spec.id + ": a source has ended");
}

Processing::Processing(TubeRunner::Impl& i) : impl(i) {
  if (i.in_process) throw TubeRunningError("process() of the tube " + i.graph.spec.id + " was called while it runs");
  i.in_process = true;
}
Processing::~Processing() { impl.in_process = false; }

Iteration::Iteration(TubeRunner::Impl& i) : impl(i) {
  if (i.iterating) throw TubeRunningError("the tube " + i.graph.spec.id + " is being iterated already");
  i.check_inputs_for_iteration();
  i.iterating = true;
  try {
    i.runner.init();
  } catch (...) {
    i.iterating = false;
    throw;
  }
}
Iteration::~Iteration() {
  impl.iterating = false;
  impl.runner.deinit();
}

}  // namespace caller::tube
