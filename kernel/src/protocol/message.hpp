// A Jupyter message in memory. JSON stays inside the kernel's sources.
#pragma once

#include <chrono>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace caller::kernel {

using nlohmann::json;

enum class Channel { shell, control, input, iopub };

std::string_view channel_name(Channel channel) noexcept;

using Frames = std::vector<std::string>;

/// A message received, or one to be sent.
///
/// Invariants of a received one: header, parent_header, metadata and content are objects, and where `fault` is empty
/// the header has the texts `msg_id` and `msg_type`.
///
/// Thread-safety: distinct objects: safe. A request is shared as const between threads.
/// Errors: none.
/// Source: Jupyter messaging 5.5, "General message format".
struct Message {
  Channel channel = Channel::shell;
  Frames idents;  ///< routing identities, echoed in the reply
  json header = json::object();
  json parent_header = json::object();
  json metadata = json::object();
  json content = json::object();
  Frames buffers;
  std::string header_text;  ///< the header as received, byte for byte: the parent of every answer
  std::chrono::steady_clock::time_point received{};
  std::string fault;  ///< what makes a rightly signed message unfit to be served; it is answered all the same

  std::string type() const;  ///< empty where a faulty header has none
  std::string id() const;
  std::string subshell() const;  ///< empty for the main shell
};

/// A request that work belongs to; null where there is none (its parent header is then `{}`).
using Request = std::shared_ptr<const Message>;

/// Whether its client sent `message` before `other`. The sockets of one client keep no order among each other: what it
/// sent at about the same time is told apart by the dates it wrote, where they are of one session; all else by arrival.
///
/// Thread-safety: any thread.
/// Errors: none; a header without a fit date counts as one without a date.
/// Source: Jupyter messaging 5.5, header field `date`.
bool sent_before(const Message& message, const Message& other);

/// A point in the order of requests: that of the request `by`, or, where there is none, the time `at`.
struct Moment {
  std::chrono::steady_clock::time_point at{};
  Request by{};

  static Moment now() { return {std::chrono::steady_clock::now(), nullptr}; }
  bool comes_after(const Message& message) const { return by ? sent_before(message, *by) : message.received < at; }
};

/// An optional field: the fallback where it is missing, null, of another type or out of the type's range.
template <class T>
T field(const json& object, const char* name, T fallback) {
  const auto it = object.find(name);
  if (it == object.end() || it->is_null()) return fallback;
  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    if (!it->is_number()) return fallback;
    const double value = it->template get<double>();
    if (!(value >= static_cast<double>(std::numeric_limits<T>::min()) &&
          value <= static_cast<double>(std::numeric_limits<T>::max())))
      return fallback;
  }
  try {
    return it->template get<T>();
  } catch (const json::exception&) {
    return fallback;
  }
}

}  // namespace caller::kernel
