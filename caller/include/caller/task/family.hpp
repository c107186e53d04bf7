// An invocation and all that came of it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <caller/coro.hpp>
#include <caller/export.hpp>
#include <caller/task/store.hpp>

namespace caller::task {

/// A member of a family: an invocation as it stands, and how far below the first one it is.
struct Relative {
  InvocationRecord record;              ///< as it stands
  std::size_t depth = 0;                ///< below the first one
  std::vector<HistoryEntry> history{};  ///< if it was asked for
};

/// The invocation `id`, its children, theirs, and so on, each behind its parent, siblings in the order of their calls.
///
/// `most`: of the store's newest invocations so many are looked at; 0: all since that one's call. `histories`: of so
/// many members the history is read, too.
/// Thread-safety: any thread. Cancel-safety: reads only. Errors: InvocationNotFoundError, StateBackendError.
/// Source: pynenc's family tree.
CALLER_API std::vector<Relative> family(Store& store, const std::string& id, std::size_t most = 10'000,
                                        std::size_t histories = 0);
/// The same for coroutines; the store must live until it is done.
CALLER_API Coro<std::vector<Relative>> async_family(Store& store, std::string id, std::size_t most = 10'000,
                                                    std::size_t histories = 0);

}  // namespace caller::task
