#include "jit.hpp"

#include <stdexcept>
#include <utility>

#ifdef CALLER_HAVE_SESSION
#include "jit_tasks/jit_tasks.hpp"
#endif

namespace caller::kernel::cli {

#ifdef CALLER_HAVE_SESSION
namespace {

class Compiler final : public Jit {
public:
  explicit Compiler(JitTasks::Options options) : tasks_(std::move(options)) {}
  void find(const task::App& app, const std::string& task_id) override { tasks_.find(app, task_id); }

private:
  JitTasks tasks_;
};

}  // namespace

std::unique_ptr<Jit> make_jit(std::function<void(const std::string&)> log) {
  JitTasks::Options options;
  options.log = std::move(log);
  return std::make_unique<Compiler>(std::move(options));
}
#else
std::unique_ptr<Jit> make_jit(std::function<void(const std::string&)>) {
  throw std::runtime_error("--jit compiles functions of notebooks, and this program was built without the kernel");
}
#endif

}  // namespace caller::kernel::cli
