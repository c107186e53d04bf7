// Redis by TLS: who is believed, and who is let in. The certificates are the test's own.
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <cstdlib>
#include <optional>
#include <thread>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "redis_server.hpp"
#include "support/temporary_folder.hpp"
#include "words.hpp"

using namespace caller::task;
using namespace std::chrono_literals;

namespace {

/// An authority, a server's certificate for `localhost`, and a client's.
struct Certificates {
  caller::test::TemporaryFolder folder;
  Certificates() {
    make("ca", "-subj /CN=test-authority");
    const std::string by =
        " -CA " + file("ca.pem") + " -CAkey " + file("ca.key") + " -addext basicConstraints=CA:FALSE";
    make("server", "-subj /CN=server -addext subjectAltName=DNS:localhost" + by);
    make("client", "-subj /CN=client" + by);
  }
  std::string file(const std::string& name) const { return folder.file(name); }

private:
  void make(const std::string& name, const std::string& more) const {
    const std::string command =
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -keyout " +
        file(name + ".key") + " -out " + file(name + ".pem") + " " + more + " 2>" + file("log");
    // NOLINTNEXTLINE: nothing of it comes from outside
    REQUIRE_MESSAGE(std::system(command.c_str()) == 0, "openssl, one of the packages in cmake/bootstrap.sh: ", command);
  }
};

/// A port of the loopback nobody else has.
struct Port {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  std::string number;
  Port() {
    sockaddr_in place{};
    place.sin_family = AF_INET;
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof place;
    REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&place), sizeof place) == 0);
    REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&place), &size) == 0);
    number = std::to_string(ntohs(place.sin_port));
  }
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;
  ~Port() { ::close(fd); }
};
std::string free_port() { return Port().number; }

/// A server that speaks TLS on a port of its own.
struct TlsServer {
  const Certificates& certificates;
  std::string port, plain_port;
  std::optional<RedisServer> server;
  explicit TlsServer(const Certificates& c, const std::string& clients) : certificates(c) {
    for (int tries = 0; !server; ++tries) {  // somebody else may take the port meanwhile
      port = free_port();
      plain_port = free_port();
      try {
        server.emplace(std::vector<std::string>{"--tls-port", port, "--port", plain_port, "--bind", "127.0.0.1",
                                                "--tls-cert-file", c.file("server.pem"), "--tls-key-file",
                                                c.file("server.key"), "--tls-ca-cert-file", c.file("ca.pem"),
                                                "--tls-auth-clients", clients});
      } catch (const std::runtime_error&) {
        if (tries == 4) throw;
      }
    }
  }
  std::string url(const std::string& host, const std::string& query, const std::string& who = "") const {
    return "rediss://" + who + host + ":" + port + "/0" + query;
  }
  std::string ca() const { return "ca_file=" + certificates.file("ca.pem"); }
};

std::string problem(const RedisOptions& options) {
  try {
    (void)make_redis_store(options, "app")->counts().wait({.timeout = 20s});
  } catch (const TaskingError& e) {
    return e.what();
  }
  return "";
}
std::string problem(const std::string& url) { return problem(RedisOptions{.url = url}); }

TEST_CASE("tasks are asked for and executed by TLS, as a user with a password") {
  const Certificates certificates;
  const TlsServer server(certificates, "no");
  server.server->command({"ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all"});
  server.server->command({"ACL", "SETUSER", "default", "off"});
  const std::string url = server.url("localhost", "?" + server.ca(), "worker:secret@");
  const auto made = [&] { return AppBuilder{}.redis(url).app_id("tls").build(); };
  const App here = made(), there = made();
  const auto size = [](const std::string& text) { return text.size(); };
  const auto asks = here.task("t.size", size, {"text"});
  (void)there.task("t.size", size, {"text"});
  there.runner().start();
  CHECK(asks("four").result() == 4);
  CHECK(asks(std::string(1'000'000, 'x')).result() == 1'000'000);  // more than one record of TLS
  CHECK(has(problem(server.url("localhost", "?" + server.ca(), "worker:wrong@")), "does not let us in: WRONGPASS"));
}

TEST_CASE("a server whose certificate is not what was asked for is not spoken to, and the sentence says what to do") {
  const Certificates certificates;
  const TlsServer server(certificates, "no");
  const std::string unknown = problem(server.url("localhost", ""));
  CHECK(has(unknown, "its certificate is not accepted: "));
  CHECK(has(unknown, "name the file of its authority as ca_file"));
  CHECK(has(problem(server.url("127.0.0.1", "?" + server.ca())), "its certificate is not accepted: "));
  CHECK(problem(server.url("localhost", "?" + server.ca())) == "");
  CHECK(problem(server.url("127.0.0.1", "?verify=authority&" + server.ca())) == "");
  CHECK(problem(server.url("127.0.0.1", "?verify=none")) == "");
  RedisOptions options{.url = server.url("127.0.0.1", "")};
  options.verify = RedisVerify::none;
  CHECK(problem(options) == "");
  CHECK(has(problem("rediss://localhost:" + server.plain_port + "?" + server.ca()), "no TLS is spoken there: "));
  CHECK(has(problem(server.url("localhost", "?ca_file=/none.pem")), "/none.pem cannot be read"));
}

TEST_CASE("a server that wants to know its clients lets in those with a certificate") {
  const Certificates certificates;
  const TlsServer server(certificates, "yes");
  const App app("tls", {{"store", "redis"},
                        {"redis.url", server.url("localhost", "")},
                        {"redis.ca_file", certificates.file("ca.pem")},
                        {"redis.cert_file", certificates.file("client.pem")},
                        {"redis.key_file", certificates.file("client.key")}});
  CHECK(app.store().counts().wait({.timeout = 20s}).empty());
  CHECK(has(problem(server.url("localhost", "?" + server.ca())), "Redis at rediss://localhost:" + server.port));
  const std::string wrong =
      problem(server.url("localhost", "?" + server.ca() + "&cert_file=" + certificates.file("client.key") +
                                          "&key_file=" + certificates.file("client.key")));
  CHECK(has(wrong, "client.key cannot be used"));
}

TEST_CASE("a store may go while it looks for its server, connects, greets or waits for the first answer") {
  const Certificates certificates;
  const std::string by = "?ca_file=" + certificates.file("ca.pem");
  for (const std::string& place : {std::string("redis://127.0.0.1:"), std::string("rediss://127.0.0.1:"),
                                   std::string("redis://localhost:"), std::string("rediss://localhost:")}) {
    // Nobody takes the connections: the first stand there without an answer, those after them are not even made.
    const Port silent;
    REQUIRE(::listen(silent.fd, 8) == 0);
    const std::string url = place + silent.number + (place.starts_with("rediss") ? by : "");
    for (int n = 0; n < 16; ++n) {
      std::optional<App> app(AppBuilder{}.redis(url).app_id("leaving").build());
      const auto asked = app->store().counts();
      std::this_thread::sleep_for(n * 200us);
      const auto begun = std::chrono::steady_clock::now();
      app.reset();
      CHECK(asked.wait_done({.timeout = 20s}));
      CHECK(asked.exception());
      CHECK(std::chrono::steady_clock::now() - begun < 4s);  // no connection's time-out was waited for
    }
  }
}

}  // namespace
