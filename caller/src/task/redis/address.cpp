#include "address.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

#include <caller/task/error.hpp>

namespace caller::task::redis {

namespace {

constexpr std::string_view kForm =
    "redis://[user:password@]host[:port][/database], rediss:// for TLS, or unix:///path[?db=database]";

[[noreturn]] void refuse(const std::string& why) {
  throw ConfigError("the address of Redis: " + why + "; it has the form " + std::string(kForm));
}

std::string decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    unsigned value = 0;
    const char* const end = text.data() + std::min(text.size(), i + 3);
    const auto [stop, error] = std::from_chars(text.data() + i + 1, end, value, 16);
    if (error != std::errc() || stop != text.data() + i + 3) refuse("a % is not followed by two hexadecimal digits");
    out += static_cast<char>(value);
    i += 2;
  }
  return out;
}

std::optional<int> number(std::string_view text, int most) {
  int value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stop != text.data() + text.size() || value < 0 || value > most) return std::nullopt;
  return value;
}

int database(std::string_view text) {
  const auto n = number(text, 1 << 20);
  if (!n) refuse("\"" + std::string(text) + "\" is not the number of a database");
  return *n;
}

/// Takes `user:password@` from the front.
void take_user(Address& a, std::string_view& rest) {
  const auto at = rest.rfind('@');
  if (at == std::string_view::npos) return;
  const std::string_view who = rest.substr(0, at);
  rest.remove_prefix(at + 1);
  const auto colon = who.find(':');
  if (colon == std::string_view::npos) refuse("before the @ there is no user:password");
  a.user = decoded(who.substr(0, colon));
  a.password = decoded(who.substr(colon + 1));
}

/// `ca_file=…&verify=none`
void take_tls(Address& a, std::string_view query) {
  while (!query.empty()) {
    const auto end = std::min(query.find('&'), query.size());
    const std::string_view one = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const auto equal = one.find('=');
    const std::string_view key = one.substr(0, equal);
    const std::string value = decoded(equal == std::string_view::npos ? std::string_view() : one.substr(equal + 1));
    if (key == "ca_file")
      a.ca_file = value;
    else if (key == "cert_file")
      a.cert_file = value;
    else if (key == "key_file")
      a.key_file = value;
    else if (key == "verify" && value == "full")
      a.verify = RedisVerify::full;
    else if (key == "verify" && value == "authority")
      a.verify = RedisVerify::authority;
    else if (key == "verify" && value == "none")
      a.verify = RedisVerify::none;
    else
      refuse("\"" + std::string(one) +
             "\" means nothing here: there are ca_file, cert_file, key_file, and verify, which is full, authority or "
             "none");
  }
}

}  // namespace

Address parse_address(const RedisOptions& options) {
  Address a;
  a.ca_file = options.ca_file;
  a.cert_file = options.cert_file;
  a.key_file = options.key_file;
  a.verify = options.verify;
  std::string_view rest = options.url;
  const auto is = [&](std::string_view scheme) {
    if (!rest.starts_with(scheme)) return false;
    rest.remove_prefix(scheme.size());
    return true;
  };
  if (is("unix://")) {
    std::string_view query;
    if (const auto mark = rest.find('?'); mark != std::string_view::npos) {
      query = rest.substr(mark + 1);
      rest = rest.substr(0, mark);
    }
    if (!rest.starts_with('/')) take_user(a, rest);
    a.path = decoded(rest);
    if (!a.path.starts_with('/')) refuse("the path of the socket does not begin with /");
    if (a.path.size() > 107) refuse("the path of the socket is longer than the 107 bytes a system takes");
    if (a.path.find('\0') != std::string::npos) refuse("there is a zero byte in the path of the socket");
    if (query.starts_with("db="))
      a.database = database(query.substr(3));
    else if (!query.empty())
      refuse("\"?" + std::string(query) + "\" means nothing here");
    a.shown = "unix://" + a.path + (a.database ? "?db=" + std::to_string(a.database) : "");
    return a;
  }
  a.tls = is("rediss://");
  if (!a.tls && !is("redis://")) refuse("it begins neither with redis:// or rediss:// nor with unix://");
  // What is behind the last @ is the place: a password may hold a / that nobody wrote as %2F.
  take_user(a, rest);
  if (const auto mark = rest.find('?'); mark != std::string_view::npos) {
    if (!a.tls) refuse("\"" + std::string(rest.substr(mark)) + "\" means nothing here");
    take_tls(a, rest.substr(mark + 1));
    rest = rest.substr(0, mark);
  }
  if (a.cert_file.empty() != a.key_file.empty()) refuse("cert_file and key_file go together, and one is missing");
  for (const std::string* file : {&a.ca_file, &a.cert_file, &a.key_file})
    if (!file->empty() && ::access(file->c_str(), R_OK) != 0)
      throw ConfigError("the certificates of Redis: the file " + *file + " cannot be read: " + std::strerror(errno));
  if (const auto slash = rest.find('/'); slash != std::string_view::npos) {
    if (slash + 1 < rest.size()) a.database = database(rest.substr(slash + 1));
    rest = rest.substr(0, slash);
  }
  const bool v6 = rest.starts_with('[');
  const auto end = v6 ? rest.find(']') : rest.find(':');
  if (v6 && end == std::string_view::npos) refuse("a [ is not closed");
  a.host = decoded(v6 ? rest.substr(1, end - 1) : rest.substr(0, end));
  if (a.host.empty()) refuse("there is no host");
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + (v6 ? 1 : 0));
  if (rest.starts_with(':')) {
    const auto port = number(rest.substr(1), 65535);
    if (!port || *port == 0) refuse("\"" + std::string(rest.substr(1)) + "\" is not a port");
    a.port = std::to_string(*port);
  } else if (!rest.empty()) {
    refuse("behind the host there is \"" + std::string(rest) + "\"");
  }
  a.shown = (a.tls ? "rediss://" : "redis://") + (v6 ? "[" + a.host + "]" : a.host) + ":" + a.port + "/" +
            std::to_string(a.database);
  return a;
}

std::string escaped(const std::string& app_id) {
  std::string out;
  for (const char c : app_id) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
    if (plain) {
      out += c;
    } else {
      out += '%';
      out += "0123456789ABCDEF"[static_cast<unsigned char>(c) >> 4];
      out += "0123456789ABCDEF"[static_cast<unsigned char>(c) & 15];
    }
  }
  return out;
}

}  // namespace caller::task::redis
