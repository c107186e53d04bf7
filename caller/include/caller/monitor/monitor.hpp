// A live web page over a task store, and its JSON interface. docs/monitor.md describes both.
//
//   caller::monitor::Monitor monitor(app);             // on a free port of the loopback
//   std::cout << monitor.url() << '\n';
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <caller/export.hpp>
#include <caller/task/app.hpp>
#include <caller/task/store.hpp>

namespace caller::monitor {

/// What a Monitor is made with. Zero is no valid limit.
struct MonitorOptions {
  std::string address = "127.0.0.1";  ///< an address in numbers, of version 4 or 6
  std::uint16_t port = 0;             ///< 0: one that is free
  bool allow_remote = false;          ///< without it only addresses of the loopback are accepted
  bool allow_write = false;           ///< cancel, retry and purge; each needs token()
  std::string title{};                ///< shown; empty: "caller"
  /// Names, besides `localhost` and addresses in numbers, under which browsers may ask for the page. Any other is
  /// refused, as a foreign page may have made it point here.
  std::vector<std::string> host_names{};
  std::string assets{};  ///< the folder of the page; empty: `share/caller/monitor` beside the library or the program
  std::size_t max_connections = 64;                ///< more are answered 503
  std::size_t max_header = 8192, max_body = 8192;  ///< of a request, in bytes
  std::chrono::milliseconds request_time{10'000};  ///< for a request to arrive, and for the reader to take the answer
  std::chrono::milliseconds idle_time{30'000};     ///< of a connection without a request
  std::chrono::milliseconds store_time{15'000};    ///< for an answer of the store
  std::chrono::milliseconds interval{1'000};  ///< between two looks at the store; nobody looks when no browser watches
};

/// Serves the page from its construction to its end.
///
/// It has one thread, whose loop serves every connection. What the store holds is taken for hostile: it is made valid
/// UTF-8, cut, and given as JSON; the page shows it as text. Every answer carries a Content-Security-Policy that allows
/// nothing but the page's own files. A request whose `Host` is no address of its own, or whose `Origin` is another, is
/// refused, so neither a foreign page nor a name that was pointed here reaches anything; no CORS header is ever sent.
///
/// Thread-safety: any thread, but the end, which is one thread's and none of the store's or a task's.
/// Errors: std::system_error when the address cannot be bound; std::invalid_argument for an address that is none, or
/// lies outside of the loopback without `allow_remote`; std::runtime_error when the page's files are missing. Of the
/// store: none; they are answers (503) and shown, until the store answers again.
/// Source: pynenc's pynmon; differs: live, bounded, and nothing can be changed without a token.
class CALLER_API Monitor {
public:
  /// Of this store. Errors: see the class.
  explicit Monitor(std::shared_ptr<task::Store> store, MonitorOptions options = {});
  /// Of the application's store, which lives on as long as the Monitor.
  explicit Monitor(const task::App& app, MonitorOptions options = {});
  Monitor(Monitor&&) noexcept;
  Monitor& operator=(Monitor&&) noexcept;
  /// Closes every connection.
  ~Monitor();

  /// Which it listens at, as a number.
  const std::string& address() const noexcept;
  /// The one it was given, or, for 0, the one the system chose.
  std::uint16_t port() const noexcept;
  /// Where the page is; if writing is allowed, with the token, which browsers keep to themselves (`#token=…`).
  std::string url() const;
  /// What a request that changes something must carry; empty when none may.
  const std::string& token() const noexcept;

  /// How many connections there are. For tests and the curious.
  std::size_t connections() const noexcept;
  /// How many of them watch.
  std::size_t watchers() const noexcept;

private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace caller::monitor
