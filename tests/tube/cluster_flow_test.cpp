// Epochs that flow through many processes: bounds, runs again and again, and the transports.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include <unistd.h>

#include <zmq.hpp>

#include "cluster_support.hpp"

using namespace caller::tube;

TEST_CASE("a source far ahead of its sink is held back: never more than the credit is anywhere") {
  for (const std::size_t window : {1U, 7U, 32U}) {
    CAPTURE(window);
    ClusterRunner runner(chain("{type: test.slowly, params: {us: 200}, depends: [n: a.index]}"),
                         {.max_pending = window});
    const std::vector<Result> results = runner.run(200);
    REQUIRE(results.size() == 200);
    for (std::size_t i = 0; i < results.size(); ++i) CHECK(results[i] == Value(i));
    for (const ClusterProcess& p : runner.processes()) {
      CHECK(p.open_most <= window);
      CHECK(p.held_most <= window);
      CHECK(p.sent == 200);
    }
  }
}

TEST_CASE("large values bound the window, too") {
  // 8 MB each: with 32 MB at work at most, no more than a few are.
  const Tube tube = from(
      "  a: {type: noob.testing.count_source, params: {limit: 0}}\n"
      "  image: {type: test.image, params: {size: 1000000}, depends: [n: a.index]}\n"
      "  mean: {type: test.mean, depends: [v: image.value]}\n  out: {type: return, depends: mean.value}\n");
  ClusterRunner runner(tube, {.max_bytes = 32 << 20});
  const std::vector<Result> results = runner.run(40);
  REQUIRE(results.size() == 40);
  for (std::size_t i = 0; i < results.size(); ++i) CHECK(results[i] == Value(static_cast<double>(i)));
  for (const ClusterProcess& p : runner.processes()) CHECK(p.open_most <= 8);
  const std::uint64_t before = runner.processes().front().open_most;
  (void)runner.run(40);
  for (const ClusterProcess& p : runner.processes()) CHECK(p.open_most <= before);
}

TEST_CASE("map tubes run hundreds of times") {
  // The reference hung or failed in several of a dozen.
  ClusterRunner runner(tube("testing-map-nested-gather"));
  ClusterRunner basic(tube("testing-map-basic"));
  for (int round = 0; round < 100; ++round) {
    CHECK(runner.run(3).size() == 3);
    CHECK(basic.run(2).size() == 2);
    CHECK(runner.process().has_value());
  }
}

TEST_CASE("an iteration that is left early keeps what it has begun, also across a slow node") {
  ClusterRunner runner(chain("{type: test.slowly, params: {us: 500}, depends: [n: a.index]}"));
  std::int64_t expected = 0;
  for (int round = 0; round < 5; ++round) {
    int n = 0;
    for (const Result& r : runner.iter()) {
      CHECK(r == Value(expected++));
      if (++n == 7) break;
    }
    CHECK(runner.process() == Value(expected++));
  }
}

TEST_CASE("tcp: the same results, encrypted, on addresses of this machine") {
  ClusterRunner runner(tube("testing-map-gather"), {.transport = Transport::tcp});
  CHECK(runner.process().repr(200) ==
        R"({"word": "amber", "letter": ["a!", "m!", "b!", "e!", "r!"], "reconstructed": "a!m!b!e!r!"})");
  CHECK(runner.run(50).size() == 50);
  for (const ClusterProcess& p : runner.processes()) CHECK(p.endpoint.starts_with("tcp://127.0.0.1:"));
}

TEST_CASE("bytes of somebody who does not belong to the cluster do no harm") {
  ClusterRunner runner(tube("testing-basic"));
  CHECK(runner.process() == Value(0));
  zmq::context_t context;
  std::mt19937 random(3);
  std::string commands;
  Warnings warnings;
  for (const ClusterProcess& p : runner.processes()) {
    zmq::socket_t push(context, zmq::socket_type::push);
    push.set(zmq::sockopt::linger, 1000);
    push.connect(p.endpoint);
    for (int i = 0; i < 300; ++i) {
      std::string bytes(1, "vbw?"[random() % 4]);
      for (std::uint32_t n = random() % 30; n > 0; --n) bytes += static_cast<char>(random());
      push.send(zmq::buffer(bytes), zmq::send_flags::none);
    }
    commands = p.endpoint.substr(0, p.endpoint.rfind('/')) + "/runner";
  }
  zmq::socket_t dealer(context, zmq::socket_type::dealer);
  dealer.set(zmq::sockopt::linger, 1000);
  dealer.connect(commands);
  for (int i = 0; i < 100; ++i) dealer.send(zmq::str_buffer("x\xa1 nonsense"), zmq::send_flags::none);
  for (int i = 1; i < 200; ++i) CHECK(runner.process() == Value(2 * i));
  for (const ClusterProcess& p : runner.processes()) CHECK(p.restarts == 0);
  CHECK_FALSE(warnings.seen.empty());
}

TEST_CASE("tcp across two network namespaces: nodes there, the runner here") {
  const std::string name = "caller-test-" + std::to_string(::getpid());
  const auto sh = [](const std::string& command) { return std::system((command + " 2>/dev/null").c_str()) == 0; };
  struct Namespace {
    std::string name;
    ~Namespace() { (void)!std::system(("ip netns del " + name + " 2>/dev/null").c_str()); }
  } there{name};
  const std::string number = std::to_string(::getpid() % 250), here = "10.213." + number + ".1",
                    away = "10.213." + number + ".2", link = "ct" + std::to_string(::getpid() % 100000);
  if (!sh("ip netns add " + name) || !sh("ip link add " + link + "a type veth peer name " + link + "b") ||
      !sh("ip link set " + link + "b netns " + name) || !sh("ip addr add " + here + "/24 dev " + link + "a") ||
      !sh("ip link set " + link + "a up") || !sh("ip -n " + name + " addr add " + away + "/24 dev " + link + "b") ||
      !sh("ip -n " + name + " link set " + link + "b up") || !sh("ip -n " + name + " link set lo up")) {
    MESSAGE("skipped: network namespaces cannot be made here (ip netns needs root)");
    return;
  }
  ClusterOptions options{.transport = Transport::tcp, .address = here};
  options.groups = {{.nodes = {"loud"}, .worker = {"ip", "netns", "exec", name, CALLER_TUBE_NODE}, .address = away}};
  ClusterRunner runner(tube("testing-map-gather"), options);
  CHECK(runner.process().repr(200) ==
        R"({"word": "amber", "letter": ["a!", "m!", "b!", "e!", "r!"], "reconstructed": "a!m!b!e!r!"})");
  CHECK(runner.run(50).size() == 50);
  for (const ClusterProcess& p : runner.processes()) {
    const bool is_loud = p.nodes == std::vector<std::string>{"loud"};
    CHECK(p.endpoint.starts_with("tcp://" + (is_loud ? away : here)));
    const auto space = [](const std::string& pid) {
      return std::filesystem::read_symlink("/proc/" + pid + "/ns/net").string();
    };
    CHECK((space(std::to_string(p.pid)) != space("self")) == is_loud);
  }
}
