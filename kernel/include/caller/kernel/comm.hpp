// Comms: messages between a cell's C++ and the code of a page.
#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <caller/coro.hpp>
#include <caller/export.hpp>

namespace caller {

/// What travels on a comm. `data` and `metadata` are the texts of JSON documents, metadata of an object; buffers are
/// bytes, passed on as they are.
///
/// Thread-safety: plain data. Errors: none. Source: Jupyter messaging, comm_open, comm_msg, comm_close.
struct CommMessage {
  std::string data = "{}";                ///< a JSON object
  std::string metadata = "{}";            ///< a JSON object
  std::vector<std::string> buffers = {};  ///< bytes beside the JSON
};

/// A function that is called with a message: of a `const CommMessage&` or of nothing, plain or a coroutine
/// (`Coro<void>`). It lives at least as long as its calls.
///
/// Thread-safety: distinct objects: safe. Errors: what it throws appears as an error text of the message. Source: none.
class CommHandler {
public:
  CommHandler() = default;
  /// Takes any of the functions above; a coroutine is awaited by the comm's lane.
  template <class F>
    requires(!std::same_as<std::remove_cvref_t<F>, CommHandler> &&
             (std::invocable<F&, const CommMessage&> || std::invocable<F&>))
  CommHandler(F f) {
    if constexpr (std::invocable<F&, const CommMessage&>) {
      if constexpr (std::same_as<std::invoke_result_t<F&, const CommMessage&>, Coro<void>>)
        awaiting = std::move(f);
      else
        plain = [f = std::move(f)](const CommMessage& m) mutable { f(m); };
    } else {
      // Not a coroutine itself, so the closure that `f` is part of stays where it is.
      if constexpr (std::same_as<std::invoke_result_t<F&>, Coro<void>>)
        awaiting = [f = std::move(f)](const CommMessage&) mutable { return f(); };
      else
        plain = [f = std::move(f)](const CommMessage&) mutable { f(); };
    }
  }

  std::function<void(const CommMessage&)> plain;           ///< set for a plain function
  std::function<Coro<void>(const CommMessage&)> awaiting;  ///< set for a coroutine function
};

/// How a comm is opened. With handlers given here no message can come before them.
///
/// Thread-safety: plain data. Errors: none. Source: ipykernel Comm(…).
struct CommOptions {
  CommMessage message = {};     ///< goes along with the opening
  CommHandler on_message = {};  ///< called with every message of the page
  CommHandler on_close = {};    ///< called when the page closes it
  std::string id = {};          ///< empty: a new one
};

/// One end of a conversation with a page; the other end is the page's object of the same id.
///
/// A handle: copies are the same comm. The comm lives until either side closes it, with or without handles.
///
/// Handlers run on the Caller of the shell that the message came to, one message of a comm after the other, also while
/// a cell awaits; a handler that is a coroutine holds up only its own comm. What they print belongs to the message.
/// Comms of xeus (`<xeus/xcomm.hpp>`) live in the same registry: ids and comm_info are shared.
///
/// Thread-safety: any thread, also on one comm.
/// Cancel-safety: an interrupt ends a running handler; the comm stays open.
/// Errors: std::invalid_argument for data that is no JSON or nested deeper than 500 levels, metadata that is no object,
/// or an id that is taken or longer than 55 bytes. Sending on a closed comm, or outside of a kernel, returns false.
/// Source: ipykernel Comm, xeus xcomm.
class CALLER_API Comm {
public:
  Comm() noexcept = default;  ///< no comm; closed
  /// Opens a comm to what the page registered under this target.
  explicit Comm(const std::string& target, CommOptions options = {});

  const std::string& id() const noexcept;      ///< the same on both sides; empty for no comm
  const std::string& target() const noexcept;  ///< the name under which the page found it
  bool is_open() const noexcept;               ///< neither side has closed it

  /// Sends a message to the page. False: the comm is closed. Errors: std::invalid_argument for what is no JSON
  /// object.
  bool send(const CommMessage& message) const;
  /// The same with data alone.
  bool send(const std::string& data) const { return send(CommMessage{data}); }
  /// Closes it for both sides; the own on_close is not called. False: it was closed already.
  bool close(const CommMessage& message = {}) const;

  /// Replaces the handler. A message that has none is dropped.
  void on_message(CommHandler handler) const;
  /// Called once, when the page closes the comm.
  void on_close(CommHandler handler) const;

  friend bool operator==(const Comm&, const Comm&) = default;

  /// For the runtime.
  struct State;
  /// For the runtime.
  explicit Comm(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}

private:
  std::shared_ptr<State> state_;
};

namespace kernel::detail {
struct TargetHandler {
  std::function<void(Comm, const CommMessage&)> plain;
  std::function<Coro<void>(Comm, const CommMessage&)> awaiting;
};
CALLER_API void set_comm_target(const std::string& name, TargetHandler handler);
}  // namespace kernel::detail

/// Registers what happens when a page opens a comm to `name`: `handler(Comm, const CommMessage&)`, plain or a
/// coroutine.
///
/// It replaces an earlier handler of that name, also one of xeus. If it throws, the comm is closed.
///
/// Thread-safety: any thread. Errors: none. Source: ipykernel CommManager.register_target.
template <class F>
  requires std::invocable<F&, Comm, const CommMessage&>
void comm_target(const std::string& name, F handler) {
  kernel::detail::TargetHandler h;
  if constexpr (std::same_as<std::invoke_result_t<F&, Comm, const CommMessage&>, Coro<void>>)
    h.awaiting = std::move(handler);
  else
    h.plain = [f = std::move(handler)](Comm comm, const CommMessage& m) mutable { f(std::move(comm), m); };
  kernel::detail::set_comm_target(name, std::move(h));
}

/// Forgets a target; comms that are open stay. False: there was none of that name.
/// Thread-safety: any thread. Errors: none. Source: ipykernel CommManager.unregister_target.
CALLER_API bool remove_comm_target(const std::string& name);

}  // namespace caller
