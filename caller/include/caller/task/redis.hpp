// Invocations in a Redis server, which processes of many machines share.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include <caller/export.hpp>
#include <caller/task/store.hpp>

namespace caller::task {

/// What a server's certificate must be.
enum class RedisVerify : std::uint8_t {
  full,       ///< signed by a known authority, and for the host that the address names
  authority,  ///< signed by a known authority
  none,       ///< anything: the conversation is hidden from others, but anybody may be the server
};

/// Where the server is, and how it is spoken to. What follows `patience` is of `rediss://` alone, by TLS 1.2 or later;
/// the address may say it, too: `rediss://host?ca_file=/etc/ca.pem`.
struct RedisOptions {
  std::string url = "redis://127.0.0.1:6379/0";  ///< see make_redis_store()
  std::chrono::milliseconds patience{10'000};    ///< one that was there and is gone is waited for that long
  std::string ca_file{};    ///< certificates of the authorities that are believed; empty: those of the system
  std::string cert_file{};  ///< our own certificate, for servers that want one; with `key_file`
  std::string key_file{};   ///< its private key
  RedisVerify verify = RedisVerify::full;  ///< what the server's certificate must be
};

/// As make_redis_store(url, app_id, patience). Thread-safety and source: as there. Errors: also ConfigError for files
/// of certificates that cannot be read; in each Pending StateBackendError for a server that is not believed.
CALLER_API std::shared_ptr<Store> make_redis_store(const RedisOptions& options, const std::string& app_id);

}  // namespace caller::task
