// The same as in sqlite_test.cpp, for long.
#include <doctest/doctest.h>

#include "workers.hpp"

TEST_CASE("workers are killed for a minute: every task ends, once, and none is lost") {
  survive(10'000, std::chrono::milliseconds(200));
}
