// A TCP server: each line a client sends comes back in capitals, made by a worker thread.
//
//   echo_server [port]         serves on 127.0.0.1 until Ctrl-C; try: nc 127.0.0.1 <port>
//   echo_server --check    serves three clients of its own and checks what they get
#include <caller/all.hpp>
#include <caller/asio.hpp>

#include <algorithm>
#include <cctype>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/write.hpp>

namespace asio = boost::asio;
using asio::ip::tcp;
using caller::Caller;
using caller::Coro;
using caller::use_pending;

constexpr std::size_t kLongestLine = 65536;

// The work, which would hold up everybody else if it ran in the server's own thread.
std::string in_capitals(std::string line) {
  std::ranges::transform(line, line.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return line;
}

// One client, until it closes the connection. When the server stops, the co_await it is at throws PendingCancelled.
Coro<void> serve_client(tcp::socket socket) {
  Caller here;
  std::string received;
  boost::system::error_code gone;
  for (;;) {
    const std::size_t n = co_await asio::async_read_until(socket, asio::dynamic_buffer(received, kLongestLine), '\n',
                                                          asio::redirect_error(use_pending, gone));
    if (gone) co_return;
    auto work = here.to_thread(in_capitals, received.substr(0, n));
    received.erase(0, n);
    const std::string answer = co_await work;
    co_await asio::async_write(socket, asio::buffer(answer), asio::redirect_error(use_pending, gone));
    if (gone) co_return;
  }
}

Coro<void> serve(tcp::acceptor& acceptor) {
  Caller here;
  for (;;) {
    auto accepted = acceptor.async_accept(use_pending);
    tcp::socket socket = co_await std::move(accepted);
    here.call_soon(serve_client, std::move(socket));
  }
}

Coro<void> stop_by_signal() {
  Caller here;
  asio::signal_set signals(here.executor(), SIGINT, SIGTERM);
  co_await signals.async_wait(use_pending);
  here.stop();  // cancels what runs, and waits for it
}

Coro<int> client(tcp::endpoint server, int number) {
  tcp::socket socket(Caller().executor());
  co_await socket.async_connect(server, use_pending);
  int good = 0;
  for (int i = 0; i < 10; ++i) {
    const std::string question = "client " + std::to_string(number) + " line " + std::to_string(i) + "\n";
    co_await asio::async_write(socket, asio::buffer(question), use_pending);
    std::string answer;
    co_await asio::async_read_until(socket, asio::dynamic_buffer(answer), '\n', use_pending);
    if (answer == in_capitals(question)) ++good;
  }
  co_return good;
}

int main(int argc, char** argv) {
  const std::string argument = argc > 1 ? argv[1] : "0";
  const bool self_test = argument == "--check";
  const auto port = static_cast<unsigned short>(self_test ? 0 : std::atoi(argument.c_str()));

  Caller here(caller::manual, {.name = "echo server"});
  tcp::acceptor acceptor(here.executor(), {asio::ip::address_v4::loopback(), port});  // port 0: a free one
  here.call_soon(serve, std::ref(acceptor));

  if (self_test) {
    std::vector<caller::Pending<int>> clients;
    for (int n = 0; n < 3; ++n) clients.push_back(here.call_soon(client, acceptor.local_endpoint(), n));
    int good = 0;
    for (auto& c : clients) good += c.wait();  // the loop turns meanwhile
    here.stop();
    std::cout << good << " of 30 lines came back in capitals\n";
    return good == 30 ? 0 : 1;
  }
  std::cout << "serving on port " << acceptor.local_endpoint().port() << std::endl;
  here.call_soon(stop_by_signal);
  here.run();
  std::cout << "stopped\n";
}
