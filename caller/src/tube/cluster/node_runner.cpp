#include "node_runner.hpp"

#include <exception>
#include <string>
#include <utility>

namespace caller::tube::detail {

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

}  // namespace caller::tube::detail
