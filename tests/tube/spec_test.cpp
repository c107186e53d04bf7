// What is wrong in a specification is said with file, line, column and key, and offers what is near.
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <unistd.h>

#include "support.hpp"

using namespace caller::tube;

namespace {

struct Wrong {
  const char* what;
  const char* yaml;
  int line, column;
  const char* key;
  const char* message;  ///< a part of it
};

const std::vector<Wrong> kWrong{
    {"an unknown key of the tube", "noob_id: x\nnode: {}\n", 2, 1, "node", "did you mean \"nodes\"?"},
    {"an unknown key of a node", "noob_id: x\nnodes:\n  a: {type: sum, depend: b.c}\n", 3, 18, "nodes.a.depend",
     "did you mean \"depends\"?"},
    {"a scope misspelled", "noob_id: x\ninput:\n  i: {type: int, scope: proces}\n", 3, 25, "input.i.scope",
     "did you mean \"process\"?"},
    {"no id", "nodes: {}\n", 1, 1, "", "the tube has no id"},
    {"an id with spaces", "noob_id: a b\n", 1, 10, "noob_id", "letters, digits"},
    {"a list for a tube", "- a\n- b\n", 1, 1, "", "expected a map"},
    {"no YAML", "noob_id: x\nnodes: {a: [}\n", 2, 0, "", "this is no YAML"},
    {"a tab", "noob_id: x\nnodes:\n\ta: b\n", 3, 0, "", "this is no YAML"},
    {"nothing", "\n\n", 1, 0, "", "empty"},
    {"two documents", "noob_id: x\n---\nnoob_id: y\n", 0, 0, "", "a second document"},
    {"a key twice", "noob_id: x\nnodes:\n  a: {type: sum}\n  a: {type: sum}\n", 4, 3, "a", "twice"},
    {"a list as key", "noob_id: x\nnodes:\n  ? [a]\n  : 1\n", 3, 5, "", "a key must be a text"},
    {"a reserved id", "noob_id: x\nnodes:\n  input: {type: sum}\n", 3, 10, "nodes.input", "reserved"},
    {"an id with a dot", "noob_id: x\nnodes:\n  a.b: {type: sum}\n", 3, 8, "nodes.a.b", "identifier"},
    {"a node without type", "noob_id: x\nnodes:\n  a: {params: {}}\n", 3, 6, "nodes.a", "no type"},
    {"an unknown type", "noob_id: x\nnodes:\n  a:\n    type: noob.testing.multiplyy\n", 4, 11, "nodes.a.type",
     "\"noob.testing.multiply\""},
    {"a type without its package", "noob_id: x\nnodes:\n  a: {type: divide}\n", 3, 13, "nodes.a.type",
     "noob.testing.divide"},
    {"an unknown param", "noob_id: x\nnodes:\n  a: {type: noob.testing.count_source, params: {strat: 1}}\n", 3, 56,
     "nodes.a.params.strat", "did you mean \"start\"?"},
    {"a param of the wrong type", "noob_id: x\nnodes:\n  a: {type: noob.testing.count_source, params: {start: one}}\n",
     3, 56, "nodes.a.params.start", "expected integer, found text \"one\""},
    {"a missing node",
     "noob_id: x\nnodes:\n  count: {type: noob.testing.count_source}\n  b: {type: sum, depends: [coutn.index]}\n", 4,
     28, "nodes.b.depends", "did you mean \"count\"?"},
    {"an unknown signal",
     "noob_id: x\nnodes:\n  count: {type: noob.testing.count_source}\n  b: {type: sum, depends: [count.indx]}\n", 4, 28,
     "nodes.b.depends", "has no signal \"indx\"; did you mean \"index\"?"},
    {"a bad depends", "noob_id: x\nnodes:\n  a: {type: noob.testing.count_source}\n  b: {type: sum, depends: [a]}\n", 4,
     28, "nodes.b.depends[0]", "expected `node.signal`"},
    {"a map of depends",
     "noob_id: x\nnodes:\n  a: {type: noob.testing.count_source}\n  b: {type: sum, depends: {items: a.index}}\n", 4, 27,
     "nodes.b.depends", "put a `- `"},
    {"a slot filled twice",
     "noob_id: x\nnodes:\n  a: {type: noob.testing.count_source}\n  b: {type: noob.testing.multiply, depends: [{left: "
     "a.index}, {left: a.index}]}\n",
     4, 70, "nodes.b.depends[1].left", "filled twice"},
    {"a slot filled by position and name",
     "noob_id: x\nnodes:\n  a: {type: noob.testing.count_source}\n  b: {type: noob.testing.multiply, depends: "
     "[a.index, {left: a.index}]}\n",
     4, 62, "nodes.b.depends", "filled twice"},
    {"an unknown slot",
     "noob_id: x\nnodes:\n  a: {type: noob.testing.count_source}\n  b: {type: noob.testing.multiply, depends: [{lefd: "
     "a.index}]}\n",
     4, 53, "nodes.b.depends", "did you mean \"left\"?"},
    {"too many arguments",
     "noob_id: x\nnodes:\n  a: {type: noob.testing.count_source}\n  b: {type: sum, depends: [a.index, a.index]}\n", 4,
     37, "nodes.b.depends", "too many positional"},
    {"an empty slot", "noob_id: x\nnodes:\n  b: {type: noob.testing.multiply}\n", 3, 6, "nodes.b", "the slot \"left\""},
    {"an edge and a param",
     "noob_id: x\nnodes:\n  a: {type: noob.testing.count_source}\n  b: {type: noob.testing.multiply, params: {left: "
     "1}, depends: [{left: a.index}]}\n",
     4, 51, "nodes.b.params.left", "filled by an edge already"},
    {"a source that takes something",
     "noob_id: x\nnodes:\n  a: {type: noob.testing.count_source}\n  b: {type: noob.testing.letter_source, depends: "
     "[a.index]}\n",
     4, 50, "nodes.b.depends", "is a source"},
    {"two returns",
     "noob_id: x\nnodes:\n  a: {type: noob.testing.count_source}\n  b: {type: return, depends: a.index}\n  c: {type: "
     "return, depends: a.index}\n",
     5, 6, "nodes.c", "a second return"},
    {"a return of nothing", "noob_id: x\nnodes:\n  b: {type: return}\n", 3, 6, "nodes.b", "needs depends"},
    {"a cycle",
     "noob_id: x\nnodes:\n  a: {type: sum, depends: c.value}\n  b: {type: sum, depends: a.value}\n  c: {type: sum, "
     "depends: b.value}\n",
     0, 0, "", "→"},
    {"a node that waits for itself", "noob_id: x\nnodes:\n  a: {type: sum, depends: a.value}\n", 3, 27,
     "nodes.a.depends", "a cycle: a → a"},
    {"a missing asset",
     "noob_id: x\nassets:\n  counter: {type: noob.testing.counter, scope: runner}\nnodes:\n  a: {type: "
     "noob.testing.fast_forward, depends: [{generator: assets.countr}]}\n",
     5, 62, "nodes.a.depends", "did you mean \"counter\"?"},
    {"a missing input", "noob_id: x\nnodes:\n  a: {type: noob.testing.multiply, depends: [{left: input.no}]}\n", 3, 53,
     "nodes.a.depends", "there is no input \"no\""},
    {"a missing input of a param",
     "noob_id: x\nnodes:\n  a: {type: noob.testing.count_source, params: {start: input.no}}\n", 3, 56,
     "nodes.a.params.start", "there is no input \"no\""},
    {"an unknown asset type", "noob_id: x\nassets:\n  a: {type: noob.testing.countr, scope: node}\n", 3, 13,
     "assets.a.type", "noob.testing.counter"},
    {"an asset without scope", "noob_id: x\nassets:\n  a: {type: set}\n", 3, 6, "assets.a", "no scope"},
    {"an asset of a node that depends",
     "noob_id: x\nassets:\n  a: {type: set, scope: node, depends: b.index}\nnodes:\n  b: {type: "
     "noob.testing.count_source}\n",
     3, 40, "assets.a.depends", "only an asset of scope runner"},
    {"an asset used after its keeper",
     "noob_id: x\nassets:\n  c: {type: noob.testing.counter, scope: runner, depends: b.iterator}\nnodes:\n  b: {type: "
     "noob.testing.increment, depends: [{iterator: assets.c}]}\n  d: {type: noob.testing.increment, depends: "
     "[{iterator: b.iterator}]}\n  e: {type: noob.testing.zip_iter, depends: [d.iterator, assets.c]}\n",
     7, 45, "nodes.e.depends", "takes its next value from there"},
    {"a node below two maps",
     "noob_id: x\nnodes:\n  a: {type: noob.testing.word_source}\n  b: {type: noob.testing.word_source}\n  m: {type: "
     "map, depends: [{value: a.word}]}\n  n: {type: map, depends: [{value: b.word}]}\n  both: {type: "
     "noob.testing.multi_concat, depends: [{x: m.value}, {y: n.value}]}\n",
     7, 52, "nodes.both.depends", "\"m\" and \"n\""},
    {"a gather of both modes",
     "noob_id: x\nnodes:\n  a: {type: noob.testing.count_source}\n  g: {type: gather, params: {n: 2}, depends: "
     "[{value: a.index}, {trigger: a.index}]}\n",
     4, 75, "nodes.g", "either n or a trigger"},
    {"a gather of none",
     "noob_id: x\nnodes:\n  a: {type: noob.testing.count_source}\n  g: {type: gather, depends: [{value: a.index}]}\n",
     4, 6, "nodes.g", "needs the param n"},
    {"a gather of nothing",
     "noob_id: x\nnodes:\n  a: {type: noob.testing.count_source}\n  g: {type: gather, params: {n: 0}, depends: "
     "[{value: a.index}]}\n",
     4, 33, "nodes.g.params.n", "at least 1"},
    {"a child that does not exist", "noob_id: x\nnodes:\n  t: {type: tube, params: {tube: testing-brnch}}\n", 3, 34,
     "nodes.t.params.tube", "did you mean \"testing-branch\""},
    {"a tube in itself", "noob_id: x\nnodes:\n  t:\n    type: tube\n    params:\n      tube: {noob_id: x, nodes: {}}\n",
     6, 13, "nodes.t.params.tube", "a tube inside of itself"},
    {"an unknown input of a child", "noob_id: x\nnodes:\n  t: {type: tube, params: {tube: testing-branch, strt: 1}}\n",
     3, 56, "nodes.t.params.strt", "has no input"},
    {"extends that do not exist", "noob_id: x\nextends: [testing-extnds-main]\n", 2, 11, "extends[0]", "no tube"},
    {"an input of an unknown type", "noob_id: x\ninput:\n  i: {type: itn}\n", 3, 6, "input.i.type",
     "did you mean \"int\""},
    {"a default of the wrong type", "noob_id: x\ninput:\n  i: {type: int, default: text, required: false}\n", 3, 6,
     "input.i.default", "takes int, found \"text\""},
};

}  // namespace

TEST_CASE("each mistake in a specification is refused with its line, column and key, and what was expected") {
  for (const Wrong& w : kWrong) {
    const std::string what = w.what;
    CAPTURE(what);
    try {
      (void)Tube::from_any(std::string_view(w.yaml));
      FAIL_CHECK("it was accepted");
    } catch (const SpecError& e) {
      const std::string found = e.what();
      CAPTURE(found);
      if (w.line) CHECK(e.line() == w.line);
      if (w.column) CHECK(e.column() == w.column);
      if (*w.key) CHECK(e.key() == w.key);
      CHECK(contains(e.what(), w.message));
    }
  }
}

TEST_CASE("an error in a file names the file; in a text the name it was given, counted from the line it was given") {
  const auto folder = std::filesystem::temp_directory_path() / ("tube-spec-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const auto path = folder / "wrong.yaml";
  std::ofstream(path) << "noob_id: wrong\nnodes:\n  a: {type: nothing.there}\n";
  CHECK_THROWS_WITH_AS(Tube::from_any(path.string()),
                       doctest::Contains((path.string() + ":3:13: nodes.a.type: unknown type").c_str()), SpecError);
  CHECK_THROWS_WITH_AS(TubeSpec::from_text("noob_id: x\nnodse: {}\n", "Cell [3]", 5),
                       doctest::Contains("Cell [3]:6:1: nodse: unknown key"), SpecError);
  CHECK_THROWS_WITH_AS(Tube::from_any((folder / "none.yaml").string()), doctest::Contains("there is no file"), Error);
  CHECK_THROWS_WITH_AS(Tube::from_any(folder.string()), doctest::Contains("is a folder"), Error);
  CHECK_THROWS_WITH_AS(Tube::from_any("testing-basik"), doctest::Contains("did you mean \"testing-basic\""), Error);
  std::filesystem::remove_all(folder);
}

TEST_CASE("an unknown extends circle is found") {
  const std::string a = define("noob_id: circle-a\nnodes: {}\n");
  CHECK(a == "circle-a");
  define("noob_id: circle-b\nextends: [circle-a]\nnodes: {}\n");
  CHECK_THROWS_WITH_AS(define("noob_id: circle-a\nextends: [circle-b]\nnodes: {}\n"),
                       doctest::Contains("circle-a → circle-b"), SpecError);
}

TEST_CASE("extends merge maps by key, replace depends whole, and keep the nearest return") {
  const TubeSpec spec = TubeSpec::from_id("testing-extends-main");
  CHECK(spec.id == "testing-extends-main");
  CHECK(spec.extends == std::vector<std::string>{"testing-extends-l1-a", "testing-extends-l1-b"});
  std::vector<std::string> ids;
  for (const NodeSpec& n : spec.nodes) ids.push_back(n.id);
  CHECK(ids == std::vector<std::string>{"a", "b", "c", "d", "l1_a", "l1_b", "e", "return"});
  CHECK(spec.find_node("a")->type == "noob.testing.word_source");
  REQUIRE(spec.find_node("b")->depends.size() == 1);
  CHECK(spec.find_node("b")->depends[0].signal == "word");
  CHECK(spec.find_node("l1_a")->params.at("start") == Value(10));
  CHECK(spec.find_input("l2_b")->type == "int");
  CHECK(spec.find_input("l2_b")->scope == InputScope::process);
}

TEST_CASE("a specification is the same from a file, a text and a map") {
  const Map map{
      {"noob_id", "as-map"},
      {"nodes", Map{{"a", Map{{"type", "noob.testing.count_source"}}},
                    {"b", Map{{"type", "noob.testing.multiply"}, {"depends", List{Map{{"left", "a.index"}}}}}},
                    {"c", Map{{"type", "return"}, {"depends", "b.value"}}}}}};
  SynchronousRunner runner(Tube::from_any(map));
  CHECK(runner.run(3).back() == Value(4));
  SynchronousRunner other(Tube::from_any(
      "tube_id: as-text\nnodes:\n  a: {type: noob.testing.count_source}\n  c: {type: return, depends: a.index}\n"));
  CHECK(other.run(3).back() == Value(2));
}

TEST_CASE("a tube knows its generations, and what is above and below a node") {
  const Tube merge = tube("testing-merge");
  CHECK(merge.generations() == std::vector<std::vector<std::string>>{{"low", "high"}, {"twice"}, {"ratio"}, {"out"}});
  CHECK(merge.upstream("ratio") == std::vector<std::string>{"low", "high", "twice"});
  CHECK(merge.upstream("low").empty());
  CHECK(merge.downstream("low") == std::vector<std::string>{"twice", "ratio", "out"});
  CHECK_THROWS_AS(merge.upstream("none"), Error);
  CHECK(merge.nodes()[2].id == "twice");
  CHECK(tube("testing-map-gather").nodes()[2].below_maps == std::vector<std::string>{"letters"});
}

TEST_CASE("plain scalars have the types of YAML 1.2, quoted ones are text") {
  const TubeSpec spec = TubeSpec::from_any(
      "noob_id: scalars\nnodes:\n  a:\n    type: t\n    params:\n"
      "      i: -12\n      h: 0x1f\n      o: 0o17\n      f: 1.5e3\n      n: ~\n      y: yes\n      t: true\n      q: "
      "\"12\"\n      s: '~'\n"
      "      inf: -.inf\n      v: 1.2.3\n      big: 18446744073709551615\n      d: 1_000\n");
  const Map& p = spec.nodes[0].params;
  CHECK(p.at("i") == Value(-12));
  CHECK(p.at("h") == Value(31));
  CHECK(p.at("o") == Value(15));
  CHECK(p.at("f") == Value(1500.0));
  CHECK(p.at("n").is_none());
  CHECK(p.at("y") == Value("yes"));
  CHECK(p.at("t") == Value(true));
  CHECK(p.at("q") == Value("12"));
  CHECK(p.at("s") == Value("~"));
  CHECK(p.at("inf").to<double>() < 0);
  CHECK(p.at("v") == Value("1.2.3"));
  CHECK(p.at("big") == Value(18446744073709551615ULL));
  CHECK(p.at("d") == Value("1_000"));
}

TEST_CASE("anchors, aliases and merge keys work, and a bomb of aliases is refused") {
  const TubeSpec spec = TubeSpec::from_any(
      "noob_id: anchors\nnodes:\n  a: &source\n    type: noob.testing.count_source\n    params: &p {start: 3}\n"
      "  b:\n    <<: *source\n    params: *p\n");
  CHECK(spec.find_node("b")->type == "noob.testing.count_source");
  CHECK(spec.find_node("b")->params.at("start") == Value(3));
  std::string bomb =
      "noob_id: bomb\nnodes:\n  a:\n    type: t\n    params:\n      l0: &l0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n";
  for (int i = 1; i < 10; ++i) {
    bomb += "      l" + std::to_string(i) + ": &l" + std::to_string(i) + " [";
    for (int k = 0; k < 10; ++k) bomb += (k ? ", *l" : "*l") + std::to_string(i - 1);
    bomb += "]\n";
  }
  CHECK_THROWS_WITH_AS(TubeSpec::from_any(bomb), doctest::Contains("too large"), SpecError);
  CHECK_THROWS_AS(TubeSpec::from_any("noob_id: deep\nnodes: " + std::string(5000, '[') + "\n"), SpecError);
  CHECK_THROWS_AS(TubeSpec::from_any("noob_id: loop\nnodes: &a\n  x: *a\n"), SpecError);
  CHECK_THROWS_AS(TubeSpec::from_any(std::string("noob_id: nul\0\n", 14)), SpecError);
}

TEST_CASE("a missing tube input stops the building of a tube, before any type is looked at") {
  CHECK_THROWS_WITH_AS(
      Tube::from_any("noob_id: x\ninput:\n  n: {scope: tube, type: int}\nnodes:\n  a: {type: no.such}\n"),
      doctest::Contains("needs the input \"n\" (int), declared at <text>:3:6"), InputMissingError);
  Warnings warnings;
  CHECK_THROWS_AS(tube("testing-inputs", {{"start", 1}, {"irrelevant", 2}}), InputMissingError);
  REQUIRE(warnings.seen.size() == 1);
  CHECK(contains(warnings.seen[0], "irrelevant"));
  CHECK_THROWS_AS(tube("testing-inputs", {{"start", "text"}, {"multiply_tube", 1}}), Error);
  // Given or not, a type that nothing has is the specification's mistake.
  CHECK_THROWS_WITH_AS(Tube::from_any("noob_id: x\ninput:\n  n: {type: itn}\n", {{"n", 1}}),
                       doctest::Contains("<text>:3:6: input.n.type: unknown type \"itn\"; did you mean \"int\""),
                       SpecError);
}
