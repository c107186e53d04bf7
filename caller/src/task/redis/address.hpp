// Where a Redis server is, and as whom we come. Internal to this folder.
#pragma once

#include <string>

namespace caller::task::redis {

struct Address {
  std::string path;  ///< of a unix socket; empty: TCP
  std::string host;
  std::string port = "6379";
  std::string user, password;
  int database = 0;
  std::string shown;  ///< for people: without the password
};

/// `redis://[user:password@]host[:port][/database]` or `unix://[user:password@]/path[?db=database]`; what is special in
/// a name or password is written as %XX. Errors: ConfigError, which says what is wrong.
Address parse_address(const std::string& url);

/// The name of an application as a part of keys: whatever it is, it cannot leave its place there, nor mean a pattern.
std::string escaped(const std::string& app_id);

}  // namespace caller::task::redis
