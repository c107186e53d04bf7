// What does not compile, or throws, is reported; the next cell is unaffected.
#include "kernel/interpreter/support.hpp"

using caller::kernel::test::Cells;

namespace {
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }
}  // namespace

TEST_CASE("diagnostics carry the cell's own line and column") {
  Cells run;
  run("int one = 1;");
  CHECK(run("int a = 1;\n\nint b = undefined_name;\n") ==
        "CompileError: use of undeclared identifier 'undefined_name' (line 3, column 9)");
  CHECK(has(run.traceback(), "Cell [2], line 3, column 9: "));
  CHECK(has(run.traceback(), "int b = undefined_name;"));
  CHECK(has(run.traceback(), "\033["));
  CHECK(run("void f() {\n  int x = \"no\";\n}") ==
        "CompileError: cannot initialize a variable of type 'int' with an lvalue of type 'const char[3]' (line 2, "
        "column 7)");
  CHECK(run("one +") == "CompileError: expected expression (line 1, column 6)");
}

TEST_CASE("a cell that fails leaves no trace") {
  Cells run;
  CHECK(run("int kept = 1;") == "");
  CHECK(has(run("int part = 1; int kept = 2; struct Part {}; undefined_thing;"), "CompileError"));
  CHECK(run("kept") == "1");
  CHECK(has(run("part"), "undeclared"));
  CHECK(has(run("Part{}"), "undeclared"));
  const std::string sort = "std::list<int> li{3, 1}; std::sort(li.begin(), li.end());";
  const std::string first = run(sort);
  CHECK(has(first, "CompileError"));
  CHECK(run(sort) == first);  // a template that failed once fails again
  CHECK(has(run("#include <algorithm>\n#include <no_such_header_anywhere>"), "file not found"));
  CHECK(run("int part = 3; part + kept") == "4");
}

TEST_CASE("hard cases are errors, and the next cell works") {
  Cells run;
  CHECK(run("int ok = 1;") == "");
  for (const char* code : {"auto l = [&](int x) { return x + undefined1; };",
                           "struct K { int a; }; struct K { int b; };",
                           "template <class T> struct B { T x; void f( };",
                           "#error \"mine\"",
                           "int f() { return 1;",
                           "int g() { return 1; }}",
                           "std::string s = \"abc",
                           "auto r = R\"(abc",
                           "/* open",
                           "static_assert(sizeof(int) == 8, \"no\");",
                           "(",
                           "}",
                           "*",
                           "int a b c;",
                           "using namespace nosuch;",
                           "co_await 3;",
                           "co_yield 3;",
                           "#define BAD(x) (x +\nBAD(3)",
                           "asm(\"bogus instruction\");",
                           "template <int N> struct R { static constexpr int v = R<N + 1>::v; }; R<0>::v",
                           "class;",
                           "operator+",
                           "namespace",
                           "template <",
                           "for",
                           "if (",
                           "int x[] = {1, 2",
                           "struct : {};",
                           "auto x = ;",
                           "goto nowhere;",
                           "#include",
                           "@"}) {
    CAPTURE(std::string(code));
    run(code);
    CHECK(run.error.ename != "");
    CHECK(run.error.evalue != "");
    CHECK(!run.error.traceback.empty());
    CHECK(run("ok") == "1");
  }
}

TEST_CASE("a symbol that is nowhere defined is named") {
  Cells run;
  CHECK(has(run("int nowhere(int, std::string); int kept = 2; nowhere(3, \"\")"),
            "LinkError: undefined symbol: nowhere(int"));
  CHECK(has(run("kept"), "undeclared"));
  CHECK(run("int nowhere(int, std::string) { return 4; } nowhere(3, \"\")") == "4");
}

TEST_CASE("exceptions are shown with type, text and cause") {
  Cells run;
  CHECK(run("throw std::runtime_error(\"boom\");") == "std::runtime_error: boom");
  CHECK(run("struct MyError : std::runtime_error { using std::runtime_error::runtime_error; }; throw "
            "MyError(\"mine\");") == "MyError: mine");
  CHECK(run("try { throw std::logic_error(\"inner\"); } catch (...) { std::throw_with_nested(MyError(\"outer\")); }") ==
        "MyError: outer");
  CHECK(has(run.traceback(), "caused by "));
  CHECK(has(run.traceback(), "inner"));
  CHECK(run("throw 42;") == "int: 42");
  CHECK(run("throw \"text\";") == "const char*: text");
  CHECK(run("struct Odd {}; throw Odd{};") == "Odd: ");
  CHECK(run("caller::Coro<void> bad() { co_await caller::sleep_for(1ms); throw std::out_of_range(\"far\"); } co_await "
            "bad();") == "std::out_of_range: far");
  CHECK(run("int after = 5; after") == "5");
}

TEST_CASE("variables that a failing run has set survive it") {
  Cells run;
  CHECK(run("int x = 1; x = 2; throw 1; x = 3;") == "int: 1");
  CHECK(run("x") == "2");
}

TEST_CASE("warnings of a cell that compiles come with it") {
  Cells run;
  CHECK(run("int zero() { int* p = nullptr; if (p = nullptr) return 1; return 0; } zero()") == "0");
  CHECK(has(run.warnings, "warning"));
  CHECK(has(run.warnings, "Cell [1], line 1"));
}

TEST_CASE("without a precompiled prelude cells still run, and the log says so") {
  caller::kernel::InterpreterOptions options;
  options.flags = {"-O0"};  // not what the prelude was compiled with
  std::string log;
  options.log = [&](const std::string& line) { log += line; };
  Cells run(options);
  CHECK(log.find("prelude") != std::string::npos);
  CHECK(run("std::vector<int> v{1, 2}; v") == "{1, 2}");
  CHECK(run("caller::Coro<int> f() { co_return 3; } co_await f()") == "3");
}
