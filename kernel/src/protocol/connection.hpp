// The connection file that a Jupyter client hands to the kernel.
#pragma once

#include <string>

#include "protocol/error.hpp"

namespace caller::kernel {

/// Where the five sockets live and how messages are signed.
///
/// Thread-safety: distinct objects: safe.
/// Units: ports; 0 means "any free port" for tcp.
/// Errors: none.
/// Source: Jupyter client, "Connection files".
struct ConnectionInfo {
  std::string transport = "tcp";  ///< tcp or ipc
  std::string ip = "127.0.0.1";   ///< for ipc: the path the ports are appended to
  int shell_port = 0;
  int control_port = 0;
  int stdin_port = 0;
  int iopub_port = 0;
  int hb_port = 0;
  std::string signature_scheme = "hmac-sha256";
  std::string key;  ///< empty: messages are neither signed nor checked
  std::string kernel_name;
  std::string curve_public;  ///< Z85, with curve_secret: every socket is a CURVE server; both empty: no encryption
  std::string curve_secret;

  /// The ZMQ endpoint of a port: `tcp://ip:port` (`*` for port 0) or `ipc://ip-port`.
  std::string endpoint(int port) const;
};

/// Reads a connection file. Unknown fields are ignored, optional ones that are null or missing take their defaults.
///
/// Thread-safety: any thread.
/// A file that others can read is taken, and the log says so: whoever reads it can run code in the kernel.
///
/// Errors: KernelError(connection_file) naming the file and the field.
/// Source: ipykernel `--f`; differs: the message says which field is wrong. CURVE: Jupyter enhancement proposal 145.
ConnectionInfo read_connection_file(const std::string& path);

/// The same from text; `name` stands in messages in place of a path.
///
/// Thread-safety: any thread.
/// Errors: as read_connection_file.
/// Source: none.
ConnectionInfo parse_connection(const std::string& text, const std::string& name);

/// As a connection file has it.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: jupyter_client `write_connection_file`.
std::string connection_text(const ConnectionInfo& info);

/// Writes the file readable by its owner only, through a temporary name, so that no client reads half a file.
///
/// Thread-safety: any thread, distinct paths.
/// Errors: KernelError(connection_file).
/// Source: jupyter_client `write_connection_file`.
void write_connection_file(const ConnectionInfo& info, const std::string& path);

}  // namespace caller::kernel
