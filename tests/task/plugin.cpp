// Tasks in a library, which `caller runner start --app` loads: `caller runner list`, docs/tasks.md and the tests use
// it.
#include <cctype>
#include <chrono>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>

#include <caller/task/all.hpp>

CALLER_TASKS(app) {
  app.task("demo.add", [](int x, int y) { return x + y; }, {"x", {"y", 1}});
  app.task("demo.words",
           [](const std::string& text) {
             std::map<std::string, int> counts;
             std::string word;
             for (const char c : text + " ") {
               if (std::isalpha(static_cast<unsigned char>(c))) {
                 word += c;
               } else if (!word.empty()) {
                 ++counts[word];
                 word.clear();
               }
             }
             return counts;
           },
           {"text"});
  app.task("demo.fail", [](const std::string& why) { throw std::runtime_error(why); }, {"why"});
  // Ends its process, and what else runs there.
  app.task("demo.crash", [] { std::abort(); });
  // Until it is asked to end; for whoever stops a runner.
  app.task("demo.endless", [](std::stop_token stop) {
    while (!stop.stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  // Nothing ends it but the end of its process.
  app.task("demo.stubborn", [] {
    for (;;) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  });
}
