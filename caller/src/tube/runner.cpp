#include <caller/tube/runner.hpp>

#include <algorithm>
#include <exception>
#include <stdexcept>

#include <caller/error.hpp>
#include <caller/tube/registry.hpp>

#include "runner_impl.hpp"
#include "words.hpp"

namespace caller::tube {

using detail::Cell;
using detail::Frame;
using detail::Instance;
using detail::NodePlan;
using detail::Ready;
using detail::Source;

// ------------------------------------------------------------------------------------------------ results

const Value& Result::value() const {
  if (!value_) throw Error(Errc::no_result, "process() returned nothing");
  return *value_;
}
std::string Result::repr(std::size_t limit) const { return value_ ? value_->repr(limit) : "nothing"; }

// ------------------------------------------------------------------------------------------------ frames

namespace detail {

void Frame::reset(const Ready& r) {
  ready = r;
  plan = &core.graph().nodes[r.node];
  node = nullptr;
  args.resize(plan->args.size());
  std::fill(args.begin(), args.end(), nullptr);
  positional.resize(plan->positional.size());
  std::fill(positional.begin(), positional.end(), nullptr);
  out.resize(plan->signals, Value(no_event));
  for (Value& v : out)  // mostly emptied by who took them
    if (!v.is_no_event()) v = Value(no_event);
  call.emplace(args, positional, out, *this);
}

void Frame::collect() {
  const auto argument = [&](const Source& s) -> const Value* {
    if (s.from == Source::From::asset)
      for (const auto& [asset, value] : assets)
        if (asset == s.index) return &value;
    return core.argument(s, ready.instance, *plan);
  };
  for (std::size_t i = 0; i < args.size(); ++i) args[i] = argument(plan->args[i]);
  for (std::size_t i = 0; i < positional.size(); ++i) positional[i] = argument(plan->positional[i]);
}

EventMap Frame::events() const {
  EventMap map;
  const auto add = [&](std::string name, const Source& s) {
    if (s.from != Source::From::signal) return;
    const Instance* i = ready.instance;
    while (i->region != core.graph().signals[s.index].region) i = i->parent;
    const Cell& c = core.cell(i, s.index);
    if (c.state == Cell::State::present) map.events.emplace_back(std::move(name), core.event_of(i, s.index, c));
  };
  for (std::size_t i = 0; i < plan->args.size(); ++i) add(plan->shape->slot_names[i], plan->args[i]);
  for (std::size_t i = 0; i < plan->positional.size(); ++i)
    add(std::to_string(plan->args.size() + i), plan->positional[i]);
  return map;
}

const RunnerContext& Frame::context() const { return runner.context; }

std::string Frame::describe() const {
  std::string text;
  for (std::size_t i = 0; i < args.size(); ++i)
    if (args[i]) text += (text.empty() ? "" : ", ") + plan->shape->slot_names[i] + "=" + args[i]->repr(60);
  for (const Value* v : positional)
    if (v) text += (text.empty() ? "" : ", ") + v->repr(60);
  return text;
}

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

const std::string& Firing::node_id() const noexcept { return frame_.plan->id; }
Epoch Firing::epoch() const { return frame_.epoch(); }
Node& Firing::node() const noexcept { return *frame_.node; }
Call& Firing::call() const noexcept { return *frame_.call; }

// ------------------------------------------------------------------------------------------------ what runners share

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

// ------------------------------------------------------------------------------------------------ the interface

TubeRunner::TubeRunner(Tube tube) : impl_(std::make_unique<Impl>(*this, std::move(tube))) {}
TubeRunner::~TubeRunner() {
  if (impl_->running) impl_->close();
}

void TubeRunner::init() {
  if (impl_->running) return;
  impl_->open();
  impl_->running = true;
}
void TubeRunner::deinit() {
  if (!impl_->running) return;
  impl_->running = false;
  impl_->close();
}
bool TubeRunner::running() const noexcept { return impl_->running; }
bool TubeRunner::exhausted() const noexcept { return impl_->exhausted; }

Result TubeRunner::process(const Map& inputs) {
  Impl& r = *impl_;
  const Processing processing(r);
  r.check_stream();
  Map checked = validate_input(inputs);
  before_process();
  r.taken.clear();
  // With nothing to wait for in there an epoch can end at once: what it ended as is looked at after.
  Instance* root = r.current = r.core.begin(r.take_inputs(checked));
  Frame& frame = *r.frame;
  Firing firing(frame);
  try {
    r.open_process_assets(root);
    Ready ready;
    while (r.core.next(ready)) {
      frame.reset(ready);
      if (!r.callbacks.empty()) r.notify_ready(frame);
      if (!filter_ready(firing)) {
        r.core.finish(ready, {});
        continue;
      }
      try {
        if (r.core.is_special(ready.node)) {
          r.core.run_special(ready);
          continue;
        }
        frame.node = &get_node(firing);
        if (!frame.plan->node_assets.empty()) r.open_node_assets(frame);
        collect_input(firing);
        before_call_node(firing);
        call_node(firing);
        after_call_node(firing);
        if (frame.call->stream_ended()) {
          r.exhausted = true;
          throw EndOfStream("the source \"" + frame.plan->id + "\" of the tube " + r.graph.spec.id + " has ended");
        }
        handle_events(firing);
        if (!frame.assets.empty()) r.close_node_assets(frame);
      } catch (const EndOfStream&) {
        throw;
      } catch (...) {
        r.close_node_assets(frame);
        r.rethrow_of(frame);
      }
    }
    if (!root->closed)
      throw std::logic_error("the epoch " + r.core.epoch_of(root).str() + " of the tube " + r.graph.spec.id +
                             " stands still");
    after_process();
    Result result = collect_return();
    r.close_process_assets(root);
    r.keep(root);
    r.current = nullptr;
    return result;
  } catch (...) {
    r.close_node_assets(frame);
    root->busy = 0;  // the one that threw, or nobody
    r.core.abandon(root, std::current_exception());
    r.close_process_assets(root);
    r.keep(root);
    r.current = nullptr;
    throw;
  }
}

Generator<Result> TubeRunner::iter(std::optional<std::size_t> n) {
  Impl& r = *impl_;
  const Iteration iteration(impl());
  const bool returns = r.graph.return_node != detail::kNone;
  for (std::size_t i = 0; !n || i < *n; ++i) {
    Result result;
    bool ended = false;
    try {
      std::size_t calls = 0;
      do {
        if (returns && calls++ == max_iter_loops) r.no_result();
        result = process();
      } while (returns && !result);
    } catch (const EndOfStream&) {
      ended = true;
    }
    if (ended) co_return;
    co_yield std::move(result);
  }
}

std::vector<Result> TubeRunner::run(std::size_t n) {
  impl_->check_inputs_for_iteration();
  std::vector<Result> results;
  init();
  const CloseAtEnd close{*this};
  try {
    for (std::size_t i = 0; i < n; ++i)
      if (Result result = process()) results.push_back(std::move(result));
  } catch (const EndOfStream&) {  // the end is no error here
  }
  return results;
}

void TubeRunner::run() {
  impl_->check_inputs_for_iteration();
  init();
  const CloseAtEnd close{*this};
  try {
    for (;;) (void)process();
  } catch (const EndOfStream&) {
  }
}

namespace {
std::uint32_t node_number(const detail::Graph& g, std::string_view id) {
  const std::uint32_t n = g.find(id);
  if (n != detail::kNone) return n;
  std::vector<std::string> ids;
  for (const NodePlan& node : g.nodes) ids.push_back(node.id);
  throw Error(Errc::not_found,
              "the tube " + g.spec.id + " has no node \"" + std::string(id) + "\"" + detail::did_you_mean(id, ids));
}
}  // namespace

void TubeRunner::disable_node(std::string_view id) {
  Impl& r = *impl_;
  const std::uint32_t n = node_number(r.graph, id);
  if (!r.core.enabled(n)) return;
  r.core.enable(n, false);
  if (std::erase(r.opened, n) > 0) r.nodes[n]->deinit(r.context);
}
void TubeRunner::enable_node(std::string_view id) {
  Impl& r = *impl_;
  const std::uint32_t n = node_number(r.graph, id);
  if (r.core.enabled(n)) return;
  if (r.running && r.nodes[n]) {
    r.nodes[n]->init(r.context);
    r.opened.push_back(n);
  }
  r.core.enable(n, true);
}
std::vector<std::string> TubeRunner::enabled_nodes() const {
  std::vector<std::string> ids;
  for (std::uint32_t n = 0; n < impl_->graph.nodes.size(); ++n)
    if (impl_->core.enabled(n)) ids.push_back(impl_->graph.nodes[n].id);
  return ids;
}

std::size_t TubeRunner::add_callback(std::function<void(const Notice&)> callback) {
  impl_->callbacks.emplace_back(impl_->next_callback, std::move(callback));
  impl_->listen();
  return impl_->next_callback++;
}
void TubeRunner::remove_callback(std::size_t number) {
  std::erase_if(impl_->callbacks, [&](const auto& c) { return c.first == number; });
  impl_->listen();
}

EventStore TubeRunner::store() const {
  EventStore store;
  if (impl_->kept) impl_->core.snapshot(impl_->kept, store);
  return store;
}
std::uint64_t TubeRunner::next_epoch() const noexcept { return impl_->core.next_number(); }
RunnerContext TubeRunner::get_context() const { return {class_name(), impl_->graph.spec.id, impl_->graph.inputs}; }
const Tube& TubeRunner::tube() const noexcept { return impl_->tube; }

// ------------------------------------------------------------------------------------------------ the hooks

Map TubeRunner::validate_input(const Map& inputs) {
  const detail::Graph& g = impl_->graph;
  Map checked;
  for (const auto& [name, value] : inputs) {
    const InputSpec* input = g.spec.find_input(name);
    if (!input || input->scope != InputScope::process) {
      warn("the tube " + g.spec.id + " declares no process input \"" + name + "\"; it is ignored");
      continue;
    }
    detail::check_input_type(*input, value);
    checked.set(name, value);
  }
  for (const std::uint32_t i : g.process_inputs) {
    const InputSpec& input = g.spec.input[i];
    if (input.required && !checked.contains(input.id) && !g.inputs.contains(input.id))
      throw InputMissingError("process() of the tube " + g.spec.id + " needs the input \"" + input.id + "\" (" +
                              input.type + ")");
  }
  return checked;
}
void TubeRunner::before_process() {
  if (!impl_->running) init();
}
bool TubeRunner::filter_ready(Firing&) { return true; }
Node& TubeRunner::get_node(Firing& firing) { return *impl_->nodes[firing.frame().ready.node]; }
void TubeRunner::collect_input(Firing& firing) { firing.frame().collect(); }
void TubeRunner::before_call_node(Firing&) {}
void TubeRunner::call_node(Firing& firing) { firing.node().process(firing.call()); }
void TubeRunner::after_call_node(Firing&) {}
void TubeRunner::handle_events(Firing& firing) { impl_->core.finish(firing.frame().ready, firing.frame().out); }
void TubeRunner::after_process() {
  for (auto& [asset, value] : impl_->taken) impl_->core.assets[asset] = std::move(value);
  impl_->taken.clear();
}
Result TubeRunner::collect_return() { return Result(impl_->core.result(impl_->current)); }

SynchronousRunner::SynchronousRunner(Tube tube) : TubeRunner(std::move(tube)) {}
SynchronousRunner::~SynchronousRunner() { deinit(); }
const char* SynchronousRunner::class_name() const noexcept { return "SynchronousRunner"; }

}  // namespace caller::tube
