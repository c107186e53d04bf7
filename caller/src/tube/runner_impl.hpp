// What all runners share: nodes at work, assets, and the frame of a call.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <caller/tube/runner.hpp>

#include "core.hpp"

namespace caller::tube {

namespace detail {

inline constexpr std::size_t kReserved = std::size_t{1} << 20;  ///< results that need not be moved

/// One call: where its arguments are, where its values go. Reused from call to call by the thread that runs nodes.
class Frame final : public CallInfo {
public:
  Frame(TubeRunner::Impl& r, Core& c) noexcept : runner(r), core(c) {}
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  void reset(const Ready& r);
  /// Points the arguments at the cells they come from.
  void collect();
  Epoch epoch() const override { return core.epoch_of(ready.instance); }
  EventMap events() const override;
  const RunnerContext& context() const override;
  std::span<const std::string> slot_names() const override { return plan->shape->slot_names; }
  /// `left=3, right=2`, for messages.
  std::string describe() const;

  TubeRunner::Impl& runner;
  Core& core;
  Ready ready{};
  const NodePlan* plan = nullptr;
  Node* node = nullptr;
  std::vector<const Value*> args, positional;
  std::vector<Value> out;
  std::vector<std::pair<std::uint32_t, Value>> assets;  ///< of scope node, made for this call
  std::optional<Call> call;
};

}  // namespace detail

/// A call of process(): one at a time.
struct Processing {
  explicit Processing(TubeRunner::Impl& i);
  ~Processing();
  Processing(const Processing&) = delete;
  Processing& operator=(const Processing&) = delete;
  TubeRunner::Impl& impl;
};
/// A runner that is iterated: one iteration at a time, and the runner is closed at its end.
struct Iteration {
  explicit Iteration(TubeRunner::Impl& i);
  ~Iteration();
  Iteration(const Iteration&) = delete;
  Iteration& operator=(const Iteration&) = delete;
  TubeRunner::Impl& impl;
};
/// Closes a runner that run() has opened.
struct CloseAtEnd {
  TubeRunner& runner;
  ~CloseAtEnd() { runner.deinit(); }
};

struct TubeRunner::Impl {
  Impl(TubeRunner& runner, Tube tube);
  ~Impl();

  void open();
  void close() noexcept;
  void make_nodes();
  /// Process inputs in the order of the graph. Errors: InputMissingError, Error(wrong_type).
  std::vector<std::optional<Value>> take_inputs(const Map& checked) const;
  void open_process_assets(detail::Instance* root);
  void close_process_assets(detail::Instance* root) noexcept;
  void open_node_assets(detail::Frame& frame);
  void close_node_assets(detail::Frame& frame) noexcept;
  /// Keeps the epoch that has ended for store(), and frees the one kept before.
  void keep(detail::Instance* root);
  /// The exception in flight as one that says where it arose; what is no std::exception leaves as it is.
  [[noreturn]] void rethrow_of(const detail::Frame& frame);
  void notify(const Notice& notice);
  void notify_ready(const detail::Frame& frame);
  void listen();
  void check_inputs_for_iteration() const;
  [[noreturn]] void no_result() const;
  /// Errors: EndOfStream if a source has ended before.
  void check_stream() const;

  TubeRunner& runner;
  Tube tube;
  const detail::Graph& graph;
  detail::Core core;
  std::vector<std::unique_ptr<Node>> nodes;
  std::vector<std::unique_ptr<AssetInstance>> assets;
  std::vector<std::pair<std::uint32_t, Value>> taken;  ///< what assets take over at the end of the epoch
  RunnerContext context;
  std::vector<std::uint32_t> opened;  ///< nodes that are open, in order
  std::vector<std::pair<std::size_t, std::function<void(const Notice&)>>> callbacks;
  std::size_t next_callback = 0;
  detail::Instance* kept = nullptr;
  detail::Instance* current = nullptr;  ///< the epoch of process(), on one thread
  bool running = false;
  bool in_process = false;
  bool iterating = false;
  bool exhausted = false;
  std::vector<std::uint8_t> elsewhere;  ///< nodes that live in other processes; empty: none
  std::unique_ptr<detail::Frame> frame;
};

}  // namespace caller::tube
