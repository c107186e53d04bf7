// `caller tube`: checks, draws and runs tubes from the command line.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace caller::kernel::cli {

struct TubeOptions {
  std::string spec;  ///< an id or a path
  std::vector<std::string> plugins;
  std::vector<std::string> folders;                         ///< searched before those of CALLER_TUBE_PATH
  std::string runner = "sync";                              ///< sync, async, thread or cluster
  std::optional<std::size_t> n;                             ///< results; all if not given
  std::vector<std::pair<std::string, std::string>> inputs;  ///< name, and JSON or text
  std::string input_format = "jsonl";  ///< of standard input: json (one list) or jsonl (one object a line)
  std::string output_format = "jsonl";
  std::string output;  ///< of `plot`: a file whose ending names the format
  bool progress = false;
  bool json = false;
};

/// Each returns the exit code of the process. Errors: those of caller::tube.
int tube_run(const TubeOptions& options);
int tube_check(const TubeOptions& options);
int tube_plot(const TubeOptions& options);
int tube_types(const TubeOptions& options);

}  // namespace caller::kernel::cli
