// Values: what is kept, what is converted, what is refused.
#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "support.hpp"

using namespace caller::tube;

namespace {
struct Point {
  int x = 0, y = 0;
  friend bool operator==(const Point&, const Point&) = default;
};
struct Counted {
  explicit Counted(int* count_) : count(count_) { ++*count; }
  Counted(const Counted& other) : count(other.count) { ++*count; }
  Counted(Counted&& other) noexcept : count(other.count) { ++*count; }
  ~Counted() { --*count; }
  int* count;
};
}  // namespace

TEST_CASE("numbers are converted when nothing is lost and refused otherwise") {
  CHECK(Value(3).to<int>() == 3);
  CHECK(Value(3).to<double>() == 3.0);
  CHECK(Value(3.0).to<int>() == 3);
  CHECK(Value(std::numeric_limits<std::uint64_t>::max()).to<std::uint64_t>() ==
        std::numeric_limits<std::uint64_t>::max());
  CHECK_THROWS_AS(Value(3.5).to<int>(), Error);
  CHECK_THROWS_AS(Value(300).to<std::int8_t>(), Error);
  CHECK_THROWS_AS(Value(-1).to<unsigned>(), Error);
  CHECK_THROWS_AS(Value(1e300).to<std::int64_t>(), Error);
  CHECK_THROWS_AS(Value(0x1p63).to<std::int64_t>(), Error);
  CHECK(Value(-0x1p63).to<std::int64_t>() == std::numeric_limits<std::int64_t>::min());
  CHECK_THROWS_AS(Value(std::numeric_limits<double>::quiet_NaN()).to<int>(), Error);
  CHECK_THROWS_AS(Value("3").to<int>(), Error);
  CHECK_THROWS_AS(Value(1).to<bool>(), Error);
  CHECK_THROWS_WITH_AS(Value("three").to<int>(), doctest::Contains("expected integer, found text \"three\""), Error);
}

TEST_CASE("values compare by content, whatever their C++ type") {
  CHECK(Value(3) == Value(3.0));
  CHECK(Value(3) == Value(3U));
  CHECK_FALSE(Value(std::numeric_limits<std::int64_t>::max()) == Value(9223372036854775808.0));
  CHECK(Value(std::vector<int>{1, 2}) == Value(List{1, 2}));
  CHECK(Value(std::map<std::string, int>{{"a", 1}}) == Value(Map{{"a", 1}}));
  CHECK(Value(Map{{"a", 1}, {"b", 2}}) == Value(Map{{"b", 2}, {"a", 1}}));
  CHECK(Value(Point{1, 2}) == Value(Point{1, 2}));
  CHECK_FALSE(Value(Point{1, 2}) == Value(Point{1, 3}));
  CHECK_FALSE(Value() == Value(no_event));
  CHECK_FALSE(Value(0) == Value(false));
}

TEST_CASE("sequences, maps, tuples and texts are taken apart and put together") {
  CHECK(Value(List{1, 2, 3}).to<std::vector<double>>() == std::vector<double>{1, 2, 3});
  CHECK(Value(std::set<std::string>{"b", "a"}).to<std::vector<std::string>>() == std::vector<std::string>{"a", "b"});
  CHECK(Value(Map{{"a", 1}}).to<std::map<std::string, int>>() == std::map<std::string, int>{{"a", 1}});
  CHECK(Value(std::tuple(1, "two", 3.0)).to<std::tuple<int, std::string, float>>() ==
        std::tuple<int, std::string, float>{1, "two", 3.0F});
  CHECK_THROWS_AS((Value(List{1}).to<std::tuple<int, int>>()), Error);
  CHECK_THROWS_AS(Value(List{1, "x"}).to<std::vector<int>>(), Error);
  CHECK(Value("aß€😀").size() == 4);
  CHECK(Value("aß€😀").items()[3] == Value("😀"));
  CHECK(Value("\xff\xfe").items().size() == 2);
  CHECK(Value(std::vector<bool>{true, false})[0] == Value(true));
  CHECK(Value(List{1, 2})[1] == Value(2));
  CHECK_THROWS_WITH_AS(Value(List{1})[3], doctest::Contains("no item 3"), Error);
  CHECK_THROWS_WITH_AS(Value(Map{{"a", 1}})["b"], doctest::Contains("there are: a"), Error);
  CHECK_THROWS_AS(Value(7).items(), Error);
}

TEST_CASE("an optional is its content or none, and an array is a list of its size") {
  CHECK(Value(std::optional<int>(3)) == Value(3));
  CHECK(Value(std::optional<std::map<int, std::string>>({{1, "x"}})) == Value(List{Value(List{1, "x"})}));
  CHECK(Value(std::optional<int>()).is_none());
  CHECK(Value(List{1, 2, 3}).to<std::array<int, 3>>() == std::array<int, 3>{1, 2, 3});
  CHECK(Value(std::array<double, 2>{1.5, 2}).to<std::array<double, 2>>()[0] == 1.5);
  CHECK_THROWS_WITH_AS((void)(Value(List{1, 2}).to<std::array<int, 3>>()), doctest::Contains("a list of 3 items"),
                       Error);
  CHECK_THROWS_AS((void)(Value("ab").to<std::array<char, 2>>()), Error);
  CHECK(Value(std::vector<char>{'a', 'b'}).items() == List{"a", "b"});
  CHECK(Value(List{"a", "b"}).to<std::vector<char>>() == std::vector<char>{'a', 'b'});
  CHECK_THROWS_WITH_AS((void)Value(97).to<char>(), doctest::Contains("a character"), Error);
}

TEST_CASE("a value shares its content, and lets go of it with the last copy") {
  int count = 0;
  {
    Value a(Counted{&count});
    CHECK(count == 1);
    Value b = a;
    CHECK(count == 1);
    CHECK(&a.as<Counted>() == &b.as<Counted>());
    Value c = std::move(a);
    CHECK(a.is_none());
    b = c;
    b = Value(1);
    c = c.deep_copy();
    CHECK(count == 1);
  }
  CHECK(count == 0);
}

TEST_CASE("a shared object stays shared, and only by reference it can be changed") {
  const auto point = std::make_shared<Point>();
  Value v(point);
  CHECK(v.is_reference());
  v.shared<Point>()->x = 7;
  CHECK(point->x == 7);
  CHECK(v.as<Point>().x == 7);
  const Value copy = v.deep_copy();
  CHECK(copy.shared<Point>() != point);
  CHECK_THROWS_AS(Value(Point{}).shared<Point>(), Error);
  CHECK_THROWS_AS(v.shared<int>(), Error);
}

TEST_CASE("the text of a value is short, and cut off between characters") {
  CHECK(Value(Map{{"a", List{1, 2.5, nullptr, true, "x\"y\n"}}}).repr() == R"({"a": [1, 2.5, null, true, "x\"y\n"]})");
  CHECK(Value(2.0).repr() == "2.0");
  CHECK(Value(Point{}).repr() == "<(anonymous namespace)::Point>");
  const std::string text = Value(std::string(300, 'x')).repr(20);
  CHECK(text == "\"" + std::string(19, 'x') + "…");
  CHECK(contains(Value("€€€€€€€€€€€€€€€€").repr(10), "…"));
  CHECK_FALSE(contains(Value("€€€€€€€€€€€€€€€€").repr(10), "\xe2…"));
}

TEST_CASE("epochs: parents come first, the path says which item of which map") {
  const Epoch root(3);
  const auto items = root.make_subepochs("map", 2);
  CHECK(items[1].str() == "3/map.1");
  CHECK((items[1] / EpochSegment{"inner", 0}).str() == "3/map.1/inner.0");
  CHECK(root < items[0]);
  CHECK(items[0] / EpochSegment{"inner", 5} < items[1]);
  CHECK(items[1] < Epoch(4));
  CHECK(items[1].parent() == root);
  CHECK((items[1] / EpochSegment{"inner", 0}).parents() == std::vector<Epoch>{items[1], root});
  CHECK_FALSE(root.parent().has_value());
  CHECK(items[1].leaf()->index == 1);
  CHECK(items[1].len() == 2);
  CHECK(items[1].is_within(root));
  CHECK_FALSE(root.is_within(items[1]));
}
