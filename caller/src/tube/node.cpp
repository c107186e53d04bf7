#include <caller/caller.hpp>
#include <caller/tube/node.hpp>

namespace caller::tube {

namespace detail {
CallInfo::~CallInfo() = default;
}

Node::~Node() = default;
void Node::init(const RunnerContext&) {}
void Node::deinit(const RunnerContext&) {}
Coro<void> Node::process_async(Call& call) {
  process(call);
  co_return;
}
void Node::run_to_end(Call& call) {
  call_async_from_sync([this, &call]() -> Coro<void> { return process_async(call); });
}

AssetInstance::~AssetInstance() = default;
void AssetInstance::close(const Value&) noexcept {}

}  // namespace caller::tube
