#include <caller/context.hpp>

#include <utility>

#include "core.hpp"

namespace caller::detail {

std::uint64_t new_context_key() noexcept {
  static std::atomic<std::uint64_t> next{kFirstUserKey};
  return next.fetch_add(1, std::memory_order_relaxed);
}

namespace {
/// What a plain thread has set goes with the thread.
struct ContextOwner {
  void touch() const noexcept {}
  ~ContextOwner() { release(std::exchange(this_thread().context, nullptr)); }
};
thread_local ContextOwner context_owner;
}  // namespace

ContextNode* make_context_node(std::uint64_t key, std::shared_ptr<void> value, ContextNode* next) {
  context_owner.touch();
  auto* node = new ContextNode;
  node->key = key;
  node->value = std::move(value);
  node->next = retain(next);
  node->group = next ? next->group : nullptr;
  return node;
}

void release_context_slow(ContextNode* node) noexcept {
  // Iterative: a loop that sets a variable a million times makes a chain that long.
  while (node) {
    ContextNode* next = node->next;
    delete node;
    if (!next || next->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    node = next;
  }
}

ContextNode* current_context() noexcept { return this_thread().context; }

void replace_current_context(ContextNode* node) noexcept {
  ContextNode* old = std::exchange(this_thread().context, node);
  release(old);
}

}  // namespace caller::detail
