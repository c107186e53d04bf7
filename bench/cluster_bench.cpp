// A tube on many processes beside a pipeline written by hand: the same processes, cppzmq's PUSH and PULL over ipc, one
// message a value and no more. Prints medians of the rounds; the two take turns.
//   caller_cluster_bench [ROUNDS] [step]      with `step` only one call at a time
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.hpp>

#include <caller/tube/all.hpp>

namespace {

namespace tube = caller::tube;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t kStream = 300'000;
constexpr int kSteps = 4'000;
constexpr const char* kTube = R"(
noob_id: bench-basic
nodes:
  a: {type: noob.testing.count_source, params: {limit: 0}}
  b: {type: noob.testing.multiply, depends: [{left: a.index}]}
  out: {type: return, depends: b.value}
)";

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }
double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

void send_number(zmq::socket_t& to, std::int64_t n) { to.send(zmq::buffer(&n, sizeof n), zmq::send_flags::none); }
std::int64_t receive_number(zmq::socket_t& from) {
  std::int64_t n = 0;
  (void)from.recv(zmq::buffer(&n, sizeof n), zmq::recv_flags::none);
  return n;
}

/// `role`: who counts, or who doubles; each ends after `count` values.
int raw_process(const std::string& role, const std::string& folder, std::int64_t count) {
  zmq::context_t context;
  zmq::socket_t out(context, zmq::socket_type::push);
  out.set(zmq::sockopt::sndhwm, 0);
  if (role == "source") {
    zmq::socket_t start(context, zmq::socket_type::pull);
    start.connect("ipc://" + folder + "/start");
    out.connect("ipc://" + folder + "/middle");
    for (std::int64_t credit = 0, i = 0; i < count; ++i, --credit) {
      if (credit == 0) credit = receive_number(start);
      send_number(out, i);
    }
  } else {
    zmq::socket_t in(context, zmq::socket_type::pull);
    in.set(zmq::sockopt::rcvhwm, 0);
    in.bind("ipc://" + folder + "/middle");
    out.connect("ipc://" + folder + "/sink");
    for (std::int64_t i = 0; i < count; ++i) send_number(out, 2 * receive_number(in));
  }
  return 0;
}

/// A pipeline by hand: `count` values, `credit` of them asked for at a time. Returns values a second.
double raw(const char* self, std::int64_t count, std::int64_t credit) {
  std::string folder = "/tmp/cluster-bench-XXXXXX";
  if (!::mkdtemp(folder.data())) std::abort();
  double rate = 0;
  {
    zmq::context_t context;
    zmq::socket_t start(context, zmq::socket_type::push), sink(context, zmq::socket_type::pull);
    sink.set(zmq::sockopt::rcvhwm, 0);
    start.bind("ipc://" + folder + "/start");
    sink.bind("ipc://" + folder + "/sink");
    std::vector<pid_t> children;
    const std::string total = std::to_string(count + 1);
    for (const char* role : {"source", "middle"}) {
      std::vector<std::string> args{self, "--raw", role, folder, total};
      std::vector<char*> argv;
      for (std::string& a : args) argv.push_back(a.data());
      argv.push_back(nullptr);
      pid_t pid = 0;
      if (::posix_spawn(&pid, "/proc/self/exe", nullptr, nullptr, argv.data(), environ) != 0) std::abort();
      children.push_back(pid);
    }
    send_number(start, 1);  // the way is open when the first one is there
    (void)receive_number(sink);
    const Clock::time_point begin = Clock::now();
    for (std::int64_t done = 0; done < count; done += credit) {
      const std::int64_t n = std::min(credit, count - done);
      send_number(start, n);
      for (std::int64_t i = 0; i < n; ++i)
        if (receive_number(sink) != 2 * (done + i + 1)) std::abort();
    }
    rate = static_cast<double>(count) / seconds_since(begin);
    for (const pid_t pid : children) (void)::waitpid(pid, nullptr, 0);
  }
  std::filesystem::remove_all(folder);
  return rate;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 5 && std::strcmp(argv[1], "--raw") == 0) return raw_process(argv[2], argv[3], std::atoll(argv[4]));
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 5;
  const bool only_step = argc > 2 && std::strcmp(argv[2], "step") == 0;
  std::vector<double> start, step, raw_step, bounded, raw_stream, iterated, stop;
  for (int round = 0; round < rounds; ++round) {
    const Clock::time_point begin = Clock::now();
    auto runner = std::make_unique<tube::ClusterRunner>(tube::Tube::from_any(kTube));
    (void)runner->process();
    start.push_back(seconds_since(begin) * 1e3);
    Clock::time_point at = Clock::now();
    for (int i = 0; i < kSteps; ++i) (void)runner->process();
    step.push_back(kSteps / seconds_since(at));
    raw_step.push_back(std::getenv("NORAW") ? 1 : raw(argv[0], kSteps, 1));
    if (only_step) continue;
    (void)runner->run(1000);
    at = Clock::now();
    if (runner->run(kStream).size() != kStream) std::abort();
    bounded.push_back(static_cast<double>(kStream) / seconds_since(at));
    raw_stream.push_back(raw(argv[0], kStream, kStream));
    at = Clock::now();
    std::int64_t n = 0;
    for ([[maybe_unused]] const tube::Result& r : runner->iter(kStream)) ++n;
    iterated.push_back(static_cast<double>(n) / seconds_since(at));
    at = Clock::now();
    runner.reset();
    stop.push_back(seconds_since(at) * 1e3);
  }
  std::printf("cluster/start to first result   %10.1f ms\n", median(start));
  if (!only_step) std::printf("cluster/stop                    %10.1f ms\n", median(stop));
  std::printf("cluster/process()               %10.0f /s   raw %10.0f /s   %.2f\n", median(step), median(raw_step),
              median(step) / median(raw_step));
  if (only_step) return 0;
  std::printf("cluster/run(n)                  %10.0f /s   raw %10.0f /s   %.2f\n", median(bounded), median(raw_stream),
              median(bounded) / median(raw_stream));
  std::printf("cluster/iter(n)                 %10.0f /s\n", median(iterated));
}
