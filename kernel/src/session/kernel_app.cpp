#include "session/kernel_app.hpp"

#include <cstdlib>
#include <string>

#include "protocol/connection.hpp"
#include "protocol/log.hpp"
#include "protocol/zmq_io.hpp"
#include "session/kernel.hpp"

namespace caller::kernel {

LogLevel level_of(const std::string& name) {
  if (name == "debug") return LogLevel::debug;
  if (name == "info") return LogLevel::info;
  if (name == "error") return LogLevel::error;
  if (name == "off") return LogLevel::off;
  return LogLevel::warning;
}

int serve_kernel(const KernelOptions& given) {
  KernelOptions options = given;
  set_log_level(level_of(options.log_level));
  neutralise_signals();
  ConnectionInfo connection = read_connection_file(options.connection_file.string());
  const bool fill_ports = connection.shell_port == 0 || connection.control_port == 0 || connection.stdin_port == 0 ||
                          connection.iopub_port == 0 || connection.hb_port == 0;
  if (const char* test = std::getenv("CALLER_KERNEL_TEST_COMMS"); test && *test) options.test_comms = true;

  CallerOptions shell;
  shell.name = "Shell";
  shell.protect = true;  // a cell must not stop what serves it
  Caller main(manual, shell);
  Kernel kernel(options, std::move(connection), main);
  if (fill_ports) write_connection_file(kernel.session().connection(), options.connection_file.string());
  kernel.start();
  main.run();
  return 0;
}

}  // namespace caller::kernel
