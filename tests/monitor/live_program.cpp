// An application with a monitor, for tests that look from outside. It says the page's address on standard output, then
// obeys lines of standard input: `call` (a family), `slow`, `fail`, `hostile`, `run` (starts a runner), `go` (lets what
// waits go on), and ends with the end of its input.
#include <atomic>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

#include <caller/all.hpp>
#include <caller/monitor/monitor.hpp>
#include <caller/task/all.hpp>

using namespace caller::task;

int main(int argc, char** argv) {
  App app = AppBuilder{}.app_id("observatory").build();
  caller::Pending<void> gate;
  auto leaf = app.task("images.calibrate", [](int frame, std::string filter) { return filter + std::to_string(frame); },
                       {"frame", "filter"});
  auto middle = app.task("images.stack",
                         [leaf](std::string field, std::vector<int> frames) -> caller::Coro<std::string> {
                           std::string all = field;
                           for (const int frame : frames) {
                             const auto inv = leaf(frame, field + "-H");
                             all += " " + co_await inv;
                           }
                           co_return all;
                         },
                         {"field", "frames"});
  auto root = app.task("survey.night",
                       [middle](std::string night) -> caller::Coro<int> {
                         const auto a = middle("M31", std::vector<int>{1, 2, 3});
                         const auto b = middle("M42", std::vector<int>{4, 5});
                         const std::string first = co_await a;
                         const std::string second = co_await b;
                         co_return static_cast<int>(first.size() + second.size() + night.size());
                       },
                       {"night"});
  auto slow = app.task("mount.slew",
                       [&gate](double ra, double dec) -> caller::Coro<double> {
                         caller::WaitOptions how;
                         how.protect = true;
                         co_await gate.async_wait(how);
                         co_return ra + dec;
                       },
                       {"ra", "dec"});
  auto fail = app.task("weather.check",
                       [](std::string site) -> int {
                         try {
                           throw std::runtime_error("connection refused by " + site);
                         } catch (...) {
                           std::throw_with_nested(std::logic_error("no weather, no opening"));
                         }
                       },
                       {"site"});
  const std::string evil =
      std::string("<img src=x onerror=\"window.hacked=1\">\"'</script><script>window.hacked=1</script>") + '\0' +
      "\xff\xfe\xe2\x80\xae";
  auto hostile = app.task(evil, [evil](std::string) -> std::string { return evil; }, {"x"}, {.queue = evil});
  auto hostile_fail =
      app.task(evil + "2", [evil](std::string) -> std::string { throw std::runtime_error(evil); }, {"<b>x</b>"});

  caller::monitor::MonitorOptions options;
  options.allow_write = argc > 1 && std::string(argv[1]) == "--allow-write";
  options.interval = std::chrono::milliseconds(200);
  const caller::monitor::Monitor monitor(app, options);
  auto runner = app.thread_runner({4, {}, "dome-1"});
  bool running = false;
  std::cout << monitor.url() << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    if (line == "call") (void)root("2026-11-28");
    if (line == "slow") (void)slow(10.68, 41.27);
    if (line == "fail") (void)fail("ridge");
    if (line == "hostile") {
      (void)hostile(evil);
      (void)hostile_fail(std::string(300'000, '<'));
    }
    if (line == "run" && !std::exchange(running, true)) runner->start();
    if (line == "go") gate.set_result();
    std::cout << "done" << std::endl;
  }
  gate.set_result();
  if (running) (void)runner->stop(true).wait_done({.timeout = std::chrono::seconds(20)});
  return 0;
}
