// The tests of a runner of many processes are a program that runs nodes itself: the types it has, and how it begins.
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include <unistd.h>

#include "cluster_support.hpp"

using namespace caller::tube;

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

}  // namespace

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

namespace {

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

}  // namespace

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
