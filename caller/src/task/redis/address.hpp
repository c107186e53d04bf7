// Where a Redis server is, and as whom we come. Internal to this folder.
#pragma once

#include <string>

#include <caller/task/redis.hpp>

namespace caller::task::redis {

struct Address {
  std::string path;  ///< of a unix socket; empty: TCP
  std::string host;
  std::string port = "6379";
  std::string user, password;
  int database = 0;
  bool tls = false;
  std::string ca_file;              ///< whom we believe; empty: whom the system believes
  std::string cert_file, key_file;  ///< who we are; empty: nobody in particular
  RedisVerify verify = RedisVerify::full;
  std::string shown;  ///< for people: without the password
};

/// `redis://[user:password@]host[:port][/database]`, `rediss://…[?ca_file=…&cert_file=…&key_file=…&verify=…]` or
/// `unix://[user:password@]/path[?db=database]`; what is special in a name or password is written as %XX. What the
/// address says of TLS goes before the options. Errors: ConfigError, which says what is wrong.
Address parse_address(const RedisOptions& options);

/// The name of an application as a part of keys: whatever it is, it cannot leave its place there, nor mean a pattern.
std::string escaped(const std::string& app_id);

}  // namespace caller::task::redis
