#include "answer.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

namespace caller::task::redis {

namespace {

// The identity of a call ends with a SHA-256: half as long when it is stored as its bytes. The last byte says which it
// is.
constexpr std::size_t kDigest = 32;

int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

}  // namespace

std::string compact(const std::string& call_id) {
  const std::size_t from = call_id.size() - std::min(call_id.size(), 2 * kDigest);
  if (call_id.size() - from < 2 * kDigest ||
      std::any_of(
          call_id.begin() + static_cast<std::ptrdiff_t>(from), call_id.end(), [](char c) { return digit(c) < 0; }))
    return call_id.empty() ? call_id : call_id + '\0';
  std::string out = call_id.substr(0, from);
  for (std::size_t i = from; i < call_id.size(); i += 2)
    out += static_cast<char>(digit(call_id[i]) * 16 + digit(call_id[i + 1]));
  return out + '\1';
}

std::string expanded(const std::string& stored) {
  if (stored.empty()) return stored;
  const std::string bytes = stored.substr(0, stored.size() - 1);
  if (stored.back() != '\1' || bytes.size() < kDigest) return bytes;
  std::string out = bytes.substr(0, bytes.size() - kDigest);
  for (std::size_t i = out.size(); i < bytes.size(); ++i) {
    out += "0123456789abcdef"[static_cast<unsigned char>(bytes[i]) >> 4];
    out += "0123456789abcdef"[static_cast<unsigned char>(bytes[i]) & 15];
  }
  return out;
}

std::string packed(const std::vector<std::string>& hashes) {
  std::string out;
  for (const std::string& hash : hashes) {
    const std::string stored = compact(hash);
    out += std::to_string(stored.size()) + ":" + stored;
  }
  return out;
}

std::string_view cut(std::string_view& rest) {
  std::size_t size = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), size);
  const std::size_t at = static_cast<std::size_t>(end - rest.data()) + 1;
  if (error != std::errc() || at > rest.size() || size > rest.size() - at)
    throw StateBackendError("Redis gave a list of texts that is none");
  const std::string_view out = rest.substr(at, size);
  rest.remove_prefix(at + size);
  return out;
}

InvocationRecord record_of(std::string id, std::string_view bytes, std::string args, std::string outcome,
                           std::string* step) {
  const nlohmann::json stored = nlohmann::json::from_msgpack(bytes, true, false);
  const auto find = [&](const char* key) -> const nlohmann::json* {
    const auto it = stored.find(key);
    return it == stored.end() ? nullptr : &*it;
  };
  const auto text = [&](const char* key) {
    const auto* const v = find(key);
    return v && v->is_string() ? v->get_ref<const std::string&>() : std::string();
  };
  const auto number = [&](const char* key) -> std::int64_t {
    const auto* const v = find(key);
    return v && v->is_number_integer() ? v->get<std::int64_t>() : 0;
  };
  const auto flag = [&](const char* key) {
    const auto* const v = find(key);
    return v && v->is_boolean() && v->get<bool>();
  };
  const std::int64_t status = number("s");
  if (!stored.is_object() || status < 0 || status >= static_cast<std::int64_t>(kStatusCount))
    throw UnreadableError("what is stored of invocation " + id + " cannot be read; purge it");
  if (step) *step = text("T");
  InvocationRecord r;
  r.id = std::move(id);
  r.task_id = text("t");
  r.call_id = expanded(find("d") ? r.task_id + text("d") : text("c"));
  r.args = flag("A") ? std::move(args) : text("a");
  r.parent_id = text("p");
  r.queue = text("q");
  r.status = static_cast<Status>(status);
  r.owner = text("o");
  r.priority = static_cast<int>(number("y"));
  r.retries = static_cast<int>(number("r"));
  r.created = Time(std::chrono::microseconds(number("b")));
  r.changed = find("m") ? Time(std::chrono::microseconds(number("m"))) : r.created;
  r.result = text("R");
  r.exception = text("E");
  if (flag("B")) (r.status == Status::failed ? r.exception : r.result) = std::move(outcome);
  r.registration_key = text("g");
  r.running_key = text("k");
  r.reroute = !flag("f");
  r.workflow_id = flag("W") ? r.parent_id : text("W");
  if (r.workflow_id.empty()) r.workflow_id = r.id;
  if (const auto* const data = find("D"))
    for (const auto& hash : *data)
      if (hash.is_string()) r.data.push_back(expanded(hash.get_ref<const std::string&>()));
  return r;
}

void check(Answer& a, Status to) {
  const std::string& what = a.what();
  if (what == "absent") throw InvocationNotFoundError(a.text());
  if (what == "unreadable")
    throw UnreadableError("what is stored of invocation " + a.text() + " cannot be read; purge it");
  if (what == "cycle") throw CycleDetectedError(a.text());
  if (what == "owner") {
    const std::string id = a.text();
    const Status status = a.status();
    const std::string owner = a.text();
    throw InvocationStatusOwnershipError(id, status, owner, a.text());
  }
  if (what == "transition") {
    const std::string id = a.text();
    throw InvocationStatusTransitionError(id, a.status(), to);
  }
}

namespace {

std::int64_t whole_micros(std::chrono::nanoseconds t) {
  constexpr auto kLongest = std::chrono::hours(24 * 365 * 100);
  if (t <= std::chrono::nanoseconds::zero()) return 0;
  return std::chrono::ceil<std::chrono::microseconds>(std::min<std::chrono::nanoseconds>(t, kLongest)).count();
}

}  // namespace

std::string micros(std::chrono::nanoseconds t) { return std::to_string(whole_micros(t)); }

namespace {

template <class T>
const T& as_sent(const T& field) {
  return field;
}
std::int64_t as_sent(std::chrono::nanoseconds t) { return whole_micros(t); }
std::string as_sent(const std::vector<std::string>& hashes) { return packed(hashes); }

auto rest(const NewInvocation& c) {
  return std::tie(c.task_id, c.queue, c.priority, c.delay, c.registration_key, c.running_key, c.reroute,
                  c.refuse_other_call, c.workflow_id, c.data);
}

/// In MessagePack.
void put(std::string& out, std::string_view text) {
  const std::size_t n = text.size();
  const auto byte = [&out](std::size_t value) { out += static_cast<char>(value); };
  if (n < 32) {
    byte(0xa0 + n);
  } else if (n < 256) {
    byte(0xd9);
    byte(n);
  } else {
    byte(n < 65536 ? 0xda : 0xdb);
    for (int shift = n < 65536 ? 8 : 24; shift >= 0; shift -= 8) byte(n >> shift & 0xff);
  }
  out += text;
}
void put(std::string& out, const char* name, std::string_view text) {
  put(out, name);
  put(out, text);
}

}  // namespace

bool is_plain(const NewInvocation& c) {
  return c.parent_id.empty() && c.workflow_id.empty() && c.registration_key.empty() && c.data.empty() &&
         c.delay <= std::chrono::nanoseconds::zero() && c.args.size() <= kLongInRecord;
}

std::string common_of(const NewInvocation& c) {
  std::string out;
  put(out, "t", c.task_id);
  put(out, "q", c.queue);
  out += std::string_view("\xa1s\0\xa1h\x93\0\0\0", 9);  // REGISTERED, with a history of only that
  if (c.priority != 0) {
    put(out, "y");
    nlohmann::json::to_msgpack(nlohmann::json(c.priority), nlohmann::detail::output_adapter<char>(out));
  }
  if (!c.running_key.empty()) put(out, "k", c.running_key);
  if (!c.reroute) {
    put(out, "f");
    out += '\xc3';
  }
  return out;
}

std::string own_of(const NewInvocation& c) {
  // With t, q, s, h, b, n and z.
  const int fields = 8 + (c.priority != 0) + !c.running_key.empty() + !c.reroute + !c.args.empty();
  std::string out(1, static_cast<char>(0x80 + fields));
  const std::string call = compact(c.call_id);
  if (call.starts_with(c.task_id))
    put(out, "d", std::string_view(call).substr(c.task_id.size()));
  else
    put(out, "c", call);
  if (!c.args.empty()) put(out, "a", c.args);
  return out;
}

bool same_rest(const NewInvocation& a, const NewInvocation& b) { return rest(a) == rest(b); }

std::string rest_of(const NewInvocation& c) {
  const nlohmann::json all =
      std::apply([](const auto&... field) { return nlohmann::json::array({as_sent(field)...}); }, rest(c));
  std::string out;
  nlohmann::json::to_msgpack(all, nlohmann::detail::output_adapter<char>(out));
  return out;
}

}  // namespace caller::task::redis
