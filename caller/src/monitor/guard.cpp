#include "guard.hpp"

#include <arpa/inet.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <system_error>

namespace caller::monitor {

namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

}  // namespace

std::optional<std::string> host_of(std::string_view authority) {
  std::string_view host, port;
  if (authority.starts_with('[')) {
    const std::size_t end = authority.find(']');
    if (end == authority.npos) return std::nullopt;
    host = authority.substr(1, end - 1);
    port = authority.substr(end + 1);
    in6_addr six{};
    if (::inet_pton(AF_INET6, std::string(host).c_str(), &six) != 1) return std::nullopt;
  } else {
    const std::size_t colon = authority.find(':');
    host = authority.substr(0, colon);
    port = colon == authority.npos ? "" : authority.substr(colon);
  }
  if (!port.empty() && (port.front() != ':' || port.size() > 6 ||
                        !std::ranges::all_of(port.substr(1), [](unsigned char c) { return std::isdigit(c); })))
    return std::nullopt;
  if (host.empty() || host.size() > 255) return std::nullopt;
  return lower(host);
}

bool is_address(const std::string& text) {
  in6_addr six{};
  in_addr four{};
  return ::inet_pton(AF_INET, text.c_str(), &four) == 1 || ::inet_pton(AF_INET6, text.c_str(), &six) == 1;
}

bool is_loopback(const std::string& text) {
  in_addr four{};
  if (::inet_pton(AF_INET, text.c_str(), &four) == 1) return (ntohl(four.s_addr) >> 24) == 127;
  in6_addr six{};
  return ::inet_pton(AF_INET6, text.c_str(), &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

bool same_secret(std::string_view a, std::string_view b) noexcept {
  unsigned differs = a.size() != b.size();
  for (std::size_t i = 0; i < a.size(); ++i)
    differs |= static_cast<unsigned>(static_cast<unsigned char>(a[i]) ^
                                     static_cast<unsigned char>(b[b.empty() ? 0 : i % b.size()]));
  return !b.empty() && differs == 0;
}

std::string new_token() {
  std::array<unsigned char, 16> bytes{};
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::getrandom(bytes.data() + done, bytes.size() - done, 0);
    if (n < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category(), "no random bytes for a token");
    if (n > 0) done += static_cast<std::size_t>(n);
  }
  std::string out;
  for (const unsigned b : bytes) {
    out += "0123456789abcdef"[b >> 4];
    out += "0123456789abcdef"[b & 15];
  }
  return out;
}

Guard::Guard(std::string address, std::vector<std::string> host_names, std::string token)
    : address_(std::move(address)), names_(std::move(host_names)), token_(std::move(token)) {}

/// A name can be made to point anywhere by whoever owns it, so a page of theirs could reach this server under it. An
/// address in numbers, and `localhost`, are nobody's.
bool Guard::own_host(std::string_view authority) const {
  const auto host = host_of(authority);
  if (!host) return false;
  if (*host == "localhost" || is_loopback(*host) || *host == address_) return true;
  if (!is_loopback(address_) && is_address(*host)) return true;
  return std::ranges::any_of(names_, [&](const std::string& name) { return lower(name) == *host; });
}

std::optional<Refusal> Guard::refuse(const Asked& asked) const {
  if (!asked.one_host || !own_host(asked.host))
    return Refusal{
        421, "the request's Host is none of this server's; ask for it by its address, or name it with --host-name"};
  if (asked.has_origin && lower(asked.origin) != "http://" + lower(asked.host))
    return Refusal{403, "the request comes from another page"};
  const bool own_page = asked.fetch_site.empty() || asked.fetch_site == "same-origin" || asked.fetch_site == "none";
  if (!own_page && !asked.navigation) return Refusal{403, "the request comes from another page"};
  if (asked.method != "POST") return std::nullopt;
  if (token_.empty()) return Refusal{403, "this monitor only shows; start it with --allow-write to change anything"};
  if (!same_secret(asked.token, token_))
    return Refusal{403, "the header X-Caller-Token is missing or wrong; open the address that the program printed"};
  if (lower(asked.content_type.substr(0, asked.content_type.find(';'))) != "application/json")
    return Refusal{415, "the Content-Type must be application/json"};
  return std::nullopt;
}

}  // namespace caller::monitor
