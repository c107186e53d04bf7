// The kernel with its C++ interpreter; apart from the rest, so that tests of the protocol need no compiler.
#include "interpreter/factory.hpp"
#include "interpreter/interpreter.hpp"
#ifdef CALLER_HAVE_TASK
#include "jit_tasks/known_sources.hpp"
#endif
#include "protocol/log.hpp"
#include "session/kernel_app.hpp"

namespace caller::kernel {

int run_kernel(const KernelOptions& options) {
  KernelOptions complete = options;
  if (!complete.interpreter)
    complete.interpreter = [&options] {
      InterpreterOptions language;
      language.prelude_directory = options.prelude_dir.string();
      language.flags = options.cxxflags;
      language.warm_up = false;  // the kernel asks for it when the first cell is through
#ifdef CALLER_HAVE_TASK
      language.function_given = keep_source;
#endif
      language.log = [](const std::string& line) { log(LogLevel::warning, line); };
      return make_clang_interpreter(std::move(language));
    };
  return serve_kernel(complete);
}

}  // namespace caller::kernel
