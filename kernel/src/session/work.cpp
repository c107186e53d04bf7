#include "session/work.hpp"

namespace caller::kernel {

ContextVar<WorkPtr>& work_var() {
  static ContextVar<WorkPtr> var;
  return var;
}

WorkPtr current_work() { return work_var().get_or(nullptr); }

}  // namespace caller::kernel
