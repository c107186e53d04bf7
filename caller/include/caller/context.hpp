// Context variables: values that travel with the work.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include <caller/export.hpp>

namespace caller {

namespace detail {

struct TrackerLink;

/// One link of an immutable chain. `group` caches the innermost PendingGroup or PendingTracker in force.
struct ContextNode {
  std::atomic<std::uint32_t> refs{1};
  std::uint64_t key = 0;
  ContextNode* next = nullptr;
  TrackerLink* group = nullptr;  // kept alive by the link that introduced it
  std::shared_ptr<void> value;
};

CALLER_API std::uint64_t new_context_key() noexcept;
/// A new link before those of `next`, without an earlier one of `key`; takes references of its own.
CALLER_API ContextNode* make_context_node(std::uint64_t key, std::shared_ptr<void> value, ContextNode* next);
CALLER_API void release_context_slow(ContextNode* node) noexcept;
/// The running code's chain (borrowed).
CALLER_API ContextNode* current_context() noexcept;
/// Replaces the running code's chain; takes over the reference.
CALLER_API void replace_current_context(ContextNode* node) noexcept;

inline ContextNode* retain(ContextNode* node) noexcept {
  if (node) node->refs.fetch_add(1, std::memory_order_relaxed);
  return node;
}
inline void release(ContextNode* node) noexcept {
  if (node && node->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) release_context_slow(node);
}

}  // namespace detail

/// An immutable set of context-variable values, as it was when captured.
///
/// Everything a call starts inherits the context of the code that made the call: coroutines, callbacks, lanes and
/// `to_thread` included. It is restored on every resume.
///
/// Thread-safety: distinct objects: safe; shared objects: unsafe to assign, safe to read.
/// Errors: none.
/// Source: Python contextvars.Context, as async-kernel uses it.
class Context {
public:
  Context() noexcept = default;
  Context(const Context& other) noexcept : node_(detail::retain(other.node_)) {}
  Context(Context&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
  Context& operator=(Context other) noexcept {
    std::swap(node_, other.node_);
    return *this;
  }
  ~Context() { detail::release(node_); }

  /// The context of the running code. Thread-safety: any thread. Errors: none. Source: contextvars.copy_context.
  static Context current() noexcept { return Context(detail::retain(detail::current_context())); }

  /// Runs `fn` with this context in force; changes `fn` makes stay its own.
  /// Thread-safety: any thread. Errors: what `fn` throws. Source: contextvars.Context.run.
  template <class F>
  decltype(auto) run(F&& fn) const {
    struct Restore {
      detail::ContextNode* saved = detail::retain(detail::current_context());
      ~Restore() { detail::replace_current_context(saved); }
    } restore;
    detail::replace_current_context(detail::retain(node_));
    return std::forward<F>(fn)();
  }

  bool operator==(const Context&) const noexcept = default;

  /// For the runtime: takes over a reference; hands one out.
  explicit Context(detail::ContextNode* node) noexcept : node_(node) {}
  /// a new reference, or null
  detail::ContextNode* share() const noexcept { return detail::retain(node_); }

private:
  detail::ContextNode* node_ = nullptr;
};

/// A variable whose value belongs to the running work rather than to a thread.
///
/// Thread-safety: any thread; a value set is seen by the setting code and by what it starts afterwards.
/// Errors: none. Source: Python contextvars.ContextVar.
template <class T>
class ContextVar {
public:
  ContextVar() : key_(detail::new_context_key()) {}
  ContextVar(const ContextVar&) = delete;
  ContextVar& operator=(const ContextVar&) = delete;

  /// The value in force, or null when none was set. The pointer is valid until the running code sets another, or ends.
  const T* find() const noexcept {
    for (auto* n = detail::current_context(); n; n = n->next)
      if (n->key == key_) return static_cast<const T*>(n->value.get());
    return nullptr;
  }
  /// The value in force, or `fallback` where none is set. Thread-safety: any thread. Errors: none but of copying.
  T get_or(T fallback) const {
    const T* v = find();
    return v ? *v : std::move(fallback);
  }

  /// Sets the value for the running code from here on.
  void set(T value) {
    detail::replace_current_context(
        detail::make_context_node(key_, std::make_shared<T>(std::move(value)), detail::current_context()));
  }

  /// Sets the value until the end of the scope. Must be destroyed by the code that made it.
  class Scope {
  public:
    /// Puts `value` in force.
    Scope(ContextVar& var, T value) : saved_(detail::retain(detail::current_context())) { var.set(std::move(value)); }
    ~Scope() { detail::replace_current_context(saved_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

  private:
    detail::ContextNode* saved_;
  };

private:
  std::uint64_t key_;
};

}  // namespace caller
