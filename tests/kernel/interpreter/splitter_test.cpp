#include <doctest/doctest.h>

#include <set>
#include <string>

#include "interpreter/completeness.hpp"
#include "interpreter/splitter.hpp"

using namespace caller::kernel;

namespace {

// One letter per piece: # directive, d declaration, f function, n namespace, e expression, s other statement; an upper
// case letter when it awaits.
std::string pieces(const std::string& code, std::set<std::string> values = {}) {
  const auto list = tokenize(code);
  std::string out;
  for (const auto& c : split(list, code, [&](std::string_view n) { return values.count(std::string(n)) > 0; })) {
    char k = 's';
    if (c.kind == Chunk::Kind::directive)
      k = '#';
    else if (c.names_space)
      k = 'n';
    else if (c.kind == Chunk::Kind::declaration)
      k = c.function ? 'f' : 'd';
    else if (c.expression)
      k = 'e';
    out += c.awaits ? static_cast<char>(k - 32) : k;
  }
  return out;
}

}  // namespace

TEST_CASE("a cell is cut into directives, declarations and statements") {
  CHECK(pieces("#include <vector>\nint x = 3; x + 1") == "#de");
  CHECK(pieces("for (int i = 0; i < 3; ++i) std::cout << i; int y;") == "sd");
  CHECK(pieces("if (x) { a(); } else if (y) b(); else { c(); } int z;") == "sd");
  CHECK(pieces("do { x++; } while (x < 3); switch (x) { case 1: break; } try { f(); } catch (...) { }") == "sss");
  CHECK(pieces("int f(int a) { return a; } f(3)") == "fe");
  CHECK(pieces("namespace a::b { int x; } namespace { int y; } using namespace std;") == "nnd");
  CHECK(pieces("struct A { int x; } a; class B; enum E { p, q };") == "ddd");
  CHECK(pieces("template <class T> requires requires(T t) { t.x; } T g(T t) { return t; } g(1)") == "fe");
  CHECK(pieces("extern \"C\" { int p(); } extern \"C\" int q();") == "dd");
  CHECK(pieces("A::A(int x) : a(x), b{x} { } A::~A() { } bool A::operator==(const A& o) const { return true; }") ==
        "fff");
  CHECK(pieces("int g() try { return 1; } catch (...) { return 2; } g()") == "fe");
  CHECK(pieces("{ int x = 1; } ;;") == "s");
}

TEST_CASE("an expression is told from a declaration") {
  CHECK(pieces("std::vector<int> v{1, 2}; std::map<int, std::vector<int>> m; std::vector<int>{1}.size()") == "dde");
  CHECK(pieces("auto f = [&](int a) { return a; }; f(3);") == "de");
  CHECK(pieces("[](int a) { return a; }(3); std::cout << [] { return 1; }() << 2;") == "ee");
  CHECK(pieces("std::function<int(int)> f{g}; std::function<void()> h = [] { };") == "dd");
  CHECK(pieces("A * b;") == "d");
  CHECK(pieces("A * b;", {"A"}) == "e");
  CHECK(pieces("a * b") == "e");
  CHECK(pieces("A & r = x; a & b; const A* p; int* q = nullptr;", {"a"}) == "dedd");
  CHECK(pieces("Foo x(1, 2); foo(1, 2); int(3); int (*fp)(int) = nullptr;") == "deed");
  CHECK(pieces("x = 3; ++x; *p = 1; (void)x; x < y; a.b(); a->b; a[1]; ::f();") == "eeeeeeeee");
  CHECK(pieces("x and y; not x; new int; delete p; throw 1; sizeof(int)") == "eeeeee");
  CHECK(pieces("auto [a, b] = f(); auto& [c, d] = g; [[maybe_unused]] int z;") == "ddd");
  CHECK(pieces("unsigned long n = 3; decltype(n) m; long(3)") == "dde");
}

TEST_CASE("co_await counts only where it suspends the cell itself") {
  CHECK(pieces("co_await f();") == "E");
  CHECK(pieces("auto x = co_await f(); int y = 1;") == "Dd");
  CHECK(pieces("auto l = []() -> Coro<int> { co_return co_await g(); };") == "d");
  CHECK(pieces("Coro<int> f() { co_return co_await g(); }") == "f");
  CHECK(pieces("for (int i = 0; i < 3; ++i) { co_await f(i); }") == "S");
  CHECK(pieces("run([]() -> Coro<void> { co_await f(); });") == "e");
}

TEST_CASE("strings, comments, raw strings and digraphs do not confuse the splitter") {
  CHECK(pieces("auto s = R\"x(;{)x\"; // ; {\n/* } */ f(\"}\", '}'); int n = 1'000;") == "ded");
  CHECK(pieces("int a<:2:> = <%1, 2%>; a[0]") == "de");
  CHECK(pieces("#define F(x) \\\n  x;\nF(3)") == "#e");
}

TEST_CASE("unfinished text is told from finished and from wrong text") {
  using S = Completeness::Status;
  CHECK(lexical_completeness("int x = 3;").status == S::complete);
  CHECK(lexical_completeness("x + 1").status == S::complete);
  CHECK(lexical_completeness("").status == S::complete);
  CHECK(lexical_completeness("for (int i = 0; i < 3; ++i) {").status == S::incomplete);
  CHECK(lexical_completeness("for (int i = 0; i < 3; ++i) {").indent == "    ");
  CHECK(lexical_completeness("if (x)").status == S::incomplete);
  CHECK(lexical_completeness("template <class T>").status == S::incomplete);
  CHECK(lexical_completeness("int f(int x)").status == S::incomplete);
  CHECK(lexical_completeness("x +").status == S::incomplete);
  CHECK(lexical_completeness("/* a").status == S::incomplete);
  CHECK(lexical_completeness("auto s = R\"(abc").status == S::incomplete);
  CHECK(lexical_completeness("#define A \\").status == S::incomplete);
  CHECK(lexical_completeness("#if 1\nint x;").status == S::incomplete);
  CHECK(lexical_completeness("f(3))").status == S::invalid);
  CHECK(lexical_completeness("auto s = \"abc").status == S::invalid);
}
