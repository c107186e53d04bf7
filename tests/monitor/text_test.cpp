// Parts of the monitor that need no server: text of strangers, and who may ask.
#include <doctest/doctest.h>

#include <string>

#include <caller/task/codec.hpp>

#include "monitor/guard.hpp"
#include "monitor/text.hpp"

using namespace caller::monitor;
using namespace std::string_literals;

TEST_CASE("text of strangers becomes valid UTF-8 and is cut between characters") {
  CHECK(shown("plain", 100) == "plain");
  CHECK(shown("gr\xC3\xBC\xC3\x9F", 100) == "gr\xC3\xBC\xC3\x9F");
  CHECK(shown("\xff\xfe", 100) == "\xEF\xBF\xBD\xEF\xBF\xBD");
  CHECK(shown("\xC0\xAF", 100) == "\xEF\xBF\xBD\xEF\xBF\xBD");                  // overlong
  CHECK(shown("\xED\xA0\x80", 100) == "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate
  CHECK(shown("\xF4\x90\x80\x80", 8) == "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  CHECK(shown("a\0b"s, 100) == "a\0b"s);
  bool cut = false;
  CHECK(shown("ab\xC3\xBC", 3, &cut) == "ab");
  CHECK(cut);
  CHECK(shown("ab\xC3\xBC", 4, &cut) == "ab\xC3\xBC");
  CHECK_FALSE(cut);
}

TEST_CASE("any bytes survive as a piece of a path") {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  const std::string encoded = percent_encoded(all);
  CHECK(encoded.find_first_not_of("%0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.") ==
        std::string::npos);
  CHECK(percent_decoded(encoded) == all);
  for (const char* wrong : {"%", "%1", "%zz", "a%2"}) CHECK_FALSE(percent_decoded(wrong));
}

TEST_CASE("a target is split before it is decoded") {
  const auto t = parse_target("/api/invocations/a%2Fb?status=X&task=c%26d&x");
  REQUIRE(t);
  CHECK(t->path == std::vector<std::string>{"api", "invocations", "a/b"});
  CHECK(t->value("task") == "c&d");
  CHECK(t->value("x") == "");
  CHECK(t->value("nothing") == "");
  CHECK(parse_target("/")->path.empty());
  for (const char* wrong : {"", "api", "http://x/", "/%", "/a?b=%g0"}) CHECK_FALSE(parse_target(wrong));
}

TEST_CASE("numbers are nothing but digits") {
  CHECK(number("0", 10) == 0);
  CHECK(number("10", 10) == 10);
  for (const char* wrong : {"", "11", "-1", "+1", "1 ", "0x1", "99999999999999999999999"})
    CHECK_FALSE(number(wrong, 10));
}

TEST_CASE("a stored value is shown as JSON whichever format it is stored in, and as bytes when it is none") {
  using caller::task::Format;
  const std::vector<std::string> list{"a", "b"};
  for (const Format f : {Format::json, Format::cbor}) {
    const ValueText v = value_text(caller::task::to_bytes(f, list), {}, 1000);
    CHECK(v.text == R"(["a", "b"])");
    CHECK(v.format == (f == Format::json ? "json"s : "cbor"s));
    CHECK_FALSE(v.cut);
  }
  // 0x31 is the text 1 in JSON and the number -18 in CBOR: the arguments of the record say which.
  CHECK(value_text("1", "{}", 100).text == "1");
  CHECK(value_text("1", "\xA0", 100).text == "-18");
  CHECK(value_text("hello there", {}, 100).format == "text"s);
  const ValueText bytes = value_text("\xff\x00\x01"s, "{}", 100);
  CHECK(bytes.text == "ff 00 01");
  CHECK(bytes.format == "bytes"s);
  CHECK(value_text("", {}, 100).text.empty());
}

TEST_CASE("what is huge or goes deep is cut and costs no more than what is shown") {
  const std::string huge = "\"" + std::string(50'000'000, 'x') + "\"";
  const ValueText v = value_text(huge, {}, 1000);
  CHECK(v.text.size() <= 1000);
  CHECK(v.cut);
  CHECK(v.size == huge.size());
  const ValueText text = value_text("\"" + std::string(100'000, 'y') + "\"", "{}", 1000);
  CHECK(text.text.size() <= 1000);
  CHECK(text.cut);
  CHECK(value_text(std::string(100'000, '['), {}, 1000).text.size() <= 1000);
}

TEST_CASE("a host is a name or an address, and perhaps a port") {
  CHECK(host_of("LocalHost:80") == "localhost");
  CHECK(host_of("127.0.0.1") == "127.0.0.1");
  CHECK(host_of("[::1]:80") == "::1");
  for (const char* wrong : {"", ":80", "a:b", "a:80:90", "[::1", "[x]", "a:999999", "::1"}) CHECK_FALSE(host_of(wrong));
  CHECK(is_loopback("127.9.9.9"));
  CHECK(is_loopback("::1"));
  CHECK_FALSE(is_loopback("10.0.0.1"));
  CHECK_FALSE(is_loopback("localhost"));
}

TEST_CASE("names that others own, and other pages, are refused; a change needs the token") {
  const std::string token = new_token();
  CHECK(token.size() == 32);
  CHECK(token != new_token());
  const auto status = [&](const Guard& guard, const Asked& asked) {
    const auto refusal = guard.refuse(asked);
    return refusal ? refusal->status : 200;
  };
  const Guard guard("127.0.0.1", {"Tunnel.Example"}, token);
  Asked a{"GET", "127.0.0.1:8", "", "", "", "", false, true, false};
  CHECK(status(guard, a) == 200);
  for (const char* own : {"localhost", "localhost:1", "[::1]:2", "127.0.0.2", "tunnel.example:9"}) {
    a.host = own;
    CHECK(status(guard, a) == 200);
  }
  for (const char* other :
       {"", "evil.example", "localhost.evil.example", "10.0.0.1", "127.0.0.1.evil.example", "user@localhost"}) {
    a.host = other;
    CHECK(status(guard, a) == 421);
  }
  a.host = "localhost:8";
  a.one_host = false;
  CHECK(status(guard, a) == 421);
  a.one_host = true;
  a.has_origin = true;
  for (const char* other :
       {"http://evil.example", "null", "", "http://localhost", "http://localhost:9", "https://localhost:8"}) {
    a.origin = other;
    CHECK(status(guard, a) == 403);
  }
  a.origin = "http://localhost:8";
  CHECK(status(guard, a) == 200);
  for (const char* site : {"cross-site", "same-site"}) {
    a.fetch_site = site;
    CHECK(status(guard, a) == 403);
  }
  a.navigation = true;  // a link leads to the page
  CHECK(status(guard, a) == 200);
  a.navigation = false;
  a.fetch_site = "same-origin";

  a.method = "POST";
  a.content_type = "application/json";
  CHECK(status(guard, a) == 403);
  const std::string wrong = std::string(32, '0');
  for (const std::string& t : {wrong, token.substr(1), token + "0", ""s}) {
    a.token = t;
    CHECK(status(guard, a) == 403);
  }
  a.token = token;
  CHECK(status(guard, a) == 200);
  a.content_type = "text/plain";
  CHECK(status(guard, a) == 415);
  a.content_type = "Application/JSON; charset=utf-8";
  CHECK(status(guard, a) == 200);
  CHECK(status(Guard("127.0.0.1", {}, ""), a) == 403);  // read-only, whatever the token
  a.token = "";
  CHECK(status(Guard("127.0.0.1", {}, ""), a) == 403);
  // Whoever serves other machines is asked for by their addresses.
  a.method = "GET";
  a.has_origin = false;
  a.host = "10.0.0.1:80";
  CHECK(status(Guard("0.0.0.0", {}, ""), a) == 200);
  a.host = "evil.example";
  CHECK(status(Guard("0.0.0.0", {}, ""), a) == 421);
}
