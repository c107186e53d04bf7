// Tasks on each store beside a floor written by hand: for Redis the three commands that a queue with a result needs,
// from C, with the same processes. Rounds take turns; prints medians, and for the latency the quantiles of all rounds.
//   caller_task_bench [ROUNDS] [redis|sqlite|memory|million]...
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include <caller/all.hpp>
#include <caller/task/all.hpp>

#include "task/redis_server.hpp"

namespace {

using namespace caller::task;
using Clock = std::chrono::steady_clock;

constexpr int kTasks = 10'000, kCalls = 2'000;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

class Figures {
public:
  void add(const std::string& row, double value) {
    if (!values_.contains(row)) rows_.push_back(row);
    values_[row].push_back(value);
  }
  void add(const std::string& row, const std::vector<double>& values) {
    for (const double v : values) add(row, v);
  }
  double quantile(const std::string& row, double q) const {
    std::vector<double> v = values_.at(row);
    std::sort(v.begin(), v.end());
    return v[std::min(v.size() - 1, static_cast<std::size_t>(q * static_cast<double>(v.size())))];
  }
  void print() const {
    for (const auto& row : rows_)
      if (row.ends_with("latency"))
        std::printf("%-44s %10.1f us p50 %10.1f us p99\n", row.c_str(), quantile(row, 0.5), quantile(row, 0.99));
      else
        std::printf("%-44s %10.0f\n", row.c_str(), quantile(row, 0.5));
  }

private:
  std::vector<std::string> rows_;
  std::map<std::string, std::vector<double>> values_;
};

// ---- processes: this program again

class Process {
public:
  explicit Process(std::vector<std::string> arguments) {
    int in[2], out[2];
    if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0) std::abort();
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in[0], 0);
    posix_spawn_file_actions_adddup2(&files, out[1], 1);
    arguments.insert(arguments.begin(), "caller_task_bench");
    std::vector<char*> argv;
    for (auto& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    if (::posix_spawn(&pid_, "/proc/self/exe", &files, nullptr, argv.data(), environ) != 0) std::abort();
    posix_spawn_file_actions_destroy(&files);
    ::close(in[0]);
    ::close(out[1]);
    input_ = in[1];
    char byte;
    if (::read(out[0], &byte, 1) != 1) std::abort();  // it is ready
    ::close(out[0]);
  }
  Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, -1)), input_(std::exchange(other.input_, -1)) {}
  Process& operator=(Process&&) = delete;
  ~Process() {
    if (pid_ <= 0) return;
    ::close(input_);
    ::waitpid(pid_, nullptr, 0);
  }
  /// Proportional set size in MiB.
  double memory() const {
    std::ifstream in("/proc/" + std::to_string(pid_) + "/smaps_rollup");
    std::string word;
    double kib = 0;
    while (in >> word)
      if (word == "Pss:") in >> kib;
    return kib / 1024;
  }

private:
  pid_t pid_ = -1;
  int input_ = -1;
};

void ready() { (void)!::write(1, "r", 1); }
void wait_for_the_end_of_input() {
  char byte;
  while (::read(0, &byte, 1) > 0) {
  }
}

// ---- this library

App app_on(const std::string& where) {
  AppBuilder b;
  b.app_id("bench");
  if (where == "memory")
    b.memory();
  else if (where.starts_with("unix://"))
    b.redis(where);
  else
    b.sqlite(where);
  return b.build();
}
auto add_on(const App& app) {
  return app.task("bench.add", [](long x, long y) { return x + y; }, {"x", "y"});
}
auto urgent_on(const App& app) {
  TaskOptions options;
  options.priority = 1;
  return app.task("bench.urgent", [](long x, long y) { return x + y; }, {"x", "y"}, options);
}

int work(const std::string& where, std::size_t slots) {
  const App app = app_on(where);
  const auto add = add_on(app);
  const auto urgent = urgent_on(app);
  RunnerOptions o;
  o.slots = slots;
  const auto runner = app.thread_runner(o);
  runner->start();
  ready();
  wait_for_the_end_of_input();
  runner->stop().wait();
  return 0;
}

std::vector<Process> workers(int n, const std::string& where) {
  std::vector<Process> all;
  for (int i = 0; i < n; ++i) all.emplace_back(std::vector<std::string>{"--work", where, "2"});
  return all;
}

std::vector<std::tuple<long, long>> arguments(int n) {
  std::vector<std::tuple<long, long>> all;
  for (int i = 0; i < n; ++i) all.emplace_back(i, 1);
  return all;
}

template <class Add>
double singly(const Add& add, int n) {
  std::vector<Invocation<long>> calls;
  const auto begin = Clock::now();
  for (int i = 0; i < n; ++i) calls.push_back(add(i, 1));
  long sum = 0;
  for (const auto& c : calls) sum += c.result();
  if (sum != static_cast<long>(n) * (n + 1) / 2) std::abort();
  return n / seconds_since(begin);
}
template <class Add>
double together(const Add& add, int n) {
  const auto what = arguments(n);
  const auto begin = Clock::now();
  const auto results = add.parallelize(what).results();
  const double rate = n / seconds_since(begin);
  if (results.size() != what.size()) std::abort();
  return rate;
}
template <class Add>
std::vector<double> one_at_a_time(const Add& add, int n) {
  std::vector<double> microseconds;
  for (int i = 0; i < n; ++i) {
    const auto begin = Clock::now();
    if (add(i, 1).result() != i + 1) std::abort();
    microseconds.push_back(seconds_since(begin) * 1e6);
  }
  return microseconds;
}

// ---- the floor: three commands a task

using Reply = std::unique_ptr<redisReply, void (*)(void*)>;
class Redis {
public:
  explicit Redis(const std::string& path) : context_(redisConnectUnix(path.c_str())) {
    if (!context_ || context_->err) std::abort();
  }
  Redis(const Redis&) = delete;
  Redis& operator=(const Redis&) = delete;
  ~Redis() { redisFree(context_); }
  template <class... A>
  Reply operator()(const char* format, A... a) {
    Reply r(static_cast<redisReply*>(redisCommand(context_, format, a...)), &freeReplyObject);
    if (!r || r->type == REDIS_REPLY_ERROR) std::abort();
    return r;
  }

private:
  redisContext* context_;
};

int work_by_hand(const std::string& path) {
  Redis redis(path);
  ready();
  for (;;) {
    const Reply job = redis("BLPOP jobs 0");
    long id = 0, x = 0, y = 0;
    if (std::sscanf(job->element[1]->str, "%ld %ld %ld", &id, &x, &y) != 3) return 0;
    (void)redis("RPUSH results %s", (std::to_string(id) + " " + std::to_string(x + y)).c_str());
  }
}

class HandWorkers {
public:
  HandWorkers(int n, Redis& redis, const std::string& path) : redis_(redis) {
    for (int i = 0; i < n; ++i) processes_.emplace_back(std::vector<std::string>{"--by-hand", path});
  }
  ~HandWorkers() {
    for (std::size_t i = 0; i < processes_.size(); ++i) (void)redis_("RPUSH jobs end");
  }

private:
  Redis& redis_;
  std::vector<Process> processes_;
};

void send_by_hand(Redis& redis, int i) { (void)redis("RPUSH jobs %s", (std::to_string(i) + " 7 1").c_str()); }

double singly_by_hand(Redis& redis, int n) {
  const auto begin = Clock::now();
  for (int i = 0; i < n; ++i) send_by_hand(redis, i);
  while (redis("LLEN results")->integer < n) ::usleep(500);
  if (redis("LRANGE results 0 -1")->elements != static_cast<std::size_t>(n)) std::abort();
  const double rate = n / seconds_since(begin);
  (void)redis("DEL results");
  return rate;
}
std::vector<double> one_at_a_time_by_hand(Redis& redis, int n) {
  std::vector<double> microseconds;
  for (int i = 0; i < n; ++i) {
    const auto begin = Clock::now();
    send_by_hand(redis, i);
    (void)redis("BLPOP results 0");
    microseconds.push_back(seconds_since(begin) * 1e6);
  }
  return microseconds;
}

// ---- rounds

void redis_round(Figures& figures) {
  for (const bool durable : {false, true}) {
    const std::string name = durable ? "redis, AOF" : "redis";
    const RedisServer server(durable ? std::vector<std::string>{"--appendonly", "yes", "--appendfsync", "everysec"}
                                     : std::vector<std::string>{});
    Redis redis(server.socket());
    {
      const App app = app_on(server.url());
      const auto add = add_on(app);
      for (const int n : durable ? std::vector<int>{2} : std::vector<int>{1, 2}) {
        const std::string row = name + ", " + std::to_string(n) + (n == 1 ? " worker" : " workers") + ": ";
        {
          const auto all = workers(n, server.url());
          (void)singly(add, 500);
          figures.add(row + "submitted singly", singly(add, kTasks));
          figures.add(row + "parallelize", together(add, kTasks));
          if (n == 1) figures.add(row + "latency", one_at_a_time(add, kCalls));
          if (n == 1) figures.add(row + "memory of it, KiB", all.front().memory() * 1024);
        }
        app.purge();
        const HandWorkers all(n, redis, server.socket());
        (void)singly_by_hand(redis, 500);
        figures.add(row + "floor", singly_by_hand(redis, kTasks));
        if (n == 1) figures.add(row + "floor latency", one_at_a_time_by_hand(redis, kCalls));
      }
      if (durable) continue;
      auto begin = Clock::now();
      for (int i = 0; i < kTasks; ++i) (void)add(i, 1);
      figures.add(name + ", no worker: submitted singly", kTasks / seconds_since(begin));
      app.purge();
      const auto what = arguments(10 * kTasks);
      begin = Clock::now();
      (void)add.parallelize(what);
      figures.add(name + ", no worker: parallelize", 10 * kTasks / seconds_since(begin));
      app.purge();
      begin = Clock::now();
      for (int i = 0; i < kTasks; ++i) send_by_hand(redis, i);
      figures.add(name + ", no worker: floor", kTasks / seconds_since(begin));
    }
  }
}

void sqlite_round(Figures& figures) {
  std::string folder = "task-bench-XXXXXX";  // here: the disk is part of the figure
  if (!::mkdtemp(folder.data())) std::abort();
  {
    const std::string path = std::filesystem::absolute(folder) / "tasks.db";
    const App app = app_on(path);
    const auto add = add_on(app);
    for (const int n : {1, 2}) {
      const std::string row = "sqlite, " + std::to_string(n) + (n == 1 ? " worker" : " workers") + ": ";
      const auto all = workers(n, path);
      (void)together(add, 500);
      figures.add(row + "submitted singly", singly(add, kTasks / 5));
      figures.add(row + "parallelize", together(add, kTasks));
      if (n == 1) figures.add(row + "latency", one_at_a_time(add, kCalls / 4));
      if (n == 1) figures.add(row + "memory of it, KiB", all.front().memory() * 1024);
    }
  }
  std::filesystem::remove_all(folder);
}

void memory_round(Figures& figures) {
  const App app = app_on("memory");
  const auto add = add_on(app);
  RunnerOptions o;
  o.slots = 2;
  const auto runner = app.thread_runner(o);
  runner->start();
  (void)together(add, kTasks);
  figures.add("memory: submitted singly", singly(add, 10 * kTasks));
  figures.add("memory: parallelize", together(add, 10 * kTasks));
  figures.add("memory: latency", one_at_a_time(add, kCalls));
  runner->stop().wait();
}

/// What waiting invocations take, and a page of their list.
void million_round(Figures& figures) {
  constexpr int kMany = 1'000'000;
  const RedisServer server;
  Redis redis(server.socket());
  const auto used = [&] {
    const Reply info = redis("INFO memory");
    return std::atof(std::strstr(info->str, "used_memory:") + std::strlen("used_memory:"));
  };
  const App app = app_on(server.url());
  const auto add = add_on(app);
  const double before = used();
  for (int i = 0; i < kMany; i += kTasks) (void)add.parallelize(arguments(kTasks));
  figures.add("redis, 1 000 000 waiting: bytes each", (used() - before) / kMany);
  std::vector<double> microseconds;
  for (std::size_t page = 0; page < 20; ++page) {
    const auto begin = Clock::now();
    if (app.store().list("", std::nullopt, page * 50, 50).wait().size() != 50) std::abort();
    microseconds.push_back(seconds_since(begin) * 1e6);
  }
  figures.add("redis, 1 000 000 waiting: a page, latency", microseconds);
  app.purge();
  // What many that wait cost those that are taken: the same calls, put before few and before many others.
  const auto urgent = urgent_on(app);
  for (const int waiting : {100, 10'000, kMany}) {
    for (int i = 0; i < waiting; i += kTasks) (void)add.parallelize(arguments(std::min(waiting, kTasks)));
    const auto calls = urgent.parallelize(arguments(kTasks));
    const auto all = workers(1, server.url());
    while (app.store().get(calls.invocations().front().id()).wait().status != Status::success) ::usleep(100);
    const auto begin = Clock::now();
    (void)calls.results();
    figures.add("redis, " + std::to_string(waiting) + " waiting: executed", kTasks / seconds_since(begin));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 4 && std::strcmp(argv[1], "--work") == 0) return work(argv[2], std::stoul(argv[3]));
  if (argc == 3 && std::strcmp(argv[1], "--by-hand") == 0) return work_by_hand(argv[2]);
  int rounds = 5;
  std::map<std::string, void (*)(Figures&)> stores{
      {"redis", &redis_round}, {"sqlite", &sqlite_round}, {"memory", &memory_round}, {"million", &million_round}};
  std::vector<std::string> wanted;
  for (int i = 1; i < argc; ++i) {
    if (stores.contains(argv[i])) {
      wanted.emplace_back(argv[i]);
    } else if (rounds = std::atoi(argv[i]); rounds < 1) {
      std::fprintf(stderr, "usage: caller_task_bench [ROUNDS] [redis|sqlite|memory|million]...\n");
      return 2;
    }
  }
  if (wanted.empty()) wanted = {"redis", "sqlite", "memory"};
  Figures figures;
  for (int round = 0; round < rounds; ++round)
    for (const auto& store : wanted) stores.at(store)(figures);
  figures.print();
}
