// What a cell may hold, and what later cells see of it.
#include "kernel/interpreter/support.hpp"

using caller::kernel::test::Cells;

TEST_CASE("the last expression is shown unless it ends in a semicolon") {
  Cells run;
  CHECK(run.log == "");
  CHECK(run("1 + 1") == "2");
  CHECK(run("1 + 1;") == "");
  CHECK(run("int x = 20; x * 2 + 2") == "42");
  CHECK(run("x;") == "");
  CHECK(run("x", false) == "");
  CHECK(run("(void)x") == "");
  CHECK(run("std::cout << std::flush") == "");
  CHECK(run("[](int a) { return a * 3; }(x)") == "60");
  CHECK(run("") == "");
  CHECK(run("// only a comment") == "");
}

TEST_CASE("includes, declarations and statements stand in any order") {
  Cells run;
  CHECK(run("int a = 1;\n#include <list>\na += 1;\nstd::list<int> l{a, 1};\nl.sort();\nint first() { return l.front(); "
            "}\nfirst() * 10 + a") == "12");
  CHECK(run("#define TWICE(x) ((x) * 2)\nint t = TWICE(21);\nt") == "42");
  CHECK(run("TWICE(t)") == "84");
  CHECK(run("#if 0\nint no = 1;\n#else\nint yes = 2;\n#endif\nyes") == "2");
  CHECK(run("int i = 0; for (int k = 0; k < 3; ++k) i += k; if (i > 100) i = 0; else i *= 2; while (i < 10) ++i; i") ==
        "10");
  CHECK(run("using namespace std; vector<string> words{\"a\"}; words.size()") == "1");
  CHECK(run("template <class T> T sq(T x) { return x * x; }\ntemplate <> inline int sq<int>(int) { return -1; "
            "}\nsq(3.0) + sq(3)") == "8.0");
  CHECK(run("struct P { int x; void go(); }; void P::go() { ++x; } P p{1}; p.go(); p.x") == "2");
  CHECK(run("extern \"C\" int c_function(int x) { return x + 1; } c_function(3)") == "4");
}

TEST_CASE("initialisers and statements of a cell run in their order") {
  Cells run;
  CHECK(run("std::string s = \"a\"; s += \"b\"; std::string t = s + \"c\"; s = \"z\"; t + s") == "\"abcz\"");
}

TEST_CASE("a constant has the value of where it stands, whenever it is used") {
  Cells run;
  CHECK(
      run("int a = 0; a = 5; const int b = a; a = 6; const auto c = std::to_string(a); a = 7; c + std::to_string(b)") ==
      "\"65\"");
  CHECK(run("const int later = a; constexpr int size = 3; static const int more = a + size;") == "");
  CHECK(run("a = 9; int list[size] = {}; later * 100 + more + static_cast<int>(sizeof list / sizeof *list)") == "713");
}

TEST_CASE("a macro of this library that declares something may end a cell") {
  Cells run;
  CHECK(run("#define CALLER_TEST_DECLARES(name) inline int name() { return 4; }\nCALLER_TEST_DECLARES(four)") == "");
  CHECK(run("four()") == "4");
}

TEST_CASE("variables of earlier cells keep their value and their place") {
  Cells run;
  CHECK(run("int n = 5; int* p = &n; static int counter = 0; const std::string c = [] { ++counter; return "
            "std::string(\"once\"); }();") == "");
  CHECK(run("n = 6; *p") == "6");
  CHECK(run("++counter; c") == "\"once\"");
  CHECK(run("counter") == "2");
  CHECK(run("constexpr int N = 3; std::array<int, N> a{}; a[0] = 7; a") == "{7, 0, 0}");
  CHECK(run("a[0] + N") == "10");
  CHECK(run("namespace { int hidden = 3; } ++hidden") == "4");
  CHECK(run("++hidden") == "5");
  CHECK(run("thread_local int tl = 5; ++tl") == "6");
  CHECK(run("tl") == "6");
  CHECK(run("auto [x, y] = std::pair(1, std::string(\"two\"));") == "");
  CHECK(run("y += std::to_string(x); y") == "\"two1\"");
}

TEST_CASE("thread-local variables of the standard library are those of each thread") {
  Cells run;
  CHECK(run("#include <future>\n#include <mutex>\nstd::async(std::launch::async, [] { return 6 * 7; }).get()") == "42");
  CHECK(run("std::once_flag first, second; std::atomic<int> calls{0};\n"
            "void once(std::once_flag& flag) { std::call_once(flag, [&flag] { if (&flag == &first) once(second); "
            "++calls; "
            "}); }") == "");
  CHECK(run("{ std::vector<std::thread> all; for (int i = 0; i < 4; ++i) all.emplace_back([] { once(first); }); "
            "for (auto& t : all) t.join(); }\nonce(second);\ncalls.load()") == "2");
}

TEST_CASE("a thread-local variable that nobody has is named") {
  Cells run;
  CHECK(run("extern thread_local int nowhere;\nnowhere") == "LinkError: undefined symbol: nowhere");
}

TEST_CASE("a newer cell's names shadow the older ones") {
  Cells run;
  CHECK(run("int y = 1; int f() { return 1; } struct C { int v = 1; }; template <class T> T g(T t) { return t + 1; } "
            "using A = int; enum F { fa = 4 };") == "");
  CHECK(run("auto old = &y; C keep; f()") == "1");
  CHECK(run("double y = 2.5; int f() { return 2; } struct C { int v = 2, w = 3; }; template <class T> T g(T t) { "
            "return t + 2; } using A = double; enum F { fa = 6 };") == "");
  CHECK(run("y") == "2.5");
  CHECK(run("*old * 100 + keep.v * 10 + f()") == "112");
  CHECK(run("C{}.v * 10 + C{}.w") == "23");
  CHECK(run("g(1) * 100 + int(sizeof(A)) * 10 + fa") == "386");
  CHECK(run("struct y { int v = 9; }; y{}.v") == "9");
  CHECK(run("auto f = [](int a) { return a * 2; }; f(4)") == "8");
}

TEST_CASE("one cell can be run again and again") {
  Cells run;
  for (int i = 0; i < 3; ++i)
    CHECK(run("#include <list>\n#define K 3\nusing namespace std;\nnamespace fs = std::filesystem;\nint v = K; struct "
              "S { int a; }; enum E { e1, e2 }; typedef int T;\n"
              "template <class X> X id(X x) { return x; }\nint h(S s) { return s.a; }\nstatic int st = 1; const int ct "
              "= 2; auto lam = [&] { return v; };\nnamespace ns { int q = 4; }\n"
              "h({id(v)}) + st + ct + lam() + ns::q + e2") == "14");
}

TEST_CASE("overloads with other parameters stay") {
  Cells run;
  CHECK(run("int over(int) { return 1; }") == "");
  CHECK(run("int over(double) { return 2; }") == "");
  CHECK(run("over(1) * 10 + over(1.0)") == "12");
  CHECK(run("int over(int) { return 3; }") == "");
  CHECK(run("over(1) * 10 + over(1.0)") == "32");
}

TEST_CASE("namespaces can be added to and their members redefined") {
  Cells run;
  CHECK(run("namespace ns { int a = 1; struct Q { int z = 3; }; namespace deep { int d = 5; } }") == "");
  CHECK(run("namespace ns { int b = 2; } ns::a + ns::b") == "3");
  CHECK(run("namespace ns { int a = 10; } ns::a + ns::b + ns::Q{}.z + ns::deep::d") == "20");
  CHECK(run("struct Key { int k; bool operator==(const Key&) const = default; }; namespace std { template <> struct "
            "hash<Key> { size_t operator()(const Key& k) const { return k.k; } }; }\n"
            "std::unordered_map<Key, int> um{{Key{1}, 5}}; um[Key{1}]") == "5");
}

TEST_CASE("lambdas may capture what is global here") {
  Cells run;
  CHECK(run("int n = 5; auto f = [n](int a) { return a + n; }; n = 100; f(1)") == "6");
  CHECK(run("auto g = [&](int a) { return a + n; }; auto h = [=] { return n; }; g(1) + h()") == "201");
  CHECK(run("auto k = [&n] { return ++n; }; k(); n") == "101");
  CHECK(run("[&] { return n; }()") == "101");
  CHECK(run("std::vector<std::function<int()>> q; for (int i = 0; i < 3; ++i) q.push_back([i, n] { return i * n; }); "
            "q[2]()") == "202");
}

TEST_CASE("a product is told from a declaration by what the names are") {
  Cells run;
  CHECK(run("struct A {}; int a = 6, b = 7;") == "");
  CHECK(run("A * pa; a * b") == "42");
  CHECK(run("a * b;") == "");
  CHECK(run("int c = 3; c * c") == "9");
}

TEST_CASE("co_await stands at the top level") {
  Cells run;
  CHECK(run("caller::Coro<int> twice(int x) { co_await caller::sleep_for(1ms); co_return 2 * x; }") == "");
  CHECK(run("co_await twice(4)") == "8");
  CHECK(run("co_await caller::sleep_for(1ms);") == "");
  CHECK(run("int s = 0; for (int i = 0; i < 3; ++i) s += co_await twice(i); s") == "6");
  CHECK(run("auto lam = []() -> caller::Coro<int> { co_return co_await twice(1); };") == "");
  CHECK(run("co_await lam() + co_await lam()") == "4");
}

TEST_CASE("a variable may be initialised with what a cell awaits") {
  Cells run;
  CHECK(run("struct Move { std::unique_ptr<int> p; explicit Move(int i) : p(new int(i)) {} };\n"
            "template <class T> caller::Coro<T> give(T x) { co_await caller::sleep_for(1ms); co_return std::move(x); "
            "}\nint n = 3;\n"
            "caller::Coro<int&> refer() { co_return n; }") == "");
  CHECK(run("auto x = co_await give(5); int y = x + 1; y") == "6");
  CHECK(run("x") == "5");
  CHECK(run("auto m = co_await give(Move(7)); *m.p") == "7");
  CHECK(run("*m.p + co_await give(1)") == "8");
  CHECK(run("auto& r = co_await refer(); r = 77; n") == "77");
  CHECK(run("auto [a, b] = co_await give(std::pair<int, std::string>(1, \"q\")); b") == "\"q\"");
  CHECK(run("b + std::to_string(a)") == "\"q1\"");
  CHECK(run("const auto c = co_await give(2); std::string t(co_await give(3), 'z'); std::vector<int> v{co_await "
            "give(4), c}; t + std::to_string(v[0])") == "\"zzz4\"");
  CHECK(run("int sum = co_await give(1) + co_await give(2) * 2; sum") == "5");
  CHECK(run("auto x = std::string(\"other\") + co_await give(std::string(\"!\")); x") == "\"other!\"");
}

TEST_CASE("code compiled on one thread runs on another while the next cell compiles") {
  Cells run;
  CHECK(run("std::atomic<bool> go{false}; std::atomic<int> seen{0};") == "");
  auto compiled = run.language->compile("while (!go) std::this_thread::yield(); seen = 1;", {});
  REQUIRE(std::holds_alternative<caller::kernel::CompiledCell>(compiled));
  std::thread other([&] {
    for (auto& s : std::get<caller::kernel::CompiledCell>(compiled).segments) s.run();
  });
  CHECK(run("int meanwhile = 1; meanwhile + seen.load()") == "1");
  CHECK(run("go = true;") == "");
  other.join();
  CHECK(run("seen.load()") == "1");
}

TEST_CASE("cells use standard threads, and destructors of globals run at the end") {
  std::string path = "interpreter_exit_" + std::to_string(::getpid());
  {
    Cells run;
    CHECK(run("std::ofstream out(\"" + path + "\"); std::thread([] { out << \"written\"; }).join();") == "");
  }
  std::FILE* f = std::fopen(path.c_str(), "r");
  REQUIRE(f);
  char text[16] = {};
  CHECK(std::fread(text, 1, 15, f) == 7);
  std::fclose(f);
  std::remove(path.c_str());
}

TEST_CASE("cells run optimised code") {
  Cells run;
  CHECK(run("#ifdef __OPTIMIZE__\nbool optimised = true;\n#else\nbool optimised = false;\n#endif\noptimised") ==
        "true");
}

TEST_CASE("loops with and without checks, and recursion, compute what they should") {
  Cells run;
  run("unsigned long turns(long from, long to, long step) { unsigned long n = 0; for (long i = from; i < to; i += "
      "step) "
      "n = n * 3 + 1 + static_cast<unsigned long>(i & 1); return n; }\n"
      "unsigned long slow(long from, long to, long step) { unsigned long n = 0; volatile long i = from; while (i < to) "
      "{ n = n * 3 + "
      "1 + static_cast<unsigned long>(i & 1); i = i + step; } return n; }\n"
      "int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }\n"
      "int ack(int m, int n) { return m == 0 ? n + 1 : n == 0 ? ack(m - 1, 1) : ack(m - 1, ack(m, n - 1)); }");
  CHECK(run("turns(0, 1000, 7) == slow(0, 1000, 7) && turns(5, 5, 1) == 0 && turns(-3, 4, 100) == slow(-3, 4, 100)") ==
        "true");
  run("int primes(int n) { std::vector<bool> composite(n + 1); int count = 0; for (int i = 2; i <= n; ++i) { if "
      "(composite[i]) continue; ++count; for (long j = 1L * i * i; j <= n; j += i) composite[j] = true; } return "
      "count; }\n"
      "std::map<std::string, int> counts; for (int i = 0; i < 5000; ++i) ++counts[std::to_string(i * 37 % 101)];");
  run("struct List { List* next = nullptr; int depth() const noexcept { return 1 + std::max(next ? next->depth() : 0, "
      "0); } };\n"
      "List one, two{&one}, three{&two};\n"
      "int fall(int n) noexcept { return n < 2 ? n : fall(n - 1) + fall(n - 2); }");
  CHECK(run("three.depth() * 1000 + fall(12)") == "3144");
  CHECK(run("primes(100'000)") == "9592");
  CHECK(run("counts.size() == 101 && counts[\"7\"] + counts[\"100\"] == 99") == "true");
  CHECK(run("turns(0, 100'000'000, 1) == slow(0, 100'000'000, 1)") == "true");
  CHECK(run("fib(20) * 1000 + ack(2, 3)") == "6765009");
  CHECK(run("struct Deep { static int down(int n) { if (n == 0) throw n; Deep d; return down(n - 1) + 1; } ~Deep() { "
            "++gone(); } "
            "static int& gone() { static int g = 0; return g; } };\ntry { Deep::down(40); } catch (int) "
            "{}\nDeep::gone()") == "40");
}

TEST_CASE("what a statement uses of a library that is only in its headers is there") {
  Cells run;
  run("#include <valarray>\n#include <sstream>");
  CHECK(run("std::valarray<double> v{1, 2, 3}; (v * 2.0).sum()") == "12.0");
  CHECK(run("std::istringstream in(\"1 2 3\"); int a, b; in >> a >> b; a + b") == "3");
  CHECK(run("std::string s(3, 'x'); s.insert(1, \"yy\"); s.append(s.begin(), s.end()).substr(2)") == "\"yxxxyyxx\"");
}

TEST_CASE("algorithms that were compiled in advance do what they should") {
  Cells run;
  for (const char* type : {"int", "double", "std::string"}) {
    CAPTURE(type);
    const std::string t = type;
    CHECK(run("std::vector<" + t +
              "> v; unsigned x = 7;\n"
              "const auto put = [&v](auto n) {\n"
              "  if constexpr (std::is_constructible_v<" +
              t +
              ", decltype(n)>) v.push_back(n);\n"
              "  else v.push_back(std::to_string(n));\n};\n"
              "for (int i = 0; i < 1000; ++i) put((x = x * 1664525u + 1013904223u) % 5000);\n"
              "auto up = v, down = v, stable = v, nth = v;\n"
              "std::sort(up.begin(), up.end());\n"
              "std::sort(down.begin(), down.end(), std::greater<>());\n"
              "std::stable_sort(stable.begin(), stable.end());\n"
              "std::nth_element(nth.begin(), nth.begin() + 500, nth.end());\n"
              "std::is_sorted(up.begin(), up.end()) && std::is_permutation(up.begin(), up.end(), v.begin()) && "
              "stable == up && std::equal(down.rbegin(), down.rend(), up.begin()) && nth[500] == up[500]") == "true");
  }
}
