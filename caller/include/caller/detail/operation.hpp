// Work that another library does for a Pending: an Asio operation. For the bridges, not for users.
//
//   1. `begin_operation` gives the state its Core (null: none) and says whether to start at all.
//   2. The operation is started. Its completion settles the state and calls `end_operation`, on any thread.
//   3. `operation_begun`, on the starting thread, makes it work of its Core: a stop cancels and awaits it.
//
// Cancellation calls `suspended->detach`, on the Core's thread (without a Core: on the canceller's); it passes the
// cancellation on and returns false, and may be called again, also after the end: the Suspension is the state's own.
#pragma once

#include <caller/detail/state.hpp>
#include <caller/export.hpp>

namespace caller::detail {

/// False: the Core has stopped, the Pending is cancelled and the operation must not be started. After true
/// `operation_begun` follows in any case, also when starting it threw. `elsewhere`: it does not run in the Core's loop.
/// Leaves two references, the operation's and the handle's; after false only the handle's.
CALLER_API bool begin_operation(PendingState& s, Core* core, bool elsewhere) noexcept;
CALLER_API void operation_begun(PendingState& s) noexcept;
/// What `act` of the state does, but for OpAct::destroy: the state itself is the entry of the queue.
CALLER_API void operation_act(Op* op, OpAct why);
/// Once: the operation has really ended. `due`: what settling said. Gives up the operation's reference.
CALLER_API void end_operation(PendingState& s, bool due) noexcept;
/// From `detach`, for an operation that cannot be cancelled by itself: the Pending ends now; `end_operation` comes when
/// the operation's object ends it. `forsaken` is set, before anybody hears of it, if so; from then on no step of the
/// operation may be taken: it would touch what the awaiting coroutine owned.
CALLER_API void forsake_operation(PendingState& s, bool& forsaken) noexcept;

}  // namespace caller::detail
