// The cluster of a library that was built without ZeroMQ.
#include <utility>

#include <caller/tube/cluster.hpp>

namespace caller::tube {

struct ClusterRunner::Hub {};

namespace {
[[noreturn]] void missing() {
  throw Error(Errc::not_found, "this library was built without ZeroMQ: it has no ClusterRunner");
}
}  // namespace

ClusterRunner::ClusterRunner(Tube tube, ClusterOptions) : TubeRunner(std::move(tube)) { missing(); }
ClusterRunner::~ClusterRunner() = default;
const char* ClusterRunner::class_name() const noexcept { return "ClusterRunner"; }
void ClusterRunner::init() { missing(); }
void ClusterRunner::deinit() {}
Result ClusterRunner::process(const Map&) { missing(); }
Generator<Result> ClusterRunner::iter(std::optional<std::size_t> n) { return TubeRunner::iter(n); }
std::vector<Result> ClusterRunner::run(std::size_t) { missing(); }
void ClusterRunner::run() { missing(); }
void ClusterRunner::disable_node(std::string_view) { missing(); }
void ClusterRunner::enable_node(std::string_view) { missing(); }
std::vector<ClusterProcess> ClusterRunner::processes() { missing(); }
void cluster_main(int, char**) {}
void cluster_main(int, char**, WorkerHooks) {}

}  // namespace caller::tube
