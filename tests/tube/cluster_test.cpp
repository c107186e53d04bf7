// What only a runner of many processes must do: processes and their ends, bounds, what crosses and what does not.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <zmq.hpp>

#include "support.hpp"

using namespace caller::tube;
using namespace std::chrono_literals;

namespace {

struct Celsius {
  double degrees = 0;
};
struct Opaque {
  int number = 0;
};
class Throws {
public:
  Throws() { throw std::domain_error("no such device"); }
  int process(int) { return 0; }
};
class ThrowsInInit {
public:
  void init() { throw std::runtime_error("cannot be opened"); }
  int process(int n) { return n; }
};
struct OwnError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
class ThrowsAtTheEnd {
public:
  void deinit() { throw std::runtime_error("cannot be closed"); }
  int process(int n) { return n; }
};
class Total {
public:
  std::int64_t process(std::int64_t n) { return total_ += n; }

private:
  std::int64_t total_ = 0;
};

void register_nodes() {
  add_codec<Celsius>(
      "test.Celsius", [](const Celsius& c) { return c.degrees; },
      [](const Value& v) { return Celsius{v.to<double>()}; });
  Registry& r = registry();
  r.add("test.pid", [] { return static_cast<std::int64_t>(::getpid()); });
  r.add("test.pid_of", [](const Value&) { return static_cast<std::int64_t>(::getpid()); }, {"x"});
  r.add("test.celsius", [](std::int64_t n) { return Celsius{static_cast<double>(n) / 2}; }, {"n"});
  r.add("test.degrees", [](const Celsius& c) { return c.degrees; }, {"c"});
  r.add("test.opaque", [](std::int64_t n) { return Opaque{static_cast<int>(n)}; }, {"n"});
  r.add("test.opaque_any", [](std::int64_t n) { return Value(Opaque{static_cast<int>(n)}); }, {"n"});
  r.add("test.number_of", [](const Opaque& o) { return o.number; }, {"o"});
  r.add_class<Throws>("test.Throws", {}, &Throws::process, {"n"});
  r.add_class<ThrowsAtTheEnd>("test.ThrowsAtTheEnd", {}, &ThrowsAtTheEnd::process, {"n"});
  r.add_class<ThrowsInInit>("test.ThrowsInInit", {}, &ThrowsInInit::process, {"n"});
  r.add("test.exit_at",
        [](std::int64_t n, std::int64_t at) {
          if (n == at) ::_exit(7);
          return n;
        },
        {"n", "at"});
  r.add("test.throw_own", [](const Value&) -> int { throw OwnError("mine"); }, {"x"});
  r.add("test.throw_system",
        [](const Value&) -> int { throw std::system_error(ENOENT, std::generic_category(), "the lens"); }, {"x"});
  r.add("test.throw_number", [](const Value&) -> int { throw 3; }, {"x"});
  r.add("test.slowly",
        [](std::int64_t n, std::int64_t microseconds) {
          std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
          return n;
        },
        {"n", "us"});
  r.add("test.image",
        [](std::int64_t n, std::int64_t size) {
          return std::vector<double>(static_cast<std::size_t>(size), static_cast<double>(n));
        },
        {"n", "size"});
  r.add("test.mean",
        [](const std::vector<double>& v) {
          double sum = 0;
          for (const double d : v) sum += d;
          return sum / static_cast<double>(v.size());
        },
        {"v"});
  r.add_class<Total>("test.Total", {}, &Total::process, {"n"});
}

/// Types that a process of nodes has only if it was told of them.
void register_told(const std::string& names) {
  Registry& r = registry();
  if (contains(names, "told.half"))
    r.add("told.half", [](std::int64_t n) { return Celsius{static_cast<double>(n) / 2}; }, {"n"});
  if (contains(names, "told.degrees"))
    r.add("told.degrees", [](const List& c) { return c.at(0).as<Celsius>().degrees; }, {"c"});
  if (contains(names, "told.fails"))
    r.add("told.fails", [](std::int64_t n) -> std::int64_t { throw std::out_of_range("no " + std::to_string(n)); },
          {"n"});
  if (contains(names, "told.guarded")) r.add("told.guarded", [](std::int64_t n) -> std::int64_t { throw n; }, {"n"});
  if (contains(names, "told.Store")) r.add_asset<Total>("told.Store");
  if (contains(names, "told.add"))
    r.add("told.add", [](std::int64_t n, Total& store) { return store.process(n); }, {"n", "store"});
}
std::string told;  // to this process
WorkerHooks told_hooks() {
  WorkerHooks hooks;
  hooks.prepare = [](const std::string& payload) {
    if (payload == "fail") throw std::length_error("nothing is ready");
    register_told(told = payload);
  };
  hooks.call = [](const std::function<void()>& body) {
    try {
      body();
    } catch (std::int64_t n) {
      throw RemoteError("Number", "the number " + std::to_string(n));
    }
  };
  hooks.where = [](const std::exception_ptr&) {
    return told.empty() ? std::vector<std::string>() : std::vector<std::string>{"outer", "inner of " + told};
  };
  return hooks;
}

Tube from(const std::string& nodes) { return Tube::from_any("noob_id: test-cluster\nnodes:\n" + nodes); }

/// A source, a node in the middle, and what the middle gives.
Tube chain(const std::string& middle) {
  return from("  a: {type: noob.testing.count_source, params: {limit: 0}}\n  b: " + middle +
              "\n  out: {type: return, depends: b.value}\n");
}

bool process_lives(int pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  return std::getline(stat, text) && !contains(text, ") Z ");
}
std::size_t open_descriptors() {
  std::size_t n = 0;
  for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator("/proc/self/fd")) ++n;
  return n;
}
std::size_t socket_folders() {
  std::size_t n = 0;
  for (const auto& e : std::filesystem::directory_iterator(std::filesystem::temp_directory_path()))
    n += e.path().filename().string().starts_with("caller-tube-");
  return n;
}
int pid_of(ClusterRunner& runner, std::string_view node) {
  for (const ClusterProcess& p : runner.processes())
    if (std::find(p.nodes.begin(), p.nodes.end(), node) != p.nodes.end()) return p.pid;
  return 0;
}

}  // namespace

/// A program that runs a tube until it is killed; a test does so.
[[noreturn]] void run_and_wait() {
  ClusterRunner runner(tube("testing-basic"));
  (void)runner.process();
  std::string line;
  for (const ClusterProcess& p : runner.processes()) line += (line.empty() ? "" : " ") + std::to_string(p.pid);
  line += "\n";
  (void)!::write(1, line.data(), line.size());
  for (;;) ::pause();
}

extern "C" void caller_test_begin(int argc, char** argv) {
  register_nodes();
  cluster_main(argc, argv, told_hooks());
  if (argc == 2 && std::string_view(argv[1]) == "--run-and-wait") run_and_wait();
  // A folder for sockets of its own: other tests run at the same time, and this one counts.
  static struct Folder {
    Folder() { ::setenv("TMPDIR", ::mkdtemp(name.data()), 1); }
    ~Folder() { std::filesystem::remove_all(name); }
    std::string name = "/tmp/tube-test-XXXXXX";
  } folder;
}

TEST_CASE("every node has a process of its own, and nodes of a group share one") {
  const Tube tube = from(
      "  a: {type: test.pid}\n  b: {type: test.pid_of, depends: [x: a.value]}\n"
      "  c: {type: test.pid_of, depends: [x: b.value]}\n  out: {type: return, depends: [a.value, b.value, c.value]}\n");
  ClusterRunner runner(tube);
  const auto pids = runner.process().to<std::vector<int>>();
  CHECK(std::set<int>(pids.begin(), pids.end()).size() == 3);
  CHECK(std::find(pids.begin(), pids.end(), ::getpid()) == pids.end());
  ClusterRunner grouped(tube, {.groups = {{.nodes = {"a", "c"}}}});
  const auto shared = grouped.process().to<std::vector<int>>();
  CHECK(shared[0] == shared[2]);
  CHECK(shared[0] != shared[1]);
  CHECK_THROWS_WITH_AS(ClusterRunner(tube, {.groups = {{.nodes = {"a", "cc"}}}}), doctest::Contains("\"cc\""), Error);
  CHECK_THROWS_WITH_AS(ClusterRunner(tube, {.groups = {{.nodes = {"a"}}, {.nodes = {"a"}}}}),
                       doctest::Contains("two groups"), Error);
}

TEST_CASE("a runner that is gone leaves no process, no file and no descriptor") {
  (void)ClusterRunner(tube("testing-basic")).process();  // what is made once per program
  const std::size_t before = open_descriptors(), folders = socket_folders();
  for (int i = 0; i < 5; ++i) {
    std::vector<int> pids;
    {
      ClusterRunner runner(tube(i % 2 ? "testing-error" : "testing-map-gather"));
      CHECK(open_descriptors() == before);
      try {
        (void)runner.process();
      } catch (const NodeError&) {
      }
      for (const ClusterProcess& p : runner.processes()) {
        CHECK(process_lives(p.pid));
        pids.push_back(p.pid);
      }
      CHECK(socket_folders() == folders + 1);
      if (i > 2) runner.deinit();
    }
    CHECK_FALSE(pids.empty());
    for (const int pid : pids) CHECK_FALSE(process_lives(pid));
    CHECK(open_descriptors() == before);
    CHECK(socket_folders() == folders);
  }
}

namespace {
/// A program with a cluster of two processes that waits to be killed.
struct Waiting {
  Waiting() {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
    pid = ::fork();
    if (pid == 0) {
      ::dup2(ends[1], 1);
      ::execl(self.c_str(), self.c_str(), "--run-and-wait", static_cast<char*>(nullptr));
      ::_exit(127);
    }
    ::close(ends[1]);
    std::string text;
    for (char c = 0; ::read(ends[0], &c, 1) == 1 && c != '\n';) text += c;
    ::close(ends[0]);
    for (std::size_t at = 0; at < text.size();) {
      std::size_t used = 0;
      workers.push_back(std::stoi(text.substr(at), &used));
      at += used + 1;
    }
    REQUIRE(workers.size() == 2);
    for (const int worker : workers)
      ended.push_back({static_cast<int>(::syscall(SYS_pidfd_open, worker, 0)), POLLIN, 0});
  }
  ~Waiting() {
    for (const pollfd& p : ended) ::close(p.fd);
  }
  void kill() const {
    ::kill(pid, SIGKILL);
    int status = 0;
    ::waitpid(pid, &status, 0);
  }
  void wait_for_workers() {
    for (pollfd& p : ended) CHECK(::poll(&p, 1, 10'000) == 1);
  }
  pid_t pid = 0;
  std::vector<int> workers;
  std::vector<pollfd> ended;
};
}  // namespace

TEST_CASE("processes end with their parent, even if it is killed, and their folder goes") {
  const std::size_t folders = socket_folders();
  Waiting program;
  CHECK(socket_folders() == folders + 1);
  program.kill();
  program.wait_for_workers();
  CHECK(socket_folders() == folders);
}

TEST_CASE("the folder of a runner that was killed with all its processes goes with the next runner, others stay") {
  const std::size_t folders = socket_folders();
  Waiting living, program;
  for (const int worker : program.workers) ::kill(worker, SIGKILL);
  program.wait_for_workers();
  program.kill();
  REQUIRE(socket_folders() == folders + 2);
  (void)ClusterRunner(tube("testing-basic")).process();
  CHECK(socket_folders() == folders + 1);
  living.kill();
  living.wait_for_workers();
  CHECK(socket_folders() == folders);
}

TEST_CASE("what a constructor or init throws is thrown here, at once and with its type") {
  for (int i = 0; i < 2; ++i) {
    ClusterRunner runner(chain("{type: test.Throws, depends: [n: a.index]}"));
    CHECK_THROWS_WITH_AS(runner.process(), "no such device", std::domain_error);
    CHECK_FALSE(runner.running());
    CHECK_THROWS_AS(runner.init(), std::domain_error);
  }
  ClusterRunner runner(chain("{type: test.ThrowsInInit, depends: [n: a.index]}"));
  CHECK_THROWS_WITH_AS(runner.init(), "cannot be opened", std::runtime_error);
}

TEST_CASE("an exception keeps its type if it is a known one, else its name") {
  const auto cause = [](const char* type) -> std::exception_ptr {
    ClusterRunner runner(chain("{type: " + std::string(type) + ", depends: [x: a.index]}"));
    try {
      (void)runner.process();
    } catch (const NodeError& e) {
      CHECK(e.node() == "b");
      CHECK(contains(e.what(), "x=0"));
      try {
        std::rethrow_if_nested(e);
      } catch (...) {
        return std::current_exception();
      }
    } catch (...) {
      return std::current_exception();
    }
    return nullptr;
  };
  CHECK_THROWS_WITH_AS(std::rethrow_exception(cause("test.throw_own")), "mine", RemoteError);
  try {
    std::rethrow_exception(cause("test.throw_own"));
  } catch (const RemoteError& e) {
    CHECK(contains(e.type(), "OwnError"));
  }
  try {
    std::rethrow_exception(cause("test.throw_system"));
  } catch (const std::system_error& e) {
    CHECK(e.code() == std::errc::no_such_file_or_directory);
    CHECK(std::string(e.what()) == std::system_error(ENOENT, std::generic_category(), "the lens").what());
  }
  CHECK_THROWS_AS(std::rethrow_exception(cause("test.throw_number")), RemoteError);
}

TEST_CASE("objects cross with a codec; without one the tube is refused by node, signal and type") {
  const std::string two = "  a: {type: noob.testing.count_source, params: {limit: 0}}\n";
  ClusterRunner warm(
      from(two + "  b: {type: test.celsius, depends: [n: a.index]}\n"
                 "  c: {type: test.degrees, depends: [c: b.value]}\n  out: {type: return, depends: c.value}\n"));
  (void)warm.process();
  CHECK(warm.process() == Value(0.5));
  const Tube opaque =
      from(two +
           "  b: {type: test.opaque, depends: [n: a.index]}\n"
           "  c: {type: test.number_of, depends: [o: b.value]}\n  out: {type: return, depends: c.value}\n");
  CHECK_THROWS_WITH_AS(ClusterRunner{opaque}, doctest::Contains("\"b.value\""), Error);
  CHECK_THROWS_WITH_AS(ClusterRunner{opaque}, doctest::Contains("Opaque"), Error);
  CHECK_THROWS_WITH_AS(ClusterRunner{opaque}, doctest::Contains("\"c\""), Error);
  // In one process it need not cross, and the store says where it is.
  ClusterRunner grouped(opaque, {.groups = {{.nodes = {"b", "c"}}}});
  (void)grouped.process();
  CHECK(grouped.process() == Value(1));
  CHECK(grouped.store().get("b", "value", Epoch(1))->value.kind() == Kind::object);
  // Where the type is known only at run time, so is the error.
  ClusterRunner late(
      from(two + "  b: {type: test.opaque_any, depends: [n: a.index]}\n"
                 "  c: {type: test.number_of, depends: [o: b.value]}\n  out: {type: return, depends: c.value}\n"));
  for (int i = 0; i < 2; ++i) {
    try {
      (void)late.process();
      FAIL("no error");
    } catch (const NodeError& e) {
      CHECK(e.node() == "b");
      CHECK(contains(e.what(), "\"value\""));
      CHECK(contains(e.what(), "Opaque"));
    }
  }
}

TEST_CASE("a worker that does not know the types, or is no worker, is named") {
  const Tube pids = from("  a: {type: test.pid}\n  out: {type: return, depends: a.value}\n");
  ClusterRunner unknown(pids, {.worker = {CALLER_TUBE_NODE}});
  CHECK_THROWS_WITH_AS(unknown.process(), doctest::Contains("unknown type \"test.pid\""), SpecError);
  CHECK_THROWS_WITH_AS(unknown.process(), doctest::Contains("cluster_main"), SpecError);
  ClusterRunner missing(pids, {.worker = {"/no/such/program"}});
  CHECK_THROWS_WITH_AS(missing.process(), doctest::Contains("/no/such/program"), std::system_error);
  ClusterRunner other(pids, {.worker = {"/bin/false"}});
  CHECK_THROWS_WITH_AS(other.process(), doctest::Contains("exit code 1"), ProcessError);
  ClusterRunner silent(pids, {.worker = {"/bin/sh", "-c", "exec sleep 60"}, .start_timeout = 300ms});
  CHECK_THROWS_WITH_AS(silent.process(), doctest::Contains("no answer within 300 ms"), ProcessError);
}

TEST_CASE("a process is told what its nodes need; others know what those look like") {
  register_told("told.half told.degrees told.Store told.add");  // here, but not in programs that are started
  ClusterOptions options{.worker = {CALLER_TUBE_NODE}};
  std::vector<std::vector<std::string>> asked;
  options.program = [&](const std::vector<std::string>& nodes) -> ClusterProgram {
    asked.push_back(nodes);
    if (nodes.front() == "b") return {{"/proc/self/exe"}, "told.half"};
    if (nodes.front() == "d") return {{"/proc/self/exe"}, "told.degrees"};
    if (nodes.front() == "e") return {{"/proc/self/exe"}, "told.Store told.add"};
    return {};
  };
  const Tube tube = Tube::from_any(
      "noob_id: told\nassets:\n  store: {type: told.Store, scope: runner}\nnodes:\n"
      "  a: {type: noob.testing.count_source, params: {limit: 0}}\n"
      "  b: {type: told.half, depends: [n: a.index]}\n"
      // Not of its process: it hands on what it has no codec for.
      "  c: {type: noob.testing.passthrough, depends: [value: b.value]}\n"
      "  d: {type: told.degrees, depends: [c: c.value]}\n"
      "  e: {type: told.add, depends: [{n: a.index}, {store: assets.store}]}\n"
      "  out: {type: return, depends: [d.value, e.value]}\n");
  {
    ClusterRunner runner(tube, options);
    const std::vector<Result> results = runner.run(4);
    REQUIRE(results.size() == 4);
    CHECK(results[3] == Value(List{1.5, 6}));
    CHECK(asked == std::vector<std::vector<std::string>>{{"a"}, {"b"}, {"c"}, {"d"}, {"e"}});
    // Who takes the place of another is told the same.
    ::kill(pid_of(runner, "b"), SIGKILL);
    CHECK_THROWS_AS((void)runner.run(4), ProcessError);
    CHECK(runner.run(4).size() == 4);
    CHECK(asked.size() == 5);
  }
  // What looks like a type is none.
  options.program = [](const std::vector<std::string>&) { return ClusterProgram{}; };
  ClusterRunner unknown(tube, options);
  CHECK_THROWS_WITH_AS(unknown.init(), doctest::Contains("unknown type \"told."), SpecError);
  options.program = [](const std::vector<std::string>&) { return ClusterProgram{{"/proc/self/exe"}, "fail"}; };
  ClusterRunner unready(tube, options);
  CHECK_THROWS_WITH_AS(unready.init(), "nothing is ready", std::length_error);
}

TEST_CASE("what a program knows of an exception comes with it, inside of its cause") {
  register_told("told.fails told.guarded");
  for (const std::string type : {"told.fails", "told.guarded"}) {
    ClusterRunner runner(from("  a: {type: noob.testing.count_source, params: {limit: 0}}\n  b: {type: " + type +
                              ", depends: [n: a.index]}\n  out: {type: return, depends: b.value}\n"),
                         {.program = [&](const std::vector<std::string>&) { return ClusterProgram{{}, type}; }});
    try {
      (void)runner.process();
      FAIL("no error");
    } catch (const NodeError& e) {
      CHECK(e.node() == "b");
      try {
        std::rethrow_if_nested(e);
      } catch (const std::exception& cause) {
        if (type == "told.fails") {
          CHECK(dynamic_cast<const std::out_of_range*>(&cause));
          CHECK(std::string(cause.what()) == "no 0");
        } else {
          const auto* remote = dynamic_cast<const RemoteError*>(&cause);
          REQUIRE(remote);
          CHECK(remote->type() == "Number");
          CHECK(std::string(remote->what()) == "the number 0");
        }
        CHECK_THROWS_AS(std::rethrow_if_nested(cause), RemoteTrace);
        try {
          std::rethrow_if_nested(cause);
        } catch (const RemoteTrace& trace) {
          CHECK(trace.lines() == std::vector<std::string>{"outer", "inner of " + type});
          CHECK(std::string(trace.what()) == "inner of " + type);
        }
      }
    }
  }
}

TEST_CASE("a process that is killed is an error with its node, pid and signal; the next call has a new one") {
  ClusterRunner runner(chain("{type: test.Total, depends: [n: a.index]}"));
  for (const int sum : {0, 1, 3}) CHECK(runner.process() == Value(sum));
  const int pid = pid_of(runner, "b");
  ::kill(pid, SIGKILL);
  const auto killed = std::chrono::steady_clock::now();
  try {
    for (;;) (void)runner.process();
  } catch (const ProcessError& e) {
    CHECK(std::chrono::steady_clock::now() - killed < 1s);
    CHECK(e.nodes() == std::vector<std::string>{"b"});
    CHECK(e.pid() == pid);
    CHECK(e.signal() == SIGKILL);
    CHECK(e.code() == Errc::process_lost);
    CHECK(contains(e.what(), "\"b\""));
    CHECK(contains(e.what(), "signal 9"));
  }
  // The source went on counting where it was; what the lost node had added up is lost with it.
  const Result first = runner.process(), second = runner.process();
  CHECK(first.to<int>() >= 3);
  CHECK(second.to<int>() == 2 * first.to<int>() + 1);
  CHECK(pid_of(runner, "b") != pid);
}

TEST_CASE("a process that leaves in the middle of a run ends it; results before it are no longer missing") {
  ClusterRunner runner(chain("{type: test.exit_at, params: {at: 20}, depends: [n: a.index]}"), {.max_pending = 4});
  std::vector<std::int64_t> found;
  try {
    for (const Result& r : runner.iter()) found.push_back(r.to<std::int64_t>());
    FAIL("no error");
  } catch (const ProcessError& e) {
    CHECK(e.exit_code() == 7);
    CHECK(contains(e.what(), "exit code 7"));
  }
  // All that was taken is complete and in order; at most a window's worth is lost.
  for (std::size_t i = 0; i < found.size(); ++i) CHECK(found[i] == static_cast<std::int64_t>(i));
  CHECK(found.size() >= 16);
  CHECK(found.size() <= 20);
}

TEST_CASE("a process that is killed is an error within a second though another node never ends") {
  ClusterRunner runner(chain("{type: noob.testing.just_wait, params: {wait_for: 3600}, depends: [value: a.index]}"));
  runner.init();
  const int source = pid_of(runner, "a"), waits = pid_of(runner, "b");
  std::optional<std::chrono::steady_clock::time_point> killed;
  runner.add_callback([&](const Notice& notice) {
    if (killed || !std::holds_alternative<Event>(notice)) return;
    killed = std::chrono::steady_clock::now();  // the first of a, which is on its way to b
    ::kill(source, SIGKILL);
  });
  CHECK_THROWS_AS((void)runner.process(), ProcessError);
  runner.deinit();
  REQUIRE(killed);
  CHECK(std::chrono::steady_clock::now() - *killed < 1s);
  CHECK_FALSE(process_lives(waits));
  runner.init();  // with new ones
  CHECK(process_lives(pid_of(runner, "b")));
}

TEST_CASE("with restart a run goes on without the epochs that were lost, and says which") {
  ClusterRunner runner(chain("{type: test.exit_at, params: {at: 20}, depends: [n: a.index]}"),
                       {.max_pending = 4, .restart = true});
  std::set<std::uint64_t> lost;
  runner.add_callback([&](const Notice& notice) {
    if (const auto* e = std::get_if<MetaEvent>(&notice); e && e->type == MetaEvent::Type::error) {
      CHECK(e->node_id == "b");
      CHECK(lost.insert(e->epoch.root()).second);
    }
  });
  Warnings warnings;
  std::vector<std::int64_t> found;
  for (const Result& r : runner.run(60)) found.push_back(r.to<std::int64_t>());
  CHECK(lost.contains(20));
  CHECK(lost.size() <= 4);
  CHECK(found.size() + lost.size() == 60);
  for (std::size_t i = 1; i < found.size(); ++i) CHECK(found[i] > found[i - 1]);
  for (const std::int64_t n : found) CHECK_FALSE(lost.contains(static_cast<std::uint64_t>(n)));
  CHECK(warnings.seen.size() == 1);
}

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

TEST_CASE("what a node's deinit throws becomes a warning here") {
  Warnings warnings;
  ClusterRunner runner(chain("{type: test.ThrowsAtTheEnd, depends: [n: a.index]}"));
  CHECK(runner.run(3).size() == 3);
  REQUIRE(warnings.seen.size() == 1);
  CHECK(contains(warnings.seen.front(), "cannot be closed"));
  CHECK(contains(warnings.seen.front(), "\"b\""));
}
