// What a process of nodes does with its epochs: they begin, their nodes run, what these emit is sent, they end.
#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <utility>

#include <caller/tube/codec.hpp>

#include "worker.hpp"

namespace caller::tube::detail {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

namespace {
constexpr std::size_t kBatchBytes = 64 << 10;
constexpr auto kBatchAge = 500us;          // a value waits no longer for others to go with it
constexpr std::uint64_t kTicks = 100'000;  // some 30 to 100 us
constexpr auto kLookEvery = 1ms;           // how often messages are looked for while there is work
}  // namespace

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
