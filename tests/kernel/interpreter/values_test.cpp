// How results are shown.
#include "kernel/interpreter/support.hpp"

using caller::kernel::test::Cells;

TEST_CASE("numbers, characters and text are shown as C++ writes them") {
  Cells run;
  CHECK(run("true") == "true");
  CHECK(run("3.0f") == "3.0");
  CHECK(run("0.1") == "0.1");
  CHECK(run("1e100") == "1e+100");
  CHECK(run("'x'") == "'x'");
  CHECK(run("\"a\\\"b\\n\"") == "\"a\\\"b\\n\"");
  CHECK(run("std::string(\"hé\")") == "\"hé\"");
  CHECK(run("nullptr") == "nullptr");
  CHECK(run("(const char*)nullptr") == "nullptr");
  CHECK(run("1ull << 40") == "1099511627776");
  CHECK(run("(unsigned char)200") == "200");
}

TEST_CASE("containers and the vocabulary types are shown by what they hold") {
  Cells run;
  CHECK(run("std::vector<int>{1, 2, 3}") == "{1, 2, 3}");
  CHECK(run("std::vector<bool>{true, false}") == "{true, false}");
  CHECK(run("std::map<std::string, std::vector<int>>{{\"a\", {1}}, {\"b\", {}}}") == "{\"a\": {1}, \"b\": {}}");
  CHECK(run("std::set<int>{2, 1}") == "{1, 2}");
  CHECK(run("std::array<double, 2>{1, 2.5}") == "{1.0, 2.5}");
  CHECK(run("int raw[3] = {1, 2, 3}; raw") == "{1, 2, 3}");
  CHECK(run("std::make_tuple(1, \"x\", 2.5)") == "(1, \"x\", 2.5)");
  CHECK(run("std::pair(1, 'c')") == "(1, 'c')");
  CHECK(run("std::tuple<>()") == "()");
  CHECK(run("std::chrono::system_clock::time_point(1500ms)") == "1970-01-01 00:00:01.500000 UTC");
  CHECK(run("volatile int careful = 4; careful") == "4");
  CHECK(run("std::complex<double>(1, 2)") == "(1,2)");
  CHECK(run("std::optional<int>()") == "nullopt");
  CHECK(run("std::optional(3)") == "3");
  CHECK(run("std::variant<int, std::string>(\"abc\")") == "\"abc\"");
  CHECK(run("1500ms") == "1500ms");
  CHECK(run("std::chrono::hours(2)") == "2h");
  CHECK(run("std::make_unique<int>(5)") == "→ 5");
  CHECK(run("std::shared_ptr<int>()") == "nullptr");
  CHECK(run("std::vector<int> v{1, 2, 3}; v | std::views::transform([](int x) { return x * 2; })") == "{2, 4, 6}");
  CHECK(run("std::vector<std::optional<std::pair<int, char>>>{{{1, 'a'}}, {}}") == "{(1, 'a'), nullopt}");
}

TEST_CASE("types of cells are shown by mime_bundle_repr, by operator<<, or by name") {
  Cells run;
  CHECK(run("enum class E { a, b }; E::b") == "E(1)");
  CHECK(run("struct N { int a; }; N{}").substr(0, 4) == "N @ ");
  CHECK(run("struct S { int v = 1; }; std::ostream& operator<<(std::ostream& o, const S& s) { return o << \"S\" << "
            "s.v; } std::vector<S>{{1}, {2}}") == "{S1, S2}");
  CHECK(run("caller::MimeBundle mime_bundle_repr(const N&) { return {{\"text/html\", \"<b>n</b>\"}}; }\nN{}")
            .substr(0, 4) == "N @ ");
  CHECK(run.bundles.back().at("text/html") == "<b>n</b>");
}

TEST_CASE("display, update_display and clear_output reach the host") {
  Cells run;
  CHECK(run("caller::display(1); caller::display(caller::html{\"<i>x</i>\"}, \"id\"); caller::update_display(2, "
            "\"id\"); caller::clear_output(true);") == "");
  CHECK(run.displays == std::vector<std::string>{"display : 1", "display id: <i>x</i>", "update id: 2", "clear later"});
  CHECK(run("caller::png{\"\\x89PNG\"}") == "<PNG image, 4 bytes>");
  CHECK(run.bundles.back().at("image/png") == "iVBORw==");
  run.answer = "typed";
  CHECK(run("caller::input(\"name? \")") == "\"name? typed\"");
}
