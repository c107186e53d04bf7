// caller/uv.hpp.
#include "support/coro.hpp"
#include <caller/uv.hpp>
using namespace caller;
TEST_CASE("placeholder") { CHECK(true); }
