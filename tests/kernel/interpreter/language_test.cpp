// Completion, inspection, completeness and the list of symbols.
#include <algorithm>

#include "kernel/interpreter/support.hpp"

using caller::kernel::test::Cells;

namespace {

// While the compiler is behind, on a busy machine, there are none: it is waited for.
void settle(Cells& run) { (void)run.language->symbols(); }

// The completions at the `|` of the code.
std::vector<std::string> completions(Cells& run, std::string code) {
  const auto at = code.find('|');
  code.erase(at, 1);
  std::vector<std::string> out;
  settle(run);
  for (auto& i : run.language->complete(code, at).items) out.push_back(i.text);
  return out;
}
bool offers(Cells& run, const std::string& code, const std::string& name) {
  const auto c = completions(run, code);
  return std::find(c.begin(), c.end(), name) != c.end();
}
std::string inspection(Cells& run, std::string code, int detail = 0) {
  const auto at = code.find('|');
  code.erase(at, 1);
  settle(run);
  const auto r = run.language->inspect(code, at, detail);
  return r.count("text/plain") ? r.at("text/plain") : "";
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("members, names, types and headers are completed in any line of a cell") {
  Cells run;
  run("std::vector<int> v{1, 2}; struct Shape { double area; void grow(double by); }; Shape shape; int add_two(int a, "
      "int b) { return a + b; }");
  CHECK(completions(run, "v.pu|") == std::vector<std::string>{"push_back"});
  CHECK(completions(run, "add_t|") == std::vector<std::string>{"add_two"});
  CHECK(offers(run, "int a = 3;\nshape.ar|", "area"));
  CHECK(offers(run, "Shape local;\nlocal.gr|\nint b = 2;", "grow"));
  CHECK(offers(run, "for (auto& x : v) {\n  std::string q;\n  q.app|", "append"));
  CHECK(offers(run, "int foo() {\n  Shape s;\n  s.a|", "area"));
  CHECK(offers(run, "std::vec|", "vector"));
  CHECK(offers(run, "#include <vec|", "vector>"));
  CHECK(offers(run, "Sha|", "Shape"));
  CHECK(offers(run, "auto x = sha|", "shape"));
  CHECK(offers(run, "co_await caller::sle|", "sleep_for"));
  settle(run);
  const auto c = run.language->complete("  v.pu", 6);
  CHECK(c.start == 4);
  CHECK(c.end == 6);
  CHECK(has(c.items.at(0).signature, "push_back("));
  CHECK(c.items.at(0).type == "function");
  CHECK(run("v.size()") == "2");
}

TEST_CASE("completion leaves no trace") {
  Cells run;
  CHECK(offers(run, "int fresh = 3; struct T { int member; }; T t; t.me|", "member"));
  CHECK(has(run("fresh"), "undeclared"));
}

TEST_CASE("inspection shows signature, comment, value and source") {
  Cells run;
  run("/// Adds two numbers.\nint add_two(int a, int b) { return a + b; }\nstd::vector<int> v{1, 2}; std::string name "
      "= \"abc\";");
  const auto f = inspection(run, "add_|two(1, 2)");
  CHECK(has(f, "int add_two(int a, int b)"));
  CHECK(has(f, "Adds two numbers."));
  CHECK(has(f, "Cell [1], line 2"));
  CHECK(!has(f, "return a + b"));
  CHECK(has(inspection(run, "add_two(|", 1), "return a + b"));
  CHECK(has(inspection(run, "v|"), "value: {1, 2}"));
  CHECK(has(inspection(run, "name|"), "value: \"abc\""));
  CHECK(has(inspection(run, "v.push_ba|ck"), "push_back"));
  CHECK(has(inspection(run, "std::so|rt"), "std::sort("));
  CHECK(inspection(run, "no_such_name|") == "");
}

TEST_CASE("text is complete, incomplete or invalid") {
  using S = caller::kernel::Completeness::Status;
  Cells run;
  CHECK(run.language->is_complete("int x = 3;").status == S::complete);
  CHECK(run.language->is_complete("undefined_name").status == S::complete);
  CHECK(run.language->is_complete("for (;;) {").status == S::incomplete);
  CHECK(run.language->is_complete("int = 5;").status == S::invalid);
  CHECK(has(run("x"), "undeclared"));
}

TEST_CASE("the symbols of the user are listed while they are visible") {
  Cells run;
  run("int a = 1; struct B {}; int f(double) { return 1; } using C = int; template <class T> T t(T x) { return x; }");
  run("std::string a;");
  std::string all;
  for (auto& s : run.language->symbols()) all += s.name + ":" + s.kind + ":" + s.type + "\n";
  CHECK(all == "B:class:\nf:function:int (double)\nC:alias:int\nt:function template:T (T)\na:variable:std::string\n");
}

TEST_CASE("include paths and libraries can be added") {
  Cells run;
  CHECK_THROWS_AS(run.language->load_library("no_such_library_anywhere"), std::runtime_error);
  CHECK_THROWS_AS(run.language->add_include_path("/no/such/directory"), std::runtime_error);
  run.language->load_library("libm.so.6");
  CHECK(run("std::sqrt(4.0)") == "2.0");
}
