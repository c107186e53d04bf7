// The interface of runners: an epoch from its inputs to its result, and what subclasses may change of it.
#include <caller/tube/runner.hpp>

#include <exception>
#include <stdexcept>

#include <caller/error.hpp>

#include "runner_impl.hpp"
#include "words.hpp"

namespace caller::tube {

using detail::Frame;
using detail::Instance;
using detail::NodePlan;
using detail::Ready;

// ------------------------------------------------------------------------------------------------ results

const Value& Result::value() const {
  if (!value_) throw Error(Errc::no_result, "process() returned nothing");
  return *value_;
}
std::string Result::repr(std::size_t limit) const { return value_ ? value_->repr(limit) : "nothing"; }

// ------------------------------------------------------------------------------------------------ the runner

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
