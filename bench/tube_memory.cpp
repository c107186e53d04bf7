// Whether a tube that runs freely for long takes more and more memory: samples, every ten seconds, of the proportional
// set size of this process and, under ClusterRunner, of those of the nodes. Fails if the median of their last third
// is above that of the second by more than a twentieth and 256 KiB.
//   caller_tube_memory thread|async|cluster [SECONDS [SAMPLES_APART]]
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

#include <caller/tube/all.hpp>

namespace {

namespace tube = caller::tube;
using Clock = std::chrono::steady_clock;

/// Numbers until the time is over; the clock is looked at now and then.
caller::Generator<std::int64_t> until(std::int64_t seconds) {
  const Clock::time_point end = Clock::now() + std::chrono::seconds(seconds);
  for (std::int64_t n = 0; n % 64 != 0 || Clock::now() < end; ++n) {
    std::int64_t value = n;
    co_yield value;
  }
}

void register_nodes() {
  tube::Registry& r = tube::registry();
  r.add("memory.until", &until, {"seconds"}, {"index"});
  r.add("memory.text", [](std::int64_t n) { return std::string(static_cast<std::size_t>(n % 2000), 'x'); }, {"n"});
  r.add("memory.items", [](std::int64_t n) { return std::vector<std::int64_t>(static_cast<std::size_t>(n % 8), n); },
        {"n"});
  r.add("memory.rarely",
        [](std::int64_t n) { return n % 3 == 0 ? std::optional<std::string>(std::to_string(n)) : std::nullopt; },
        {"n"});
}

/// Numbers, texts, optional values, a map with a gather, a gather over epochs, an end that takes some of them.
std::string specification(long seconds) {
  return "noob_id: memory\nnodes:\n"
         "  a: {type: memory.until, params: {seconds: " +
         std::to_string(seconds) +
         "}}\n"
         "  text: {type: memory.text, depends: [{n: a.index}]}\n"
         "  rarely: {type: memory.rarely, depends: [{n: a.index}]}\n"
         "  list: {type: memory.items, depends: [{n: a.index}]}\n"
         "  each: {type: map, depends: [{value: list.value}]}\n"
         "  twice: {type: noob.testing.multiply, depends: [{left: each.value}]}\n"
         "  all: {type: gather, depends: [{value: twice.value}, {n: each.n}]}\n"
         "  ten: {type: gather, params: {n: 10}, depends: [{value: text.value}]}\n"
         "  word: {type: noob.testing.concat, depends: [ten.value]}\n"
         "  out: {type: return, depends: [{all: all.value}, {rarely: rarely.value}, {word: word.value}]}\n";
}

/// Units: KiB; 0 if the process has gone.
std::uint64_t proportional(pid_t pid) {
  std::ifstream rollup("/proc/" + std::to_string(pid) + "/smaps_rollup");
  for (std::string word; rollup >> word;)
    if (std::uint64_t size = 0; word == "Pss:" && rollup >> size) return size;
  return 0;
}

std::unique_ptr<tube::TubeRunner> make(const std::string& kind, tube::Tube tube) {
  if (kind == "thread") return std::make_unique<tube::ThreadRunner>(std::move(tube));
  if (kind == "async") return std::make_unique<tube::AsyncRunner>(std::move(tube));
  if (kind == "cluster") return std::make_unique<tube::ClusterRunner>(std::move(tube));
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  register_nodes();
  tube::cluster_main(argc, argv);
  const std::string kind = argc > 1 ? argv[1] : "";
  const long seconds = argc > 2 ? std::max(1L, std::atol(argv[2])) : 600;
  const long apart = argc > 3 ? std::max(1L, std::atol(argv[3])) : 10;
  const std::unique_ptr<tube::TubeRunner> runner = make(kind, tube::Tube::from_any(specification(seconds)));
  if (!runner) {
    std::fprintf(stderr, "caller_tube_memory thread|async|cluster [SECONDS [SAMPLES_APART]]\n");
    return 2;
  }
  std::vector<pid_t> pids{::getpid()};
  if (auto* cluster = dynamic_cast<tube::ClusterRunner*>(runner.get())) {
    cluster->init();
    for (const tube::ClusterProcess& p : cluster->processes()) pids.push_back(p.pid);
  }
  std::atomic<std::uint64_t> epochs = 0;
  runner->add_callback([&](const tube::Notice& notice) {
    const auto* meta = std::get_if<tube::MetaEvent>(&notice);
    if (meta && meta->type == tube::MetaEvent::Type::epoch_ended) epochs.fetch_add(1, std::memory_order_relaxed);
  });
  const Clock::time_point begin = Clock::now();
  std::atomic<bool> over = false;
  std::thread run([&] {
    runner->run();
    over = true;
  });
  std::vector<std::uint64_t> samples;
  while (Clock::now() < begin + std::chrono::seconds(seconds - apart / 2) && !over) {
    std::this_thread::sleep_for(std::chrono::seconds(apart));
    std::uint64_t sum = 0;
    for (const pid_t pid : pids) sum += proportional(pid);
    samples.push_back(sum);
    std::printf("%s %4lds %8llu KiB %12llu epochs\n", kind.c_str(), static_cast<long>(samples.size()) * apart,
                static_cast<unsigned long long>(sum), static_cast<unsigned long long>(epochs.load()));
    std::fflush(stdout);
  }
  run.join();
  if (samples.size() < 6 || epochs == 0) {
    std::fprintf(stderr, "too short\n");
    return 2;
  }
  // Medians: what is in flight at the moment of a sample differs.
  const std::size_t third = samples.size() / 3;
  const auto median = [&](std::size_t from) {
    std::vector<std::uint64_t> part(samples.begin() + static_cast<std::ptrdiff_t>(from),
                                    samples.begin() + static_cast<std::ptrdiff_t>(from + third));
    std::sort(part.begin(), part.end());
    return part[part.size() / 2];
  };
  const std::uint64_t middle = median(third), last = median(samples.size() - third);
  const bool flat = last <= middle + (middle / 20) + 256;
  std::printf("%s: %llu epochs in %ld s, median %llu KiB in the second third, %llu KiB in the last: %s\n", kind.c_str(),
              static_cast<unsigned long long>(epochs.load()), seconds, static_cast<unsigned long long>(middle),
              static_cast<unsigned long long>(last), flat ? "flat" : "it GROWS");
  return flat ? 0 : 1;
}
