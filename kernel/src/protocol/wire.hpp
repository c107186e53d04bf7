// Frames <-> messages: lengths first, then the signature, then JSON.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <variant>

#include "protocol/hmac.hpp"
#include "protocol/message.hpp"

namespace caller::kernel {

/// Why frames were not taken as a message; the text is for the log.
struct Dropped {
  std::string reason;
};

/// The kernel's side of the wire: its session id, its key, and the signatures it has seen.
///
/// Thread-safety: encode: any thread. decode: one thread at a time (the I/O thread).
/// Errors: encode: std::runtime_error of Signer. decode reports what is wrong as Dropped and never throws for bad
/// input. Source: Jupyter messaging 5.5, "The wire protocol"; jupyter_client Session.
class Wire {
public:
  Wire(std::string key, std::string username);

  /// Dropped is what nobody can be shown to have sent: too few frames, a wrong or replayed signature, a header that is
  /// no object. Whatever else is wrong with a rightly signed message is its `fault`.
  std::variant<Message, Dropped> decode(Frames frames, Channel channel);

  /// Frames of a message from the kernel. `parent` null gives a parent header of `{}`; ill-formed text in content is
  /// replaced, never a reason to fail.
  Frames encode(const Frames& idents, const std::string& type, const Request& parent, const json& content,
                const json& metadata = json::object(), Frames buffers = {}, std::string* id = nullptr) const;

  const std::string& session() const noexcept { return session_; }

private:
  Signer signer_;
  std::string session_;
  std::string username_;
  ReplayGuard seen_;
  mutable std::atomic<std::uint64_t> count_{0};
};

/// A random identifier of 32 hex digits.
std::string new_id();

/// The current UTC time as `2026-01-02T03:04:05.678901Z`.
std::string utc_now();

}  // namespace caller::kernel
