// The table of tubes and their results, which every runner must give.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include <caller/tube/all.hpp>

namespace tube_cases {

using caller::tube::Map;

struct Case {
  std::string id;                    ///< of a tube in tests/data/tubes
  std::vector<std::string> results;  ///< what process() gives, call by call
  Map inputs = {};                   ///< tube-scoped
  std::function<Map(int)> process_inputs = {};
};

inline std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.id; }

inline std::vector<Case> cases() {
  std::vector<Case> c;
  const auto add = [&](std::string id, std::vector<std::string> results, Map inputs = {},
                       std::function<Map(int)> per_call = {}) {
    c.push_back({"testing-" + id, std::move(results), std::move(inputs), std::move(per_call)});
  };
  add("basic", {"0", "2", "4", "6", "8"});
  add("branch",
      {R"({"multiply": 0, "divide": 0.0})", R"({"multiply": 2, "divide": 0.2})", R"({"multiply": 4, "divide": 0.4})"});
  add("merge", {"0.0", "0.3333333333333333", "0.5714285714285714", "0.75"});
  add("branch-switching", {R"({"fruit": "apple!", "this_or_that": {"this": "apple!"}})",
                           R"({"vegetable": "daikon!!", "this_or_that": {"that": "daikon!!"}})",
                           R"({"mineral": "galaxite!!!", "this_or_that": {"the_other": "galaxite!!!"}})",
                           R"({"fruit": "banana!", "this_or_that": {"this": "banana!"}})"});
  add("gather-n", {"nothing", "nothing", "nothing", "nothing", R"({"word": "abcde"})", "nothing", "nothing", "nothing",
                   "nothing", R"({"word": "fghij"})"});
  add("gather-dependent", {"nothing", "nothing", R"({"word": {"amber": [0, 1, 2]}})", "nothing", "nothing",
                           R"({"word": {"birch": [3, 4, 5]}})"});
  add("gather-flatten",
      {"nothing", R"(["amber", "birch", "cedar", "delta"])", "nothing", R"(["ember", "fjord", "grove", "heath"])"});
  add("multi-signal", {R"({"word": "amber", "count_sum": 346, "counts": [95, 87, 38, 42, 84]})"});
  add("mixed-slot", {"true", "true"});
  add("async", {R"(["a", "b", "c"])", R"(["b", "c", "d"])", R"(["c", "d", "e"])", R"(["d", "e", "f"])"});
  add("kitchen-sink", {R"({"multiply": 0, "divide": 0.0})", R"({"multiply": 2, "divide": 0.16666666666666666})",
                       R"({"multiply": 4, "divide": 0.2857142857142857})", R"({"multiply": 6, "divide": 0.375})",
                       R"({"multiply": 8, "divide": 0.4444444444444444, "gather_n": ["a", "b", "c", "d", "e"]})",
                       R"({"multiply": 10, "divide": 0.5})"});
  add("everything",
      {R"({"multiply": 0, "reword": "a!p!p!l!e!", "pick": {"this": 0, "that": 0.0, "the_other": "a!p!p!l!e!"}})",
       R"({"multiply": 2, "pick": {"this": 2, "that": 0.16666666666666666}})",
       R"({"multiply": 4, "pick": {"this": 4, "that": 0.2857142857142857}})",
       R"({"multiply": 6, "reword": "b!a!n!a!n!a!", "pick": {"this": 6, "that": 0.375, "the_other": "b!a!n!a!n!a!"}})",
       R"({"multiply": 8, "gather_n": ["a", "b", "c", "d", "e"], "pick": {"this": 8, "that": 0.4444444444444444}})"});
  add("map-basic", {R"({"word": "amber", "letter": ["a!", "m!", "b!", "e!", "r!"]})",
                    R"({"word": "birch", "letter": ["b!", "i!", "r!", "c!", "h!"]})"});
  add("map-depends", {R"({"word": "amber", "letters": ["a", "m", "b", "e", "r"], "count": 0})",
                      R"({"word": "birch", "letters": ["b!", "i!", "r!", "c!", "h!"], "count": 1})",
                      R"({"word": "cedar", "letters": ["c!!", "e!!", "d!!", "a!!", "r!!"], "count": 2})"});
  add("map-gather", {R"({"word": "amber", "letter": ["a!", "m!", "b!", "e!", "r!"], "reconstructed": "a!m!b!e!r!"})",
                     R"({"word": "birch", "letter": ["b!", "i!", "r!", "c!", "h!"], "reconstructed": "b!i!r!c!h!"})"});
  add("map-nested",
      {R"({"words": ["amber", "birch", "cedar"], "word": ["amber", "birch", "cedar"], "letter": ["a", "m", "b", "e", "r", "b", "i", "r", "c", "h", "c", "e", "d", "a", "r"]})"});
  add("map-nested-gather",
      {R"({"joined": ["a!m!b!e!r!", "b!i!r!c!h!", "c!e!d!a!r!"], "sentence": ["a!m!b!e!r!", "b!i!r!c!h!", "c!e!d!a!r!"], "length": 3})",
       R"({"joined": ["d!e!l!t!a!", "e!m!b!e!r!", "f!j!o!r!d!"], "sentence": ["d!e!l!t!a!", "e!m!b!e!r!", "f!j!o!r!d!"], "length": 3})"});
  add("map-stateful", {"[0.0, 5.0, 10.0, 15.0, 20.0]", "[25.0, 30.0, 35.0, 40.0, 45.0]"});
  add("map-stateful-deep",
      {"[0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0, 22.0, 24.0, 26.0, 28.0, 30.0, 32.0, 34.0, 36.0, "
       "38.0, 40.0, 42.0, 44.0, 46.0, 48.0, 50.0, 52.0, 54.0, 56.0, 58.0]",
       "[60.0, 62.0, 64.0, 66.0, 68.0, 70.0, 72.0, 74.0, 76.0, 78.0, 80.0, 82.0, 84.0, 86.0, 88.0, 90.0, 92.0, 94.0, "
       "96.0, 98.0, 100.0, 102.0, 104.0, 106.0, 108.0, 110.0, 112.0, 114.0, 116.0, 118.0]"});
  add("inputs", {"1547", "3536", "5967"}, {{"start", 7}, {"multiply_tube", 13}},
      [](int i) { return Map{{"multiply_process", 17 * (i + 1)}}; });
  add("input-optional", {"20", "22"});
  add("input-optional", {"6", "8"}, {{"start", 3}});
  add("input-optional", {"nothing", "nothing"}, {{"return_enabled", false}});
  add("input-asset-params", {"7", "8", "9"}, {{"start", 7}});
  add("runner-asset", {R"({"one": 1, "more": 2})", R"({"one": 3, "more": 6})", R"({"one": 7, "more": 14})"});
  add("process-asset", {R"({"one": 3, "more": 6})", R"({"one": 3, "more": 6})"});
  add("node-asset", {R"({"one": 3, "more": 3})", R"({"one": 3, "more": 3})"});
  add("depends-asset",
      {R"({"a_value": 1, "b_value": 2, "later_value": 3})", R"({"a_value": 3, "b_value": 4, "later_value": 5})",
       R"({"a_value": 5, "b_value": 6, "later_value": 7})"});
  add("depends-asset-multi", {R"({"a": 1, "b": 0})"});
  add("asset-lifecycle", {R"({"node_a": 2, "node_b": 4, "process_a": 2, "process_b": 3, "runner_a": 2})",
                          R"({"node_a": 2, "node_b": 4, "process_a": 2, "process_b": 3, "runner_a": 3})"});
  add("recursive-parent",
      {R"({"index": 3, "child": 45, "parent": 540})", R"({"index": 4, "child": 128, "parent": 1664})"},
      {{"child_start", 1}, {"parent_start", 3}},
      [](int i) { return Map{{"child_multiply", 15 + i}, {"parent_multiply", 12 + i}}; });
  add("recursive-grandparent",
      {R"({"index": 3, "child": 45, "parent": 540})", R"({"index": 4, "child": 128, "parent": 1664})"},
      {{"child_start", 1}, {"parent_start", 3}},
      [](int i) { return Map{{"child_multiply", 15 + i}, {"parent_multiply", 12 + i}}; });
  add("recursive-signals", {R"({"multiply": 0, "divide": 0.0})", R"({"multiply": 4, "divide": 0.04})"});
  add("recursive-sporadic-parent", {"nothing", "nothing", R"({"word": "amber", "doubleword": "amberamber"})", "nothing",
                                    "nothing", R"({"word": "birch", "doubleword": "birchbirch"})"});
  add("stateful",
      {R"({"cls": 5.0, "fn": 5, "chained_cls": 5.0})", R"({"cls": 10.0, "fn": 5, "chained_cls": 20.0})",
       R"({"cls": 15.0, "fn": 5, "chained_cls": 45.0})"},
      {}, [](int) { return Map{{"multiply", 5}}; });
  add("disable-node", {"nothing", "nothing"});
  add("disable-optional", {R"({"either": {"this": 0}})", R"({"either": {"this": 1}})"});
  add("disable-return", {"nothing", "nothing"});
  add("count-init", {R"({"inits": 1, "deinits": 0})", R"({"inits": 1, "deinits": 0})"});
  add("short-source", {"0", "1", "2"});
  add("passthrough", {R"([0, ["a", 0], {"key": "a"}])", R"([1, ["b", 1], {"key": "b"}])"});
  add("return-both", {R"([[0], {"letter": "a"}])"});
  add("epochs", {R"({"epoch": "0"})", R"({"epoch": "1"})"});
  add("extends-main",
      {R"({"a": "amber", "b": ["amber", [], {}], "c": 0, "d": [0, [], {}], "e": [10, [], {"l1_b": 0, "l2_a": "x", "l2_b": 7}]})"},
      {}, [](int) { return Map{{"l2_a", "x"}, {"l2_b", 7}, {"l1_a", ""}, {"l1_b", ""}, {"main", ""}}; });
  return c;
}

}  // namespace tube_cases
