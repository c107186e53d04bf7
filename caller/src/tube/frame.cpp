// One call of a node: where its arguments come from, and what it may ask.
#include <algorithm>
#include <string>
#include <utility>

#include "runner_impl.hpp"

namespace caller::tube {
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

}  // namespace detail

const std::string& Firing::node_id() const noexcept { return frame_.plan->id; }
Epoch Firing::epoch() const { return frame_.epoch(); }
Node& Firing::node() const noexcept { return *frame_.node; }
Call& Firing::call() const noexcept { return *frame_.call; }

}  // namespace caller::tube
