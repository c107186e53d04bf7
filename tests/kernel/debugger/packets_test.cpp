#include "debugger/packets.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

using namespace caller::kernel::debugger;

namespace {

/// As a debugger reads it.
std::string without_escapes(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    REQUIRE((text[i] != '}' || i + 1 < text.size()));
    out += text[i] == '}' ? static_cast<char>(text[++i] ^ 0x20) : text[i];
  }
  return out;
}

}  // namespace

TEST_CASE("a packet carries its checksum and comes out of a stream in pieces") {
  CHECK(frame_packet("OK") == "$OK#9a");
  CHECK(frame_packet("") == "$#00");
  const std::string stream = "+" + frame_packet("vCont;c") + "\x03" + frame_packet("?");
  PacketReader reader;
  std::vector<PacketReader::Item> items;
  for (const char c : stream) {
    reader.add(std::string_view(&c, 1));
    for (auto i = reader.next(); i.kind != PacketReader::Kind::none; i = reader.next()) items.push_back(i);
  }
  REQUIRE(items.size() == 4);
  CHECK(items[0].kind == PacketReader::Kind::acknowledged);
  CHECK(items[1].text == "vCont;c");
  CHECK(items[2].kind == PacketReader::Kind::interrupt);
  CHECK(items[3].text == "?");
}

TEST_CASE("a damaged packet is told from a whole one") {
  PacketReader reader;
  reader.add("$OK#00x$OK#zz");
  CHECK(reader.next().kind == PacketReader::Kind::damaged);
  CHECK(reader.next().kind == PacketReader::Kind::damaged);
  CHECK(reader.next().kind == PacketReader::Kind::damaged);
  CHECK(reader.next().kind == PacketReader::Kind::none);
}

TEST_CASE("binary data survives its escapes") {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  const std::string escaped = escape_binary(all);
  CHECK(escaped.find('#') == std::string::npos);
  CHECK(escaped.find('$') == std::string::npos);
  CHECK(without_escapes(escaped) == all);
  CHECK(from_hex(to_hex(all)) == all);
  CHECK_FALSE(from_hex("abc"));
  CHECK_FALSE(from_hex("xy"));
}

TEST_CASE("numbers are hexadecimal, registers are in the order of memory") {
  CHECK(to_hex_number(0) == "0");
  CHECK(to_hex_number(0xdeadbeef) == "deadbeef");
  CHECK(to_hex_bytes(0x1122, 4) == "22110000");
  std::string_view text = "7f0:rest";
  CHECK(take_number(text) == 0x7f0U);
  CHECK(text == ":rest");
  CHECK_FALSE(take_number(text));
}
