// The request that running code belongs to, as it travels with coroutines, callbacks and threads.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include <caller/context.hpp>

#include "interpreter/interpreter.hpp"
#include "protocol/message.hpp"

namespace caller::kernel {

/// A result kept instead of published: the value of a user expression.
struct Capture {
  bool filled = false;
  json data = json::object();
  json metadata = json::object();
};

/// What a request leaves for the code it runs. Shared by everything the request started, also after its end.
///
/// Thread-safety: `mutex` guards what follows it; the rest does not change once code runs.
/// Errors: none.
/// Source: ipykernel parent header variables; differs: one object, in a context variable.
struct Work {
  Request request;
  int number = 0;  ///< execution count of a cell
  bool silent = false;
  int history_session = 0;  ///< 0: nothing is stored
  std::shared_ptr<Capture> capture;

  std::mutex mutex;
  json payload = json::array();
  std::string input_rest;                   ///< typed and not yet read by std::cin
  std::shared_ptr<CellError> thread_error;  ///< of the first thread it started that did not end well
};
using WorkPtr = std::shared_ptr<Work>;

/// Thread-safety: any thread. Errors: none. Source: none.
ContextVar<WorkPtr>& work_var();

/// The work of the running code; null in a thread that was started without a context.
WorkPtr current_work();

}  // namespace caller::kernel
