// Connection files: read, or refused by a message that names the file.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "protocol/connection.hpp"

using namespace caller::kernel;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const ConnectionInfo info = parse_connection(text, "file");
    for (const int port : {info.shell_port, info.control_port, info.stdin_port, info.iopub_port, info.hb_port})
      if (port < 0 || info.endpoint(port).empty()) std::abort();
    if (info.curve_public.empty() != info.curve_secret.empty()) std::abort();
  } catch (const KernelError& e) {
    if (std::string(e.what()).find("connection file file: ") != 0) std::abort();
  }
  return 0;
}
