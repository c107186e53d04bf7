// Text and pictures of tables, plots and bars, without a kernel.
#include <doctest/doctest.h>

#include <unistd.h>

#include <array>
#include <cmath>
#include <filesystem>
#include <forward_list>
#include <fstream>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <thread>
#include <tuple>
#include <vector>

#include <caller/kernel/display.hpp>
#include <caller/kernel/display_host.hpp>
#include <caller/kernel/plot.hpp>
#include <caller/kernel/progress.hpp>
#include <caller/kernel/table.hpp>

namespace {

struct Person {
  std::string name;
  int age;
  double size;
};
struct Mixed {
  int list[3];
  std::string text;
  std::optional<double> maybe;
  std::array<int, 2> pair;
  std::unique_ptr<int> owner;
  std::vector<std::string> words;
  bool yes;
};
struct Base {
  int a;
};
struct Derived : Base {
  int b;
};
struct Reference {
  const int& r;
  int b;
};

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

// Every element is closed by its own name, every attribute quoted, nothing but named entities.
bool well_formed(const std::string& xml) {
  std::vector<std::string> open;
  for (std::size_t at = 0; at < xml.size();) {
    if (xml[at] == '&') {
      const auto end = xml.find(';', at);
      if (end == std::string::npos || end - at > 6) return false;
    }
    if (xml[at] != '<') {
      ++at;
      continue;
    }
    const auto end = xml.find('>', at);
    if (end == std::string::npos) return false;
    const std::string tag = xml.substr(at + 1, end - at - 1);
    if (tag.empty() || tag.find('<') != std::string::npos || count(tag, "\"") % 2) return false;
    const std::string name = tag.substr(tag[0] == '/', tag.find_first_of(" /", 1) - (tag[0] == '/'));
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return false;
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
    at = end + 1;
  }
  return open.empty();
}

bool finite(const std::string& svg) {
  return svg.find("nan") == std::string::npos && svg.find("inf") == std::string::npos;
}

class Host final : public caller::kernel::DisplayHost {
public:
  Host() { caller::kernel::set_display_host(this); }
  ~Host() override { caller::kernel::set_display_host(nullptr); }
  void result(const caller::MimeBundle&, const caller::MimeBundle&) override {}
  void display(const caller::MimeBundle& data, const caller::MimeBundle&, const std::string& id, bool update) override {
    const std::lock_guard lock(mutex);
    texts.push_back(data.at("text/plain"));
    htmls.push_back(data.at("text/html"));
    ids.insert(id);
    updates += update;
  }
  void clear_output(bool) override {}
  std::string input(const std::string&, bool) override { return {}; }
  std::mutex mutex;
  std::vector<std::string> texts, htmls;
  std::set<std::string> ids;
  std::size_t updates = 0;
};

}  // namespace

TEST_CASE("a table of aggregates has their members' names and aligns numbers at the right") {
  const std::vector<Person> people{{"Ada", 36, 1.65}, {"日本", 100, 1e9}, {"Größe", 7, 0.123456789}};
  CHECK(caller::table(people).text() ==
        "   name   age      size\n"
        "─  ─────  ───  ────────\n"
        "0  Ada     36      1.65\n"
        "1  日本   100     1e+09\n"
        "2  Größe    7  0.123457\n"
        "3 rows × 3 columns");
}

TEST_CASE("members may be arrays, optionals, owners and containers") {
  std::vector<Mixed> rows(2);
  rows[0] = {{1, 2, 3}, "t", 2.5, {4, 5}, std::make_unique<int>(6), {"a", "b"}, true};
  const std::string text = caller::table(rows).text();
  CHECK(text.starts_with("   list       text  maybe  pair    owner    words       yes\n"));
  CHECK(text.find("0  {1, 2, 3}  t       2.5  {4, 5}  → 6      {\"a\", \"b\"}  true\n") != std::string::npos);
  CHECK(text.find("2 rows × 7 columns") != std::string::npos);
}

TEST_CASE("what cannot be taken apart is one column") {
  const int one = 1;
  CHECK(caller::table(std::vector<Derived>(1)).text().find("value") != std::string::npos);
  CHECK(caller::table(std::vector<Reference>{{one, 2}}).text().find("value") != std::string::npos);
  CHECK(caller::table(std::vector<int>{4, 5}).text() == "   value\n─  ─────\n0      4\n1      5\n2 rows × 1 column");
}

TEST_CASE("tuples, pairs, maps and ranges give columns") {
  CHECK(caller::table(std::vector<std::tuple<int, std::string, bool>>{{1, "a", true}}).text() ==
        "   0  1  2\n─  ─  ─  ────\n0  1  a  true\n1 row × 3 columns");
  CHECK(caller::table(std::map<int, double>{{1, 2.5}}).text() ==
        "   key  value\n─  ───  ─────\n0    1    2.5\n1 row × 2 columns");
  CHECK(caller::table(std::map<std::string, Person>{{"x", {"Ada", 36, 1.5}}}).text() ==
        "   key  name  age  size\n─  ───  ────  ───  ────\n0  x    Ada    36   1.5\n1 row × 4 columns");
  CHECK(caller::table(std::list<std::pair<int, char>>{{1, 'c'}}).text().find("first  second") != std::string::npos);
  CHECK(caller::table(std::vector<std::vector<int>>{{1, 2}, {3, 4, 5}, {}}).text() ==
        "   0  1  2\n─  ─  ─  ─\n0  1  2\n1  3  4  5\n2\n3 rows × 3 columns");
}

TEST_CASE("a long table is cut in the middle and says how much is left out") {
  std::vector<int> many(10'000);
  for (int i = 0; i < 10'000; ++i) many[static_cast<std::size_t>(i)] = i;
  const std::string expected =
      "squares\n      value\n────  ─────\n   0      0\n   1      1\n   2      2\n   …      …\n9998   9998\n9999   "
      "9999\n"
      "10000 rows × 1 column";
  const caller::table_options options{.caption = "squares", .max_rows = 5};
  CHECK(caller::table(many, options).text() == expected);
  // A range that does not know its size is read to its end.
  CHECK(caller::table(std::forward_list<int>(many.begin(), many.end()), options).text() == expected);
  CHECK(caller::table(many, options).html().find("… 9995 more …") != std::string::npos);
  const std::string all = caller::table(many, {.max_rows = 0}).text();
  CHECK(count(all, "\n") == 10'002);
  CHECK(caller::table(many, {.max_rows = 1}).text().find("9999") == std::string::npos);
}

TEST_CASE("wide tables and long cells are cut") {
  const std::vector<std::vector<int>> wide{std::vector<int>(1000, 7)};
  CHECK(caller::table(wide, {.max_columns = 2}).text() ==
        "   0  1  …\n─  ─  ─  ─\n0  7  7  …\n1 row × more than 2 columns");
  const std::vector<std::string> texts{std::string(100, 'x'), "a\nb\tc"};
  const std::string text = caller::table(texts, {.max_width = 10, .index = false}).text();
  CHECK(text == "value\n──────────\nxxxxxxxxx…\na b c\n2 rows × 1 column");
}

TEST_CASE("columns can be chosen by name, member and function") {
  const std::vector<Person> people{{"Ada", 36, 1.65}};
  CHECK(caller::table(people, {{"who", &Person::name}, {"next", [](const auto& p) { return p.age + 1; }}}).text() ==
        "   who  next\n─  ───  ────\n0  Ada    37\n1 row × 2 columns");
}

TEST_CASE("an empty table shows its columns") {
  CHECK(caller::table(std::vector<Person>{}).text() == "  name  age  size\n  ────  ───  ────\n0 rows × 3 columns");
  CHECK(well_formed(caller::table(std::vector<Person>{}).html()));
}

TEST_CASE("a table's HTML escapes what it shows") {
  const std::vector<std::string> texts{"<script>alert('x')</script>", "a & \"b\""};
  const std::string html = caller::table(texts, {.caption = "<i>"}).html();
  CHECK(well_formed(html));
  CHECK(html.find("<script>") == std::string::npos);
  CHECK(html.find("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;") != std::string::npos);
  CHECK(html.find("<caption>&lt;i&gt;</caption>") != std::string::npos);
}

TEST_CASE("a line plot has its series, labels, ticks and legend") {
  const std::vector<double> x{0, 1, 2, 3}, y{0, 10, 5, 20};
  const std::string svg =
      caller::plot(x, y, "a <b>").title("T & t").x_label("time").y_label("height").line(x, x, "other").dashed().svg();
  CHECK(well_formed(svg));
  CHECK(finite(svg));
  CHECK(svg.find("a &lt;b&gt;") != std::string::npos);
  CHECK(svg.find("T &amp; t") != std::string::npos);
  for (const char* text : {">time<", ">height<", ">other<", ">0<", ">10<", ">20<", "stroke-dasharray"})
    CHECK_MESSAGE(svg.find(text) != std::string::npos, text);
  CHECK(count(svg, "stroke-linejoin") == 4);  // two lines, two samples in the legend
  CHECK(count(caller::plot(x, y, "a").legend(false).svg(), "stroke-linejoin") == 1);
}

TEST_CASE("what is not finite is a gap, and a point between gaps a dot") {
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  const std::string svg = caller::plot(std::vector<double>{1, 2, nan, 3, inf, 4, 5}).svg();
  CHECK(finite(svg));
  const auto at = svg.find("stroke-linejoin");
  const auto begin = svg.rfind("<path", at);
  const std::string path = svg.substr(begin, at - begin);
  CHECK(count(path, "M") == 3);
  CHECK(count(path, "L") == 2);
  CHECK(count(path, "h0") == 1);
  CHECK(finite(caller::plot(std::vector<std::optional<double>>{1.0, std::nullopt, 3.0}).svg()));
}

TEST_CASE("nothing, one value, equal values and extreme values can be plotted") {
  for (const auto& values : std::vector<std::vector<double>>{
           {}, {5}, {0}, {3, 3, 3}, {1e308, -1e308}, {1e-308, 2e-308}, {1e12, 1e12 + 1}, {std::nan("")}, {1e300}}) {
    for (const bool log : {false, true}) {
      caller::plot p;
      p.line(values).scatter(values).bar(values).histogram(values).log_x(log).log_y(log).markers();
      CHECK(well_formed(p.svg()));
      CHECK(finite(p.svg()));
      CHECK_FALSE(p.text().empty());
    }
  }
  CHECK(caller::plot(std::vector<double>{}).svg().find("no data") != std::string::npos);
}

TEST_CASE("a plot of a million values is small and keeps its extremes") {
  std::vector<double> y(1'000'000);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = std::sin(static_cast<double>(i));
  y[500'000] = 100;
  const std::string svg = caller::plot(y).svg();
  CHECK(svg.size() < 100'000);
  const auto at = svg.find("stroke-linejoin");
  const std::string path = svg.substr(svg.rfind("<path", at), at - svg.rfind("<path", at));
  // The peak is the top of the data, 4 % of the axis below its end.
  double top = 1e9;
  for (auto p = path.find_first_of("ML"); p != std::string::npos; p = path.find_first_of("ML", p + 1))
    top = std::min(top, std::stod(path.substr(path.find(' ', p))));
  CHECK(top < 30);
  CHECK(caller::plot().scatter(y).svg().size() < 1'000'000);
  CHECK(caller::plot().bar(y).svg().size() < 100'000);
  std::vector<double> x(y.size());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::cos(static_cast<double>(i) * 1.7);
  CHECK(caller::plot(x, y).svg().size() < 1'000'000);
}

TEST_CASE("logarithmic axes have powers of ten and leave out what is not positive") {
  const std::vector<double> x{-1, 0, 1, 10, 100, 1000, 1e8}, y{5, 5, 1, 10, 100, 1000, 1e8};
  const std::string svg = caller::plot(x, y).log_x().log_y().svg();
  CHECK(finite(svg));
  CHECK(svg.find(">10⁶<") != std::string::npos);
  CHECK(svg.find(">-1<") == std::string::npos);
  const std::string narrow = caller::plot(std::vector<double>{1, 9}, std::vector<double>{1, 2}).log_x().svg();
  for (const char* text : {">1<", ">2<", ">5<"}) CHECK_MESSAGE(narrow.find(text) != std::string::npos, text);
}

TEST_CASE("bars have names, which series share") {
  caller::plot p;
  p.bar(std::map<std::string, int>{{"apple", 4}, {"pear", -2}}, "then");
  p.bar(std::vector<const char*>{"pear", "plum"}, std::vector<int>{3, 6}, "now");
  const std::string svg = p.svg();
  CHECK(well_formed(svg));
  for (const char* name : {">apple<", ">pear<", ">plum<"}) CHECK(count(svg, name) == 1);
  CHECK(p.text().find("apple") != std::string::npos);
}

TEST_CASE("a histogram counts every finite value once") {
  std::vector<double> values{0, 0.1, 0.9, 1.5, 2.5, 3.9, 4, std::nan("")};
  const std::string text = caller::plot().histogram(values, 4, "v").text();
  CHECK(text.find("v (histogram): 7 values") != std::string::npos);
  const std::string svg = caller::plot().histogram(values, 4).svg();
  CHECK(svg.find(">3<") != std::string::npos);  // 0 to 1 holds three
  CHECK_THROWS_AS(caller::plot().histogram(values, 0), std::invalid_argument);
}

TEST_CASE("a plot's mistakes are named") {
  const std::vector<double> two{1, 2}, three{1, 2, 3};
  CHECK_THROWS_WITH(caller::plot(two, three), "plot: there are 2 values of x and 3 of y");
  CHECK_THROWS_AS(caller::plot().color("red"), std::invalid_argument);
  CHECK_THROWS_AS(caller::plot(two).x_range(2, 1), std::invalid_argument);
  CHECK_THROWS_AS(caller::plot(two).y_range(0, std::nan("")), std::invalid_argument);
  CHECK_THROWS_AS(caller::plot(two).size(1, 1), std::invalid_argument);
}

TEST_CASE("a range cuts off what lies outside, and the other axis fits what is left") {
  const std::vector<double> x{0, 1, 2, 3}, y{0, 1, 2, 1000};
  const std::string svg = caller::plot(x, y).x_range(0, 2).svg();
  CHECK(svg.find(">2.0<") != std::string::npos);
  CHECK(svg.find(">1000<") == std::string::npos);
}

TEST_CASE("a colour cannot leave its attribute") {
  const std::string svg = caller::plot(std::vector<int>{1, 2}).color("red\"/><script>").svg();
  CHECK(well_formed(svg));
  CHECK(svg.find("<script>") == std::string::npos);
}

TEST_CASE("a bar counts the elements of a range after their turn and says when it was left") {
  Host host;
  std::vector<int> values(50, 1);
  int sum = 0;
  for (int& v : caller::progress(values, "sums & more")) sum += v;
  CHECK(sum == 50);
  CHECK(host.texts.back().starts_with("sums & more: 100%|████████████████████| 50/50 ["));
  CHECK(host.htmls.back().find("sums &amp; more") != std::string::npos);
  CHECK(host.ids.size() == 1);
  CHECK(host.updates == host.texts.size() - 1);
  for (const int v : caller::progress(std::vector<int>{1, 2, 3, 4}))
    if (v == 3) break;
  CHECK(host.texts.back().find(" 50%|██████████          | 2/4 [") == 0);
  CHECK(host.texts.back().ends_with(" stopped"));
  CHECK(host.ids.size() == 2);
}

TEST_CASE("a bar that does not know its total counts") {
  Host host;
  for (const int v : caller::progress(std::forward_list<int>{1, 2, 3})) (void)v;
  CHECK(host.texts.back().starts_with("3 ["));
  CHECK(host.texts.back().find('%') == std::string::npos);
  CHECK(host.htmls.front().find("value=") == std::string::npos);
}

TEST_CASE("a bar stepped a million times by four threads sends few updates and loses no step") {
  Host host;
  {
    caller::progress bar(1'000'000);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 250'000; ++i) bar.step();
      });
    for (auto& t : threads) t.join();
    CHECK(bar.value() == 1'000'000);
  }
  CHECK(host.texts.back().starts_with("100%"));
  CHECK(host.texts.size() < 600);  // ten a second, on a machine however slow
}

TEST_CASE("pictures are known by their content") {
  const auto directory = std::filesystem::temp_directory_path() / ("caller-show-" + std::to_string(::getpid()));
  std::filesystem::create_directory(directory);
  const auto file = [&](const char* name, const std::string& bytes) {
    const auto path = (directory / name).string();
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  };
  using caller::image;
  const image png(file("a.txt", std::string("\x89PNG\r\n\x1a\n\0x", 10)), 30, 40);
  CHECK(mime_bundle_repr(png).at("image/png") == "iVBORw0KGgoAeA==");
  CHECK(mime_metadata_repr(png).at("image/png") == "{\"width\": 30, \"height\": 40}");
  CHECK(mime_bundle_repr(image(file("b", "GIF89a..."))).count("image/gif"));
  CHECK(mime_bundle_repr(image(file("c", "\xff\xd8\xff\xe0"))).count("image/jpeg"));
  CHECK(mime_bundle_repr(image(file("d", "<?xml version='1.0'?><svg/>"))).at("image/svg+xml") ==
        "<?xml version='1.0'?><svg/>");
  CHECK_THROWS_AS(image(file("e", "text")), std::runtime_error);
  CHECK_THROWS_AS(image((directory / "missing").string()), std::system_error);
  CHECK_THROWS_AS(image(directory.string()), std::system_error);
  std::filesystem::remove_all(directory);
}
