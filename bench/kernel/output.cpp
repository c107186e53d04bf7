// Output: how much, how soon, and whether all of it.
#include <sstream>
#include <thread>

#include "figures.hpp"

namespace bench {
using namespace std::chrono_literals;
namespace {

struct Read {
  long lines = 0;
  double first = -1, peak = 0;  // ms until the first text; the most messages of a second
  std::size_t messages = 0;
  std::string pending;
  std::string text;
};

}  // namespace

void measure_output(const Kernel& k, const Report& report) {
  const int n = k.cpp ? std::max(1000, static_cast<int>(100000 * std::min(1.0, k.scale)))
                      : std::max(1000, static_cast<int>(20000 * k.scale));
  const std::string count = std::to_string(n);
  const std::string cell = k.say("for (int i = 0; i < " + count + "; ++i) std::cout << \"line \" << i << std::endl;",
                                 "for i in range(" + count + "): print('line', i, flush=True)");
  for (const bool slow : {false, true}) {
    Session s(k);
    const auto begin = Clock::now();
    const auto id = s.client.execute(cell);
    if (slow) std::this_thread::sleep_for(3s);
    s.client.until([&] { return s.client.idle.count(id) && s.client.replies.count(id); },
                   "the end of a cell that prints much", 120s);
    const double ms = std::chrono::duration<double, std::milli>(s.client.idle.at(id) - begin).count();
    const std::string text = s.client.text(id);
    std::string expected;
    for (int i = 0; i < n; ++i) expected += "line " + std::to_string(i) + "\n";
    const auto lines = std::count(text.begin(), text.end(), '\n');
    const double lost = text == expected ? 0 : std::max(1.0, static_cast<double>(n - lines));
    if (slow) {
      report("endl_slow_lost", lost);
    } else {
      report("endl_lines_per_s", n / ms * 1000);
      report("endl_lost", lost);
      report("endl_messages", static_cast<double>(s.client.iopub_messages));
      report("endl_messages_per_s", static_cast<double>(s.client.iopub_messages) / ms * 1000);
    }
  }
  // Each line says when it was written; nothing is flushed.
  Session s(k);
  const auto id =
      s.client.execute(k.say("for (int i = 0; i < 10000; ++i) {\n  std::cout << "
                             "std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now()."
                             "time_since_epoch()).count() << '\\n';\n"
                             "  const auto until = std::chrono::steady_clock::now() + 100us;\n  while "
                             "(std::chrono::steady_clock::now() < until) {}\n}",
                             "import time\nfor i in range(10000):\n    print(time.monotonic_ns() // 1000)\n    until = "
                             "time.monotonic_ns() + 100000\n"
                             "    while time.monotonic_ns() < until: pass"));
  s.client.until([&] { return s.client.idle.count(id) && s.client.replies.count(id); },
                 "the end of a cell that does not flush", 60s);
  double worst = 0;
  long lines = 0;
  for (const auto& m : s.client.published) {
    if (m.type != "stream" || m.parent != id) continue;
    const double arrived = std::chrono::duration<double, std::micro>(m.arrived.time_since_epoch()).count();
    std::istringstream text(m.content().at("text").get<std::string>());
    for (double written; text >> written; ++lines)
      if (written > 1e6) worst = std::max(worst, arrived - written);
  }
  report("unflushed_delay", worst / 1000);
  report("unflushed_lost", static_cast<double>(lines < 10000 ? 10000 - lines : 0));
}

}  // namespace bench
