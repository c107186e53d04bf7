// Values as JSON and CBOR, and hostile bytes.
#include <doctest/doctest.h>

#include <deque>
#include <list>
#include <map>
#include <set>
#include <string>
#include <unordered_map>

#include <caller/task/codec.hpp>

using namespace caller::task;

namespace {

enum class Colour : std::uint8_t { red = 1, green };
struct Point {
  double x = 0, y = 0;
  bool operator==(const Point&) const = default;
};
CALLER_TASK_FIELDS(Point, x, y)
struct Shape {
  std::string name;
  std::vector<Point> points;
  std::optional<Colour> colour;
  bool operator==(const Shape&) const = default;
};
CALLER_TASK_FIELDS(Shape, name, points, colour)

struct Money {
  long cents = 0;
  bool operator==(const Money&) const = default;
};
void task_encode(Writer& w, const Money& m) { w.text(std::to_string(m.cents) + " ct"); }
void task_decode(const Reader& r, Money& m) {
  const std::string text = r.text();
  if (!text.ends_with(" ct")) r.fail("an amount");
  m.cents = std::stol(text);
}

constexpr Format kFormats[] = {Format::json, Format::cbor};

template <class T>
void comes_back(const T& value) {
  for (const Format f : kFormats) CHECK(from_bytes<T>(f, to_bytes(f, value)) == value);
}

template <class T>
std::string refused(Format f, std::string_view bytes) {
  try {
    (void)from_bytes<T>(f, bytes);
  } catch (const SerializationError& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("every supported type comes back as it was, as JSON and as CBOR") {
  comes_back(true);
  comes_back(-1);
  comes_back(std::numeric_limits<std::int64_t>::min());
  comes_back(std::numeric_limits<std::uint64_t>::max());
  comes_back(std::numeric_limits<std::int8_t>::min());
  comes_back(0.1);
  comes_back(1e308);
  comes_back(-0.0);
  comes_back(std::numeric_limits<double>::infinity());
  comes_back(1.5f);
  comes_back(Colour::green);
  comes_back(std::string("a \"quoted\"\\ text\n\t\x01 with ü and \xf0\x9f\x98\x80"));
  comes_back(std::string("zero\0inside", 11));
  comes_back(std::string("\xff\xfe no UTF-8"));
  comes_back(std::string("\xed\xa0\x80"));  // a surrogate
  comes_back(std::vector<std::byte>{std::byte{0}, std::byte{255}, std::byte{7}, std::byte{1}});
  comes_back(std::vector<int>{});
  comes_back(std::vector<bool>{true, false, true});
  comes_back(std::list<std::string>{"a", ""});
  comes_back(std::deque<double>{1, 2.5});
  comes_back(std::set<int>{3, 1, 2});
  comes_back(std::array<int, 3>{1, 2, 3});
  comes_back(std::map<std::string, int>{{"a", 1}, {"\"b\"", 2}});
  comes_back(std::unordered_map<int, std::string>{{1, "x"}, {-2, "y"}});
  comes_back(std::pair<int, std::string>{1, "x"});
  comes_back(std::tuple<int, double, std::tuple<>>{1, 2, {}});
  comes_back(std::optional<int>());
  comes_back(std::optional<int>(7));
  comes_back(std::optional<std::optional<int>>(std::optional<int>()));
  comes_back(std::optional<std::optional<int>>());
  comes_back(std::variant<int, std::string, std::monostate>(std::string("v")));
  comes_back(std::variant<int, std::string, std::monostate>(std::monostate()));
  comes_back(std::chrono::milliseconds(-5));
  comes_back(std::chrono::duration<double>(0.25));
  comes_back(std::chrono::system_clock::time_point(std::chrono::nanoseconds(1'700'000'000'123'456'789)));
  comes_back(Point{1.5, -2});
  comes_back(Shape{"triangle", {{0, 0}, {1, 0}, {0, 1}}, Colour::red});
  comes_back(Money{-17});
  comes_back(std::map<std::string, std::vector<std::optional<Shape>>>{{"s", {std::nullopt, Shape{"p", {}, {}}}}});
  CHECK(std::isnan(from_bytes<double>(Format::json, to_bytes(Format::json, std::nan("")))));
}

TEST_CASE(
    "maps whose keys are no UTF-8 come back, and a key of one's own that is none is refused where it is written") {
  comes_back(std::map<std::string, int>{{"\xff\xfe", 1}, {"plain", 2}, {"", 3}});
  comes_back(std::unordered_map<std::string, std::vector<std::string>>{{"\xed\xa0\x80", {"\xff"}}});
  for (const Format f : {Format::json, Format::cbor}) {
    std::string out;
    Writer w(f, &out);
    w.map(1);
    CHECK_THROWS_AS(w.key("\xff"), SerializationError);
  }
}

TEST_CASE("times beyond the years that nanoseconds reach come back, and one its type cannot hold is refused") {
  using namespace std::chrono;
  for (const int y : {-9999, 1, 1677, 1678, 1970, 2262, 2263, 9999, 32767}) {
    const sys_days day = year(y) / December / 31;
    comes_back(day);
    comes_back(sys_seconds(day) + 12345s);
    comes_back(sys_time<microseconds>(day) - 1us);
  }
  comes_back(sys_time<nanoseconds>::max());
  comes_back(sys_time<nanoseconds>::min());
  for (const Format f : {Format::json, Format::cbor}) {
    const std::string far = to_bytes(f, sys_days(year(9999) / 1 / 1));
    CHECK_THROWS_AS((void)from_bytes<sys_time<nanoseconds>>(f, far), SerializationError);
    CHECK_THROWS_AS((void)from_bytes<sys_time<microseconds>>(f, to_bytes(f, std::vector<std::int64_t>{1LL << 62, 0})),
                    SerializationError);
    CHECK_THROWS_AS((void)from_bytes<sys_days>(f, to_bytes(f, std::vector{1, 2, 3})), SerializationError);
  }
}

TEST_CASE("large maps are read, and one key that stands there twice is found among many") {
  std::map<std::string, int> large;
  for (int i = 0; i < 200'000; ++i) large.emplace("key" + std::to_string(i), i);
  comes_back(large);
  comes_back(
      std::map<std::string, std::map<std::string, int>>{{"\xc3\xbc", large}});  // not as the plain reader takes it
  std::string twice = "{";
  for (int i = 0; i < 100; ++i) twice += (i ? ",\"" : "\"") + std::to_string(i % 99) + "\":1";
  const std::string why = refused<std::map<std::string, int>>(Format::json, twice + "}");
  CHECK(why.find("\"0\" stands there twice") != std::string::npos);
}

TEST_CASE("JSON is what anybody would write by hand") {
  CHECK(to_bytes(Format::json, Shape{"p", {{1, 2.5}}, {}}) ==
        R"({"name":"p","points":[{"x":1,"y":2.5}],"colour":null})");
  CHECK(from_bytes<Shape>(Format::json, R"( { "colour": 2, "points" : [], "name": "q", "more": [1] } )") ==
        Shape{"q", {}, Colour::green});
  CHECK(to_bytes(Format::json, std::map<std::string, std::vector<int>>{{"a", {}}, {"b", {1, 2}}}) ==
        R"({"a":[],"b":[1,2]})");
  CHECK(to_bytes(Format::cbor, std::vector<int>{1, -1, 500}) == std::string("\x83\x01\x20\x19\x01\xf4", 6));
}

TEST_CASE("what does not fit is an error that names the place and what was found") {
  CHECK(refused<int>(Format::json, "\"3\"") == "the value: expected a whole number, found a text");
  CHECK(refused<std::int8_t>(Format::json, "128").find("128 is not between -128 and 127") != std::string::npos);
  CHECK(refused<unsigned>(Format::json, "-1").find("-1 is not between 0") != std::string::npos);
  CHECK(refused<int>(Format::json, "1.5") == "the value: expected a whole number, found a number");
  CHECK(refused<Shape>(Format::json, R"({"name":"p","points":[{"x":1,"y":2},{"x":"no","y":2}],"colour":null})") ==
        ".points[1].x: expected a number, found a text");
  CHECK(refused<Point>(Format::json, R"({"x":1})").find("key \"y\"") != std::string::npos);
  CHECK(refused<std::variant<int>>(Format::json, "[4,1]") != "");
  CHECK(refused<std::array<int, 2>>(Format::json, "[1]") != "");
  CHECK(refused<Money>(Format::json, "\"17\"") == "the value: expected an amount, found a text");
}

TEST_CASE("bytes of strangers are refused, whatever they are") {
  for (const Format f : kFormats)
    for (const std::string& bytes :
         {std::string(), std::string("\xff\xff\xff\xff"), std::string(5, '\0'), std::string("[1,2"), std::string("{]"),
          std::string("\x9f\x01", 2), std::string("\x5b\xff\xff\xff\xff\xff\xff\xff\xff", 9)})
      CHECK(refused<std::vector<int>>(f, bytes) != "");
  CHECK(refused<int>(Format::json, "1 2") != "");
  CHECK(refused<std::vector<int>>(Format::json, std::string(1'000'000, '[')).find("too deep") != std::string::npos);
  CHECK(refused<std::vector<int>>(Format::cbor, std::string(1'000'000, '\x81')).find("too deep") != std::string::npos);
  CHECK(refused<Point>(Format::json, R"({"x":1,"x":2,"y":3})").find("twice") != std::string::npos);
  CHECK(refused<std::string>(Format::json, R"({"$bytes":"a"})") != "");
  CHECK(refused<std::string>(Format::json, R"({"$bytes":"a=b="})") != "");
}

TEST_CASE("every prefix and every changed byte of a message is read or refused") {
  const Shape shape{"triangle \xff", {{0, 1e-9}, {1, -5}}, Colour::red};
  for (const Format f : kFormats) {
    const std::string whole = to_bytes(f, shape);
    for (std::size_t n = 0; n < whole.size(); ++n) CHECK(refused<Shape>(f, whole.substr(0, n)) != "");
    for (std::size_t at = 0; at < whole.size(); ++at)
      for (int bit = 0; bit < 8; ++bit) {
        std::string changed = whole;
        changed[at] = static_cast<char>(changed[at] ^ (1 << bit));
        (void)refused<Shape>(f, changed);
      }
  }
}

TEST_CASE("JSON written without spaces is read as with them, up to the largest numbers, and faults are found in both") {
  const auto same = [](const std::string& plain, const std::string& spaced) {
    CAPTURE(plain);
    CHECK(from_bytes<std::map<std::string, std::vector<std::int64_t>>>(Format::json, plain) ==
          from_bytes<std::map<std::string, std::vector<std::int64_t>>>(Format::json, spaced));
  };
  same("{}", " { } ");
  same(R"({"a":[],"b":[0,-1,10]})", R"({"a": [], "b": [0, -1, 10]})");
  same(R"({"a":[9223372036854775807,-9223372036854775808,999999999999999999]})",
       R"({"a": [9223372036854775807, -9223372036854775808, 999999999999999999]})");
  CHECK(from_bytes<std::int64_t>(Format::json, "-0") == 0);
  CHECK(from_bytes<double>(Format::json, "-1e2") == -100);
  CHECK(from_bytes<std::string>(Format::json, R"("a\u0041")") == "aA");
  CHECK(from_bytes<std::string>(Format::json, "\"\xc3\xa4\"") == "\xc3\xa4");
  for (const std::string bad : {"", "01", "-", "+1", "1 2", "tru", "nulll", "[1,]", "[1", "{\"a\":1", "{\"a\"}",
                                "{\"a\":1,\"a\":2}", "\"a", "\"a\nb\"", "\"\xff\"", "[1}", "{1:2}"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS((void)Document(Format::json, bad), SerializationError);
  }
}
