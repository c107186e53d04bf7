// A kernel process whose language is the fake one; started by the process tests with a connection file.
#include <exception>
#include <iostream>

#include "fake_interpreter.hpp"
#include "session/kernel_app.hpp"

int main(int argc, char** argv) {
  caller::kernel::KernelOptions options;
  options.connection_file = argc > 1 ? argv[1] : "";
  options.test_comms = true;
  options.log_level = "off";
  options.history_file = argc > 2 ? argv[2] : "";
  options.interpreter = [] { return std::make_unique<caller::kernel::fake::FakeInterpreter>(); };
  try {
    return caller::kernel::serve_kernel(options);
  } catch (const std::exception& e) {
    std::cerr << e.what() << '\n';
    return 1;
  }
}
