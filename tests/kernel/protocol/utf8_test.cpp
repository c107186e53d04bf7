#include <doctest/doctest.h>

#include <string>

#include "protocol/utf8.hpp"

using namespace caller::kernel;

TEST_CASE("well-formed and ill-formed UTF-8 are told apart") {
  CHECK(is_utf8(""));
  CHECK(is_utf8("a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80"));
  for (const char* bad : {"\x80", "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xF5", "\xC3",
                          "\xC3"
                          "a"})
    CHECK_FALSE(is_utf8(bad));
}

TEST_CASE("the unfinished character at the end of a chunk is found, whatever the cut") {
  const std::string text = "x\xF0\x9F\x98\x80";
  CHECK(unfinished_tail(text) == 0);
  for (std::size_t n = 1; n <= 3; ++n) CHECK(unfinished_tail(text.substr(0, 1 + n)) == n);
  CHECK(unfinished_tail("\xFF") == 0);
  CHECK(unfinished_tail("\x80\x80\x80\x80") == 0);
  CHECK(unfinished_tail("") == 0);
}

TEST_CASE("ill-formed bytes are replaced and the rest is kept") {
  CHECK(to_valid_utf8("a\xFF"
                      "b\xC3") ==
        "a\xEF\xBF\xBD"
        "b\xEF\xBF\xBD");
  CHECK(to_valid_utf8("\xC3\xA4") == "\xC3\xA4");
}

TEST_CASE("cursor positions count code points, emoji and lines included (25)") {
  const std::string text = "\xF0\x9F\x98\x80 = 1;\n\xC3\xA4.pu";
  CHECK(byte_offset(text, 0) == 0);
  CHECK(byte_offset(text, 1) == 4);
  CHECK(byte_offset(text, 7) == 10);
  CHECK(byte_offset(text, 8) == 12);
  CHECK(byte_offset(text, 999) == text.size());
  for (std::size_t points = 0; points <= 11; ++points) CHECK(code_points(text, byte_offset(text, points)) == points);
}
