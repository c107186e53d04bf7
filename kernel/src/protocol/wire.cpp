#include "protocol/wire.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <random>
#include <utility>

#include "protocol/json_text.hpp"

namespace caller::kernel {
namespace {

constexpr std::string_view kDelimiter = "<IDS|MSG>";
constexpr std::size_t kFixedFrames = 5;  // signature and four dicts

// Null stands for an empty object in all four dicts. False: `out` is an empty object.
bool parse_dict(const std::string& text, json& out) {
  out = parse_json(text);
  if (out.is_object()) return true;
  const bool good = out.is_null();
  out = json::object();
  return good;
}

bool has_text(const json& object, const char* name) {
  const auto it = object.find(name);
  return it != object.end() && it->is_string();
}

// Seconds, and nanoseconds of it as digits, of a date like 2026-01-31T12:00:00.5Z; empty for any other text.
std::string digits_of_date(const json& header) {
  const std::string date = field<std::string>(header, "date", "");
  constexpr std::size_t kSeconds = sizeof("2026-01-31T12:00:00") - 1;
  constexpr std::size_t kNanoseconds = 9;
  if (date.size() <= kSeconds || date[10] != 'T') return {};
  const bool fraction = date[kSeconds] == '.';
  const std::size_t end = std::min(date.find_first_not_of("0123456789", kSeconds + (fraction ? 1 : 0)), date.size());
  const std::string zone = date.substr(end);
  if (zone != "Z" && zone != "+00:00") return {};
  std::string digits = date.substr(0, kSeconds);
  if (fraction) digits += date.substr(kSeconds + 1, end - kSeconds - 1);
  digits.resize(kSeconds + kNanoseconds, '0');
  return digits;
}

std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

}  // namespace

std::string_view channel_name(Channel channel) noexcept {
  switch (channel) {
    case Channel::shell:
      return "shell";
    case Channel::control:
      return "control";
    case Channel::input:
      return "stdin";
    case Channel::iopub:
      return "iopub";
  }
  return "?";
}

bool sent_before(const Message& message, const Message& other) {
  // Beyond it a date can only be wrong: a clock was set.
  constexpr auto kSameTime = std::chrono::seconds(1);
  const auto late = message.received - other.received;
  const std::string session = field<std::string>(message.header, "session", "");
  if (std::chrono::abs(late) < kSameTime && !session.empty() &&
      session == field<std::string>(other.header, "session", "")) {
    const std::string sent = digits_of_date(message.header);
    const std::string other_sent = digits_of_date(other.header);
    if (!sent.empty() && !other_sent.empty() && sent != other_sent) return sent < other_sent;
  }
  return late < late.zero();
}

std::string Message::type() const { return field<std::string>(header, "msg_type", ""); }
std::string Message::id() const { return field<std::string>(header, "msg_id", ""); }
std::string Message::subshell() const { return field<std::string>(header, "subshell_id", ""); }

Wire::Wire(std::string key, std::string username)
    : signer_(std::move(key)), session_(new_id()), username_(std::move(username)) {}

std::variant<Message, Dropped> Wire::decode(Frames frames, Channel channel) {
  const auto mark = std::find(frames.begin(), frames.end(), kDelimiter);
  if (mark == frames.end()) return Dropped{"no delimiter in " + std::to_string(frames.size()) + " frames"};
  const auto first = static_cast<std::size_t>(mark - frames.begin()) + 1;
  if (frames.size() - first < kFixedFrames)
    return Dropped{"truncated: " + std::to_string(frames.size() - first) + " frames after the delimiter"};
  const std::string& signature = frames[first];
  if (!signer_.verify(signature, {frames[first + 1], frames[first + 2], frames[first + 3], frames[first + 4]}))
    return Dropped{signature.empty() ? "unsigned message" : "wrong signature"};
  if (signer_.enabled() && !seen_.admit(signature)) return Dropped{"replayed message"};

  Message m;
  m.channel = channel;
  m.received = std::chrono::steady_clock::now();
  if (!parse_dict(frames[first + 1], m.header) || m.header.empty()) return Dropped{"header is not a JSON object"};
  // From here on there is a header that an answer can name as its parent.
  if (!has_text(m.header, "msg_id") || !has_text(m.header, "msg_type")) m.fault = "header without msg_id or msg_type";
  if (!parse_dict(frames[first + 2], m.parent_header)) m.fault = "parent header is not a JSON object";
  if (!parse_dict(frames[first + 3], m.metadata)) m.fault = "metadata is not a JSON object";
  if (!parse_dict(frames[first + 4], m.content)) m.fault = "content is not a JSON object";
  m.header_text = std::move(frames[first + 1]);
  const auto it = [&](std::size_t i) {
    return std::make_move_iterator(frames.begin() + static_cast<std::ptrdiff_t>(i));
  };
  m.idents.assign(it(0), it(first - 1));
  m.buffers.assign(it(first + kFixedFrames), it(frames.size()));
  return m;
}

Frames Wire::encode(const Frames& idents, const std::string& type, const Request& parent, const json& content,
                    const json& metadata, Frames buffers, std::string* id) const {
  json header = {{"msg_id", session_ + "_" + std::to_string(count_.fetch_add(1))},
                 {"session", session_},
                 {"username", username_},
                 {"date", utc_now()},
                 {"msg_type", type},
                 {"version", "5.5"}};
  if (id) *id = header["msg_id"].get<std::string>();
  if (parent) {
    const std::string shell = parent->subshell();
    if (!shell.empty()) header["subshell_id"] = shell;
  }
  Frames out;
  out.reserve(idents.size() + 1 + kFixedFrames + buffers.size());
  out = idents;
  out.emplace_back(kDelimiter);
  std::string head = dump(header);
  std::string up = parent ? parent->header_text : "{}";
  std::string meta = dump(metadata);
  std::string body = dump(content);
  out.push_back(signer_.sign({head, up, meta, body}));
  out.push_back(std::move(head));
  out.push_back(std::move(up));
  out.push_back(std::move(meta));
  out.push_back(std::move(body));
  std::move(buffers.begin(), buffers.end(), std::back_inserter(out));
  return out;
}

std::string new_id() {
  std::random_device device;  // one draw per 32 bits: ids must differ between kernels started in the same instant
  std::string out;
  for (int i = 0; i < 4; ++i) {
    char part[9];
    std::snprintf(part, sizeof part, "%08x", static_cast<unsigned>(device()));
    out += part;
  }
  return out;
}

std::string utc_now() {
  using namespace std::chrono;
  const auto now = floor<microseconds>(system_clock::now());
  const auto whole = floor<seconds>(now);
  const std::time_t t = system_clock::to_time_t(whole);
  std::tm parts{};
  gmtime_r(&t, &parts);
  char text[48];
  const std::size_t n = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + n, sizeof text - n, ".%06dZ", static_cast<int>((now - whole).count()));
  return text;
}

}  // namespace caller::kernel
