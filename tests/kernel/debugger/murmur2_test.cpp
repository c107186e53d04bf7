#include "debugger/murmur2.hpp"

#include <doctest/doctest.h>

using caller::kernel::debugger::murmur2;

// The values are those of ipykernel's murmur2_x86.
TEST_CASE("murmur2 is the hash that Jupyter clients compute") {
  CHECK(murmur2("", 0xC70F6907U) == 3990065800U);
  CHECK(murmur2("a", 0xC70F6907U) == 2167009006U);
  CHECK(murmur2("ab", 0xC70F6907U) == 2805137849U);
  CHECK(murmur2("abc", 0xC70F6907U) == 3350977461U);
  CHECK(murmur2("abcd", 0xC70F6907U) == 804720481U);
  CHECK(murmur2("int \xC3\xA4 = 1;", 0xC70F6907U) == 1197595652U);
}
