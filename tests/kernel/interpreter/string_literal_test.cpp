#include "interpreter/string_literal.hpp"

#include <doctest/doctest.h>

#include <string>

using caller::kernel::string_literal;

// What generated code holds, and what it must then be at run time: the right side is C++'s own reading of the left.
TEST_CASE("Letters stay as they are") { CHECK(string_literal("a b_1;") == R"("a b_1;")"); }

TEST_CASE("Quotes, backslashes and line ends cannot end the literal") {
  CHECK(string_literal("say \"\\n\"\n") == R"("say \"\\n\"\012")");
}

TEST_CASE("Bytes that are no ASCII, and a digit behind them, are told apart") {
  CHECK(string_literal("\xc3\xa9"
                       "1") == R"("\303\2511")");
  CHECK(std::string("\303\2511") ==
        "\xc3\xa9"
        "1");
}

TEST_CASE("A trigraph of an older standard is none") { CHECK(string_literal("?\?/") == R"("\077\077/")"); }
