// Where %%task cells are executed.
#include <doctest/doctest.h>
#include <unistd.h>

#include <string>

#include "magics/task_run.hpp"

using caller::kernel::TaskSession;

TEST_CASE("kernels whose processes have one number, as in containers, have queues of their own for %%task") {
  const TaskSession one, other;  // of this process, so their number is the same
  CHECK(one.queue() != other.queue());
  const std::string name = ".cells of " + std::to_string(::getpid()) + " ";  // the dot keeps it from other runners
  CHECK(one.queue().starts_with(name));
  CHECK(other.queue().starts_with(name));
}
