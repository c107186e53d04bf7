#include "start.hpp"

#include <stdexcept>

#ifdef CALLER_HAVE_SESSION
#include "protocol/words.hpp"
#include "session/kernel_app.hpp"
#endif

namespace caller::kernel::cli {

#ifdef CALLER_HAVE_SESSION
int start(const StartOptions& options) {
  if (std::filesystem::is_directory(options.connection_file)) {
    throw std::runtime_error("the connection file " + options.connection_file.string() + " is a directory");
  }
  KernelOptions kernel;
  kernel.connection_file = options.connection_file;
  kernel.cxxflags = split_words(options.cxxflags);
  return run_kernel(kernel);
}
#else
int start(const StartOptions&) { throw std::runtime_error("this build has no kernel"); }
#endif

}  // namespace caller::kernel::cli
