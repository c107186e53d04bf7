// Values as bytes: what crosses comes out the same, and no bytes do harm.
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "support.hpp"

using namespace caller::tube;

namespace {
struct Point {
  int x = 0, y = 0;
  friend bool operator==(const Point&, const Point&) = default;
};
struct NoCodec {};

Value there_and_back(const Value& v) { return from_cbor(to_cbor(v)); }

/// A random value, deep or broad.
Value random_value(std::mt19937& random, int depth) {
  switch (random() % (depth > 4 ? 7 : 9)) {
    case 0:
      return Value();
    case 1:
      return Value(random() % 2 == 0);
    case 2:
      return Value(static_cast<std::int64_t>(random()) << (random() % 32));
    case 3:
      return Value(-static_cast<std::int64_t>(random()));
    case 4:
      return Value(static_cast<double>(random()) / 7);
    case 5:
      return Value(std::string(random() % 300, static_cast<char>(random())));
    case 6:
      return Value(std::vector<float>(random() % 100, 1.5F));
    case 7: {
      List list;
      for (std::uint32_t i = random() % 30; i > 0; --i) list.push_back(random_value(random, depth + 1));
      return Value(std::move(list));
    }
    default: {
      Map map;
      for (std::uint32_t i = random() % 30; i > 0; --i)
        map.set("k" + std::to_string(i), random_value(random, depth + 1));
      return Value(std::move(map));
    }
  }
}
}  // namespace

TEST_CASE("every value that is no object comes back the same, with its kind") {
  const double inf = std::numeric_limits<double>::infinity();
  const std::vector<Value> values{Value(),
                                  Value(no_event),
                                  Value(true),
                                  Value(false),
                                  Value(0),
                                  Value(23),
                                  Value(24),
                                  Value(255),
                                  Value(256),
                                  Value(65536),
                                  Value(std::int64_t{1} << 40),
                                  Value(-1),
                                  Value(-25),
                                  Value(std::numeric_limits<std::int64_t>::min()),
                                  Value(std::numeric_limits<std::int64_t>::max()),
                                  Value(std::numeric_limits<std::uint64_t>::max()),
                                  Value(0.0),
                                  Value(-1.25),
                                  Value(inf),
                                  Value(""),
                                  Value("text"),
                                  Value(std::string("\xff\0x", 3)),
                                  Value("Grüße €"),
                                  Value(List{}),
                                  Value(List{1, "a", List{Value()}}),
                                  Value(Map{}),
                                  Value(Map{{"a", 1}, {"b", Map{{"c", List{}}}}}),
                                  Value(std::vector<double>{1, -0.5, inf}),
                                  Value(std::vector<std::int32_t>{1, -2}),
                                  Value(std::vector<std::uint8_t>(100000, 7)),
                                  Value(std::vector<long long>{-1}),
                                  Value(std::vector<float>{}),
                                  Value(std::set<std::string>{"x", "y"}),
                                  Value(std::map<std::string, int>{{"k", 1}})};
  for (const Value& v : values) {
    CAPTURE(v.repr());
    const Value back = there_and_back(v);
    CHECK(back == v);
    CHECK(back.kind() == v.kind());
  }
  CHECK(std::isnan(there_and_back(Value(std::nan(""))).as<double>()));
  CHECK(there_and_back(Value(std::vector<double>{1, 2})).is<std::vector<double>>());
  CHECK(there_and_back(Value(std::vector<std::int16_t>{1})).is<std::vector<std::int16_t>>());
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    const Value v = random_value(random, 0);
    CHECK(there_and_back(v) == v);
  }
}

TEST_CASE("the bytes are CBOR as others read it") {
  const Value v = Map{{"a", List{1, -2, 2.5, "t", true, Value()}}, {"big", std::int64_t{1} << 40}};
  CHECK(nlohmann::json::from_cbor(to_cbor(v)) == nlohmann::json::parse(to_json(v)));
  const auto foreign = nlohmann::json::to_cbor(nlohmann::json::parse(R"({"x": [1, {"y": -3.5}], "z": "é"})"));
  CHECK(from_cbor({reinterpret_cast<const char*>(foreign.data()), foreign.size()}) ==
        from_json(R"({"x": [1, {"y": -3.5}], "z": "é"})"));
}

TEST_CASE("objects cross with a codec, and are refused by name without") {
  add_codec<Point>(
      "test.Point", [](const Point& p) { return List{p.x, p.y}; },
      [](const Value& v) { return Point{v[0].to<int>(), v[1].to<int>()}; });
  CHECK(has_codec(typeid(Point)));
  const Value back = there_and_back(Value(List{Value(Point{1, 2})}));
  CHECK(back[0].as<Point>() == Point{1, 2});
  CHECK_THROWS_WITH_AS(to_cbor(Value(NoCodec())), doctest::Contains("NoCodec"), Error);
  CHECK_THROWS_WITH_AS(to_cbor(Value(std::make_shared<int>(1))), doctest::Contains("shared object"), Error);
  // A name nobody knows here, and content the codec cannot use.
  CHECK_THROWS_WITH_AS(from_cbor("\xd8\x1b\x82\x63"
                                 "abc\x01"),
                       doctest::Contains("abc"), Error);
  std::string wrong = to_cbor(Value(Point{1, 2}));
  wrong.resize(wrong.size() - 3);
  wrong += '\x01';
  CHECK_THROWS_AS(from_cbor(wrong), Error);
}

TEST_CASE("whatever the bytes are, reading them gives a value or an error") {
  for (const char* bytes : {"", "\x18", "\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "\xbb\x7f\xff\xff\xff\xff\xff\xff\xff",
                            "\x7b\xff\xff\xff\xff\xff\xff\xff\xff", "\x5f", "\x9f\xff", "\xff",
                            "\xd8\x56\x43"
                            "abc",
                            "\xa1\x01\x02",
                            "\xa2\x61"
                            "a\x01\x61"
                            "a\x02",
                            "\x01\x01", "\x3b\xff\xff\xff\xff\xff\xff\xff\xff", "\xc1\x01", "\xf8\x20"}) {
    CAPTURE(bytes);
    CHECK_THROWS_AS(from_cbor(bytes), Error);
  }
  CHECK_THROWS_AS(from_cbor(std::string(100000, '\x81')), Error);
  Value deep = List{};
  for (int i = 0; i < 300; ++i) deep = Value(List{deep});
  CHECK_THROWS_AS(to_cbor(deep), Error);
  std::mt19937 random(2);
  int read = 0, refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string bytes;
    if (i % 2) {
      bytes = to_cbor(random_value(random, 3));
      for (int k = 0; k < 3 && !bytes.empty(); ++k) bytes[random() % bytes.size()] = static_cast<char>(random());
    } else {
      for (std::uint32_t n = random() % 40; n > 0; --n) bytes += static_cast<char>(random());
    }
    try {
      (void)from_cbor(bytes);
      ++read;
    } catch (const Error&) {
      ++refused;
    }
  }
  CHECK(read > 100);
  CHECK(refused > 100);
}
