// The steps of the store in Redis, each one script that the server runs as a whole. Internal to this folder.
#pragma once

#include <string>

namespace caller::task::redis {

/// A script, and its name to the server.
struct Script {
  std::string text;
  std::string sha;  ///< empty: it is always sent as a whole
};

/// Every script takes the application's prefix as its one key.
struct Scripts {
  Script add, take, change, get, history, await, list, wait_for, check_cycle, cancel, heartbeat, forget_runner, runners,
      recover, purge, release, requests, counts, value, set_value, values, put_data, data;
};

/// Made once for the process. Thread-safety: any thread.
const Scripts& scripts();

extern const char* const kPrelude;

}  // namespace caller::task::redis
