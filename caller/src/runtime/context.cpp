#include <caller/context.hpp>

#include <utility>

#include "core.hpp"
#include "tracking.hpp"

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

std::unique_ptr<ContextNode> new_link(std::uint64_t key, std::shared_ptr<void> value) {
  context_owner.touch();
  auto node = std::make_unique<ContextNode>();
  node->key = key;
  node->value = std::move(value);
  return node;
}

ContextNode* without_links(ContextNode* chain, std::uint64_t key) {
  const ContextNode* last = nullptr;
  for (const ContextNode* n = chain; n; n = n->next)
    if (n->key == key) last = n;
  if (!last) return retain(chain);
  ContextNode* top = nullptr;
  ContextNode** end = &top;
  try {
    for (const ContextNode* n = chain; n != last; n = n->next) {
      if (n->key == key) continue;
      *end = new_link(n->key, n->value).release();
      (*end)->group = key == kGroupKey ? nullptr : n->group;
      end = &(*end)->next;
    }
  } catch (...) {
    release(top);
    throw;
  }
  *end = retain(last->next);
  return top;
}

ContextNode* make_context_node(std::uint64_t key, std::shared_ptr<void> value, ContextNode* next) {
  auto node = new_link(key, std::move(value));
  // A value that is replaced goes: work that lasts sets its variables again and again.
  node->next = without_links(next, key);
  node->group = node->next ? node->next->group : nullptr;
  return node.release();
}

void release_context_slow(ContextNode* node) noexcept {
  // Iterative: a chain is as long as there are variables that were set, and nobody says how many.
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
