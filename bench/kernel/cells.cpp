// Start, cells, the code of cells, memory.
#include <fstream>
#include <sstream>

#include "figures.hpp"

namespace bench {
using namespace std::chrono_literals;

void measure_start(const Kernel& k, const Report& report) {
  {
    Process process(k.command);
    Client client(process.info);
    const auto id = client.send(Client::control, "kernel_info_request");
    client.until([&] { return client.replies.count(id) > 0; }, "kernel_info_reply");
    report("start_info",
           std::chrono::duration<double, std::milli>(client.replies.at(id).arrived - process.started).count());
  }
  Process process(k.command);
  Client client(process.info);
  const auto id = client.execute(
      k.say("std::map<std::string, int> counts;\n"
            "for (std::string word : {\"a\", \"b\", \"a\"}) ++counts[word];\n"
            "std::vector<int> sizes{3, 1, 2};\nstd::sort(sizes.begin(), sizes.end());\n"
            "std::cout << counts.size() << std::endl;\nsizes[0] + counts[\"a\"]",
            "import collections\ncounts = collections.Counter('aba')\nprint(len(counts))\n1 + counts['a']"));
  // The subscription may come too late for a very fast first cell; then its reply is the end.
  client.until([&] { return client.replies.count(id) > 0; }, "reply of the first cell");
  auto end = client.replies.at(id).arrived;
  client.pump(20ms);
  if (client.idle.count(id)) end = std::max(end, client.idle.at(id));
  if (client.replies.at(id).content().at("status") != "ok") throw std::runtime_error("the first cell failed");
  report("start_cell", std::chrono::duration<double, std::milli>(end - process.started).count());
  report("start_cpu", process.cpu());
}

void measure_cells(const Kernel& k, const Report& report) {
  Session s(k);
  const auto series = [&](const std::string& name, int n, const std::function<std::string(int)>& text) {
    for (int i = 0; i < 5; ++i) s.client.must(text(-i - 1));
    std::vector<double> ms;
    const double cpu = s.process.cpu();
    for (int i = 0; i < n; ++i) ms.push_back(s.client.run(text(i)));
    report(name + "_cpu", (s.process.cpu() - cpu) / n);
    report(name + "_p50", quantile(ms, 0.5));
    report(name + "_p99", quantile(ms, 0.99));
    s.client.forget();
  };
  series("trivial", k.times(400), [&](int i) { return std::to_string(i) + " + 1"; });
  series("vector_string", k.times(100), [&](int i) {
    const std::string v = numbered("v", i + 100);
    return k.say(
        "std::vector<std::string> " + v + "{\"one\", \"two\"};\n" + v + ".push_back(\"three\");\n" + v + ".size()",
        v + " = ['one', 'two']\n" + v + ".append('three')\nlen(" + v + ")");
  });
}

void measure_code(const Kernel& k, const Report& report) {
  if (!k.cpp) return;
  Session s(k);
  for (const auto& file : k.code) {
    std::ifstream in(file);
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    s.client.must(text.substr(0, text.find("//---")));
    const auto id = s.client.execute(text.substr(text.find("//---")));
    s.client.finish(id, Clock::now());
    if (id.empty() || s.client.replies.at(id).content().at("status") != "ok")
      throw std::runtime_error(file + ": " + s.client.replies.at(id).raw);
    std::istringstream out(s.client.text(id));
    for (std::string word; out >> word;)
      if (word == "measured") {
        double ns = 0;
        out >> ns;
        auto name = std::filesystem::path(file).stem().string();
        report("code_" + name, ns / 1e6);
      }
  }
}

void measure_memory(const Kernel& k, const Report& report) {
  Session s(k);
  s.client.pump(500ms);
  report("memory_bare", s.process.memory());
  const int n = 1000;
  for (int i = 0; i < n; ++i) {
    const std::string name = numbered("m", i);
    s.client.run(k.say("int " + name + " = " + std::to_string(i) + ";\n" + name + " + 1",
                       name + " = " + std::to_string(i) + "\n" + name + " + 1"));
  }
  s.client.pump(500ms);
  report("memory_1000", s.process.memory());
}

}  // namespace bench
