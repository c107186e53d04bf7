#include <doctest/doctest.h>

#include <regex>
#include <set>
#include <string>

#include "protocol/wire.hpp"

using namespace caller::kernel;

namespace {

const std::string kKey = "a-key";

// Frames as a client sends them, signed with `key`.
Frames client_frames(const std::string& key, const std::string& header, const std::string& content = "{}",
                     const std::string& parent = "{}", const std::string& metadata = "{}") {
  return {"peer",   "<IDS|MSG>", Signer(key).sign({header, parent, metadata, content}), header, parent,
          metadata, content};
}

const std::string kHeader = R"({"msg_id":"m1","msg_type":"kernel_info_request","session":"s","extra":1})";

std::string dropped(Wire& wire, Frames frames) {
  auto result = wire.decode(std::move(frames), Channel::shell);
  const Dropped* d = std::get_if<Dropped>(&result);
  return d ? d->reason : "accepted";
}

Message accepted(Wire& wire, Frames frames) {
  auto result = wire.decode(std::move(frames), Channel::shell);
  REQUIRE(std::holds_alternative<Message>(result));
  return std::get<Message>(std::move(result));
}

}  // namespace

TEST_CASE("frames become a message with its identities and buffers, byte for byte (1, 10)") {
  Wire wire(kKey, "user");
  Frames frames = client_frames(kKey, kHeader, R"({"code":"1"})");
  frames.insert(frames.begin(), "outer");
  const std::string binary("\x00\xff<IDS|MSG>\x01", 12);
  frames.push_back(binary);
  frames.emplace_back();
  const Message m = accepted(wire, frames);
  CHECK(m.idents == Frames{"outer", "peer"});
  CHECK(m.type() == "kernel_info_request");
  CHECK(m.id() == "m1");
  CHECK(m.content.at("code") == "1");
  CHECK(m.buffers == Frames{binary, ""});
  CHECK(m.header_text == kHeader);
}

TEST_CASE("a signature is the lowercase hex HMAC-SHA256 over the four dicts, buffers unsigned (2)") {
  // RFC 4231, test case 2.
  CHECK(Signer("Jefe").sign({"what do ya want ", "for nothing?"}) ==
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  Wire wire(kKey, "user");
  const Frames out =
      wire.encode({"peer"}, "status", nullptr, {{"execution_state", "idle"}}, json::object(), {"unsigned"});
  REQUIRE(out.size() == 8);
  CHECK(out[2] == Signer(kKey).sign({out[3], out[4], out[5], out[6]}));
}

TEST_CASE("an empty key neither signs nor checks (3)") {
  Wire wire("", "user");
  CHECK(wire.encode({}, "status", nullptr, json::object())[1] == "");
  Frames frames = client_frames("other", kHeader);
  accepted(wire, frames);
  accepted(wire, frames);
}

TEST_CASE("bad frames are dropped with a reason (4)") {
  Wire wire(kKey, "user");
  const Frames good = client_frames(kKey, kHeader);
  Frames f = good;
  f[2][0] = f[2][0] == '0' ? '1' : '0';
  CHECK(dropped(wire, f) == "wrong signature");
  f = good;
  f[2].pop_back();
  CHECK(dropped(wire, f) == "wrong signature");
  f[2].clear();
  CHECK(dropped(wire, f) == "unsigned message");
  CHECK(dropped(wire, client_frames("other", kHeader)) == "wrong signature");
  for (std::size_t n = 0; n + 1 < good.size(); ++n) {
    f = good;
    f.resize(n);
    CHECK(dropped(wire, f) != "accepted");
  }
  CHECK(dropped(wire, {}) != "accepted");
  CHECK(dropped(wire, {"<IDS|MSG>", ""}) == "truncated: 1 frames after the delimiter");
  CHECK(dropped(wire, client_frames(kKey, "{not json")) == "header is not a JSON object");
  for (const char* header : {"[1]", "3", "null", "{}", "\"x\"", "", "{\"a\":\"\xff\"}"})
    CHECK(dropped(wire, client_frames(kKey, header)) == "header is not a JSON object");
  CHECK(dropped(wire, good) == "accepted");
}

TEST_CASE("a rightly signed message with a header is taken, whatever else is wrong with it, and says what that is") {
  Wire wire(kKey, "user");
  const auto fault = [&](const Frames& frames) { return accepted(wire, frames).fault; };
  CHECK(fault(client_frames(kKey, kHeader)) == "");
  CHECK(fault(client_frames(kKey, kHeader, "[1]")) == "content is not a JSON object");
  CHECK(fault(client_frames(kKey, kHeader, "{\"code\":\"\xff\"}")) == "content is not a JSON object");
  CHECK(fault(client_frames(kKey, kHeader, "{\"code\": ")) == "content is not a JSON object");
  CHECK(fault(client_frames(kKey, kHeader, "{}", "5")) == "parent header is not a JSON object");
  CHECK(fault(client_frames(kKey, kHeader, "{}", "{}", "\"x\"")) == "metadata is not a JSON object");
  CHECK(fault(client_frames(kKey, R"({"msg_id":"x"})")) == "header without msg_id or msg_type");
  CHECK(fault(client_frames(kKey, R"({"msg_id":1,"msg_type":"a"})")) == "header without msg_id or msg_type");
  const std::string deep = "{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}";
  CHECK(fault(client_frames(kKey, kHeader, deep)) == "content is not a JSON object");
  CHECK(fault(client_frames(kKey, kHeader, "{\"a\":\"" + std::string(1000, '[') + "\"}")) == "");
}

TEST_CASE("a replayed signature is dropped (5)") {
  Wire wire(kKey, "user");
  const Frames frames = client_frames(kKey, kHeader);
  CHECK(dropped(wire, frames) == "accepted");
  CHECK(dropped(wire, frames) == "replayed message");
}

TEST_CASE("the guard against replays remembers a bounded number of signatures") {
  ReplayGuard guard(3);
  for (int i = 0; i < 10; ++i) CHECK(guard.admit(std::to_string(i)));
  CHECK(guard.size() == 3);
  CHECK_FALSE(guard.admit("9"));
  CHECK(guard.admit("0"));
}

TEST_CASE("a header has a unique id, one session per process, user, date, type and version (6)") {
  Wire wire("", "somebody");
  std::set<std::string> ids;
  for (int i = 0; i < 100; ++i) {
    const json header = json::parse(wire.encode({}, "status", nullptr, json::object())[2]);
    ids.insert(header.at("msg_id"));
    CHECK(header.at("session") == wire.session());
    CHECK(header.at("username") == "somebody");
    CHECK(header.at("msg_type") == "status");
    CHECK(header.at("version") == "5.5");
    CHECK(std::regex_match(header.at("date").get<std::string>(),
                           std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)")));
    CHECK_FALSE(header.contains("subshell_id"));
  }
  CHECK(ids.size() == 100);
}

TEST_CASE("an answer carries the exact header of its request, or an empty object (7)") {
  Wire wire("", "user");
  const std::string odd = R"({ "msg_type":"x", "msg_id":"m1", "subshell_id":"sub", "n":1.0 })";
  const Request request = std::make_shared<const Message>(accepted(wire, client_frames("", odd)));
  const Frames out = wire.encode(request->idents, "x_reply", request, json::object());
  CHECK(out[0] == "peer");
  CHECK(out[4] == odd);
  CHECK(json::parse(out[3]).at("subshell_id") == "sub");
  CHECK(wire.encode({}, "status", nullptr, json::object())[3] == "{}");
}

TEST_CASE("null dicts and fields stand for their defaults (8)") {
  Wire wire("", "user");
  const Message m = accepted(wire, client_frames("", kHeader, "null", "null", "null"));
  CHECK(m.content == json::object());
  CHECK(m.parent_header == json::object());
  const json content = {{"silent", nullptr}, {"code", 5}, {"stop", true}};
  CHECK(field<bool>(content, "silent", true));
  CHECK(field<std::string>(content, "code", "none") == "none");
  CHECK(field<int>(content, "missing", 3) == 3);
  CHECK(field<bool>(content, "stop", false));
  const json wide = {{"n", 1e300}, {"m", 9223372036854775807LL}, {"k", -3.0}};
  CHECK(field<int>(wide, "n", -1) == -1);
  CHECK(field<int>(wide, "m", -1) == -1);
  CHECK(field<int>(wide, "k", -1) == -3);
}

TEST_CASE(
    "what one client sent at about the same time is in the order of its dates, all else in that of arrival (42)") {
  using namespace std::chrono_literals;
  const std::chrono::steady_clock::time_point t0{1h};
  const auto message = [&](const char* session, const char* date, std::chrono::milliseconds received) {
    Message m;
    m.header = {{"msg_id", "m"}, {"msg_type", "x"}, {"session", session}, {"date", date}};
    m.received = t0 + received;
    return m;
  };
  const Message interrupt = message("s", "2026-01-31T12:00:00.500000Z", 0ms);
  const auto before = [&](const Message& m) { return sent_before(m, interrupt); };
  CHECK(before(message("s", "2026-01-31T12:00:00.499999Z", 30ms)));
  CHECK_FALSE(before(message("s", "2026-01-31T12:00:00.500001Z", -30ms)));
  CHECK(before(message("s", "2026-01-31T12:00:00.5Z", -30ms)));  // the same date: by arrival
  CHECK_FALSE(before(message("s", "2026-01-31T12:00:00.5Z", 30ms)));
  CHECK(before(message("s", "2026-01-31T12:00:00Z", 30ms)));
  CHECK(before(message("s", "2026-01-31T12:00:00+00:00", 30ms)));
  CHECK(before(message("s", "2026-01-31T11:59:59.999Z", 30ms)));

  INFO("another session has another clock");
  CHECK_FALSE(before(message("t", "2026-01-31T12:00:00Z", 30ms)));
  CHECK(before(message("t", "2026-01-31T12:00:01Z", -30ms)));
  INFO("dates that cannot be compared");
  for (const char* date :
       {"", "yesterday", "2026-01-31T12:00:00.4+01:00", "2026-01-31T12:00:00.4", "2026-01-31 12:00:00.4Z"}) {
    CAPTURE(date);
    CHECK_FALSE(before(message("s", date, 30ms)));
    CHECK(before(message("s", date, -30ms)));
  }
  INFO("a clock that was set");
  CHECK_FALSE(before(message("s", "2026-01-31T12:00:00Z", 1500ms)));
  CHECK(before(message("s", "2026-01-31T12:00:01Z", -1500ms)));
  CHECK_FALSE(sent_before(Message{}, Message{}));
}

TEST_CASE("ill-formed text in content is replaced, not refused") {
  Wire wire("", "user");
  const Frames out = wire.encode({}, "stream", nullptr, {{"text", "a\xff"}});
  CHECK(json::parse(out.back()).at("text") == "a\xEF\xBF\xBD");
}
