#include <algorithm>
#include <limits>
#include <utility>

#include <caller/tube/cluster.hpp>

#include "hub.hpp"

namespace caller::tube {

using detail::Instance;

namespace {
constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max();
/// While it lives, lost epochs may be passed over.
struct FreeRun {
  explicit FreeRun(bool& f) : flag(f) { flag = true; }
  ~FreeRun() { flag = false; }
  bool& flag;
};
}  // namespace

ClusterRunner::ClusterRunner(Tube tube, ClusterOptions options)
    : TubeRunner(std::move(tube)), hub_(std::make_unique<Hub>(*this, std::move(options))) {}
ClusterRunner::~ClusterRunner() {
  try {
    hub_->drop_all();
    deinit();
  } catch (const std::exception& e) {
    warn(e.what());
  }
}
const char* ClusterRunner::class_name() const noexcept { return "ClusterRunner"; }

void ClusterRunner::init() {
  if (running()) return;
  if (hub_->context) {
    hub_->ensure();
  } else {
    try {
      hub_->bring_up();
    } catch (...) {
      hub_->shut_down();
      throw;
    }
  }
  hub_->open_nodes();
  while (!hub_->complete()) {  // lost meanwhile, and to be replaced at once
    hub_->ensure();
    hub_->open_nodes();
  }
  TubeRunner::init();
}
void ClusterRunner::deinit() {
  if (!running()) return;
  hub_->drain();
  hub_->close_nodes();
  TubeRunner::deinit();
}

Result ClusterRunner::process(const Map& inputs) {
  Impl& r = impl();
  const Processing processing(r);
  const Map checked = validate_input(inputs);
  before_process();
  if (hub_->epochs.empty()) {
    r.check_stream();
    hub_->ensure();
    hub_->begin(r.take_inputs(checked), 1);
  }
  const Instance* root = hub_->epochs.front();
  try {
    return hub_->take();
  } catch (...) {
    // Broken off: nobody will come for the result of these inputs.
    if (!hub_->epochs.empty() && hub_->epochs.front() == root) hub_->drop_all();
    throw;
  }
}

Generator<Result> ClusterRunner::iter(std::optional<std::size_t> n) {
  Impl& r = impl();
  const Iteration iteration(impl());
  const bool returns = r.graph.return_node != detail::kNone;
  hub_->start_run();
  for (std::size_t i = 0; !n || i < *n; ++i) {
    Result result;
    bool over = false;
    {
      const FreeRun free(hub_->free_running);
      try {
        std::size_t calls = 0;
        do {
          if (returns && calls++ == max_iter_loops) r.no_result();
          // Each result that is still wanted needs one epoch at least: never more than are sure to be used.
          hub_->fill(n ? *n - i : kNoLimit, kNoLimit);
          if (hub_->epochs.empty()) {
            over = r.exhausted;
            if (!over) continue;
          } else {
            const Instance* root = hub_->epochs.front();
            try {
              result = hub_->take();
            } catch (...) {
              // Broken off, and not an epoch that failed: nobody will come for what has begun.
              if (!hub_->epochs.empty() && hub_->epochs.front() == root) hub_->drop_all();
              throw;
            }
          }
        } while (!over && (returns ? !result : false));
      } catch (const EndOfStream&) {
        over = true;
      }
    }
    if (over) co_return;
    co_yield std::move(result);
  }
}

std::vector<Result> ClusterRunner::run(std::size_t n) {
  impl().check_inputs_for_iteration();
  std::vector<Result> results;
  results.reserve(std::min(n, detail::kReserved));
  init();
  const CloseAtEnd close{*this};
  const FreeRun free(hub_->free_running);
  hub_->start_run();
  try {
    // Epochs that were begun before count.
    std::size_t left = n;
    std::size_t begun = std::min(n, hub_->epochs.size());
    while (left > 0) {
      const std::size_t before = hub_->epochs.size();
      hub_->fill(kNoLimit, n - begun);
      begun += hub_->epochs.size() - before;
      if (hub_->epochs.empty()) {
        if (begun < n && !impl().exhausted) continue;
        break;
      }
      const std::size_t open = hub_->epochs.size();
      Result result = hub_->take();
      left -= std::min(left, open - hub_->epochs.size());  // more than one if some were lost
      if (result) results.push_back(std::move(result));
    }
  } catch (const EndOfStream&) {
  }
  return results;
}

void ClusterRunner::run() {
  impl().check_inputs_for_iteration();
  init();
  const CloseAtEnd close{*this};
  const FreeRun free(hub_->free_running);
  hub_->start_run();
  try {
    for (;;) {
      hub_->fill(kNoLimit, kNoLimit);
      if (!hub_->epochs.empty())
        (void)hub_->take();
      else if (impl().exhausted)
        break;
    }
  } catch (const EndOfStream&) {
  }
}

void ClusterRunner::disable_node(std::string_view node) {
  hub_->drain();
  const std::uint32_t n = impl().graph.find(node);
  const bool was = n != detail::kNone && impl().core.enabled(n);
  TubeRunner::disable_node(node);
  hub_->told.clear();
  if (was && hub_->context) hub_->set_enabled(n, false);
}
void ClusterRunner::enable_node(std::string_view node) {
  hub_->drain();
  const std::uint32_t n = impl().graph.find(node);
  if (n != detail::kNone && !impl().core.enabled(n) && hub_->context) hub_->set_enabled(n, true);
  TubeRunner::enable_node(node);
  hub_->told.clear();
}

std::vector<ClusterProcess> ClusterRunner::processes() {
  if (hub_->context) return hub_->ask_all();
  std::vector<ClusterProcess> found;
  for (const std::vector<std::uint32_t>& nodes : hub_->layout.nodes) {
    ClusterProcess one;
    for (const std::uint32_t n : nodes) one.nodes.push_back(impl().graph.nodes[n].id);
    found.push_back(std::move(one));
  }
  return found;
}

}  // namespace caller::tube
