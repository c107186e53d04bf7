#include "kernel/interpreter/support.hpp"

using caller::kernel::test::Cells;

TEST_CASE("the last expression is shown unless it ends in a semicolon") {
  Cells run;
  CHECK(run("1 + 1") == "2");
  CHECK(run("1 + 1;") == "");
  CHECK(run("int x = 20; x * 2 + 2") == "42");
  CHECK(run("x;") == "");
  CHECK(run("x", false) == "");
  CHECK(run("(void)x") == "");
  CHECK(run("[](int a) { return a * 3; }(x)") == "60");
}
