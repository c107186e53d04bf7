// caller_kernel_bench [--python] [--scale X] [--code FILE]… FIGURES -- COMMAND…
// Measures a kernel and prints one line `name value` a figure. FIGURES is a comma-separated list, or `all`.
#include <cstring>
#include <iostream>

#include "figures.hpp"

int main(int argc, char** argv) {
  using namespace bench;
  const std::vector<std::pair<std::string, Figure>> figures = {
      {"start", measure_start},           {"cells", measure_cells},           {"code", measure_code},
      {"control", measure_control},       {"completion", measure_completion}, {"queue", measure_queue},
      {"output", measure_output},         {"comms", measure_comms},           {"memory", measure_memory},
      {"interrupts", measure_interrupts}, {"shutdown", measure_shutdown},     {"clients", measure_clients},
      {"faults", measure_faults}};
  Kernel kernel;
  std::string wanted;
  int i = 1;
  for (; i < argc && std::strcmp(argv[i], "--") != 0; ++i) {
    const std::string word = argv[i];
    if (word == "--python")
      kernel.cpp = false;
    else if (word == "--scale" && i + 1 < argc)
      kernel.scale = std::stod(argv[++i]);
    else if (word == "--code" && i + 1 < argc)
      kernel.code.push_back(argv[++i]);
    else
      wanted += word + ",";
  }
  for (++i; i < argc; ++i) kernel.command.push_back(argv[i]);
  if (kernel.command.empty() || wanted.empty()) {
    std::cerr
        << "usage: caller_kernel_bench [--python] [--scale X] [--code FILE]… FIGURES -- COMMAND… {connection_file}\n";
    return 2;
  }
  bool failed = false, any = false;
  for (const auto& [name, measure] : figures) {
    if (wanted != "all," && ("," + wanted).find("," + name + ",") == std::string::npos) continue;
    any = true;
    try {
      measure(kernel,
              [](const std::string& figure, double value) { std::cout << figure << " " << value << std::endl; });
    } catch (const std::exception& e) {
      std::cerr << name << ": " << e.what() << std::endl;
      failed = true;
    }
  }
  if (!any) std::cerr << "no such figure: " << wanted << "\n";
  return failed || !any;
}
