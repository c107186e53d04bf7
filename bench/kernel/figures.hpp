// What is measured of a kernel. Each function starts what processes it needs and reports figures by name.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "client.hpp"

namespace bench {

struct Kernel {
  std::vector<std::string> command;  ///< with the word {connection_file}
  bool cpp = true;                   ///< speaks C++; else Python
  double scale = 1;                  ///< share of the usual number of repetitions
  std::vector<std::string> code;     ///< files with code to be compared with a compiler's

  /// The text of a cell in the kernel's language.
  std::string say(const std::string& in_cpp, const std::string& in_python) const { return cpp ? in_cpp : in_python; }
  int times(int n) const { return std::max(3, static_cast<int>(n * scale)); }
};

using Report = std::function<void(const std::string& name, double value)>;
using Figure = void (*)(const Kernel&, const Report&);

void measure_start(const Kernel&, const Report&);
void measure_cells(const Kernel&, const Report&);
void measure_code(const Kernel&, const Report&);
void measure_control(const Kernel&, const Report&);
void measure_completion(const Kernel&, const Report&);
void measure_queue(const Kernel&, const Report&);
void measure_output(const Kernel&, const Report&);
void measure_comms(const Kernel&, const Report&);
void measure_memory(const Kernel&, const Report&);
void measure_interrupts(const Kernel&, const Report&);
void measure_shutdown(const Kernel&, const Report&);
void measure_clients(const Kernel&, const Report&);
void measure_faults(const Kernel&, const Report&);

/// A kernel, and a client that has heard of it.
struct Session {
  explicit Session(const Kernel& kernel) : process(kernel.command), client(process.info) {
    client.settle();
    client.must(kernel.say("1 + 1", "1 + 1"));
    client.forget();
  }
  Process process;
  Client client;
};

}  // namespace bench
