// Who may ask for what. Internal to this folder.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace caller::monitor {

/// What of a request decides whether it is served. Views into the request.
struct Asked {
  std::string_view method, host, origin, fetch_site, token, content_type;
  bool has_origin = false;
  bool one_host = true;     ///< exactly one `Host`
  bool navigation = false;  ///< for the page itself, which a link on another page may lead to
};

/// A refusal: an HTTP status and why.
struct Refusal {
  int status;
  std::string text;
};

/// Thread-safety: immutable. Errors: none.
class Guard {
public:
  /// `token` empty: nothing can be changed.
  Guard(std::string address, std::vector<std::string> host_names, std::string token);
  /// None: it is served.
  std::optional<Refusal> refuse(const Asked& asked) const;

private:
  bool own_host(std::string_view host) const;
  const std::string address_;
  const std::vector<std::string> names_;
  const std::string token_;
};

/// The name or address in `host[:port]`, without brackets; none: it is no such text.
std::optional<std::string> host_of(std::string_view authority);
/// Whether it is an address in numbers.
bool is_address(const std::string& text);
/// Whether it is one that only this machine can reach. Errors: false for what is no address.
bool is_loopback(const std::string& text);
/// Takes as long whatever differs.
bool same_secret(std::string_view a, std::string_view b) noexcept;
/// 32 hexadecimal digits nobody can guess. Errors: std::system_error.
std::string new_token();

}  // namespace caller::monitor
