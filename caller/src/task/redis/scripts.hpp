// The steps of the store in Redis, each of which the server runs as a whole: functions of one library, as a script
// would be made anew for each call. Internal to this folder.
#pragma once

#include <string>

namespace caller::task::redis {

/// A step: a function of the library, or a script that is always sent as a whole.
struct Script {
  std::string function;  ///< empty: `text` is the script
  std::string text;
};

/// Every step takes the application's prefix as its one key; twice, if it may have been done already.
struct Scripts {
  std::string library;  ///< for FUNCTION LOAD
  Script add, add_plain, take, change, code_ended, next, get, history, await, await_all, list, wait_for, check_cycle,
      cancel, heartbeat, forget_runner, runners, recover, purge, release, counts, value, set_value, values, put_data,
      data;
  Script requests;  ///< never later than what is sent after it, as a function that was not found would be
};

/// Made once for the process. Thread-safety: any thread.
const Scripts& scripts();

}  // namespace caller::task::redis
