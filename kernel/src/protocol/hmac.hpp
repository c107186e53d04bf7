// Signatures of messages, and the guard against replayed ones.
#pragma once

#include <cstddef>
#include <deque>
#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_set>

namespace caller::kernel {

/// HMAC-SHA256 over the four dicts of a message, in lowercase hex; an empty key signs with an empty text.
///
/// Thread-safety: any thread.
/// Errors: std::runtime_error when the library has no SHA-256 (sign); verify never throws for bad input.
/// Source: Jupyter messaging, "The wire protocol".
class Signer {
public:
  explicit Signer(std::string key) : key_(std::move(key)) {}
  bool enabled() const noexcept { return !key_.empty(); }
  std::string sign(std::initializer_list<std::string_view> parts) const;
  /// Compares in constant time; a signature of another length never matches.
  bool verify(std::string_view signature, std::initializer_list<std::string_view> parts) const;

private:
  std::string key_;
};

/// Remembers the signatures seen, up to a limit, the oldest forgotten first.
///
/// Thread-safety: one thread at a time.
/// Units: `limit` signatures, at least 1.
/// Errors: none.
/// Source: jupyter_client Session.digest_history; differs: the oldest is dropped, not a random tenth.
class ReplayGuard {
public:
  explicit ReplayGuard(std::size_t limit = 65536) : limit_(limit) {}
  /// True the first time a signature is seen.
  bool admit(std::string_view signature);
  std::size_t size() const noexcept { return order_.size(); }

private:
  std::size_t limit_;
  std::unordered_set<std::string> seen_;
  std::deque<std::string> order_;
};

}  // namespace caller::kernel
