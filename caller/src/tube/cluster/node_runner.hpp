// The nodes of one process of a cluster.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <caller/tube/cluster.hpp>

#include "../runner_impl.hpp"

namespace caller::tube::detail {

/// The runner of the nodes that live here. The hooks are those of TubeRunner.
class NodeRunner final : public TubeRunner {
public:
  NodeRunner(Tube tube, std::vector<std::uint8_t> elsewhere);
  ~NodeRunner() override;
  Impl& state() const noexcept { return impl(); }
  /// Calls the node; its values are in the frame. False if it is a source that has ended.
  bool call(Frame& frame, Firing& firing, const Ready& ready);
  /// deinit(), whatever it does.
  void close();
  /// Calls `body`, by the hook of the program if it has one.
  void guarded(const std::function<void()>& body) const;
  const WorkerHooks* hooks = nullptr;
  using TubeRunner::handle_events;

protected:
  const char* class_name() const noexcept override;
  void call_node(Firing& firing) override;
};

}  // namespace caller::tube::detail
