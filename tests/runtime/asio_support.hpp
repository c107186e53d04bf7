// What the tests of operations of Boost.Asio share.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <caller/asio.hpp>

#include "support/coro.hpp"

namespace caller::test {

namespace asio = boost::asio;
using asio::ip::tcp;

inline const tcp::endpoint kLoopback(asio::ip::address_v4::loopback(), 0);

/// Two ends of a connection over loopback, of one Caller.
struct Connection {
  tcp::socket a, b;

  explicit Connection(const Caller& c) : a(c.executor()), b(c.executor()) {
    tcp::acceptor acceptor(c.executor(), kLoopback);
    a.connect(acceptor.local_endpoint());
    acceptor.accept(b);
  }
};

/// A timer that does not go off during the test.
struct FarTimer : asio::steady_timer {
  explicit FarTimer(const Caller& c) : asio::steady_timer(c.executor(), 1h) {}
};

}  // namespace caller::test
