#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "interpreter/compiler.hpp"
#include "interpreter/factory.hpp"
#include "interpreter/prelude.hpp"

using namespace caller::kernel;

namespace {

Compilation compiled(Compiler& compiler, unsigned number, const std::string& code) {
  CompileRequest request;
  request.unit = request.number = number;
  request.code = code;
  request.optimisation = 2;
  request.quick = true;
  return compiler.compile(request);
}

}  // namespace

TEST_CASE("a later cell inlines what an earlier one has read out of the prelude") {
  const Prelude prelude = find_prelude({});
  std::vector<std::string> args = prelude.args;
  for (const char* flag : kCellFlags) args.emplace_back(flag);
  args.insert(args.end(), {"-include-pch", prelude.pch});
  Compiler compiler(args);
  const char* code =
      "int before(const std::vector<std::string>& v) { int n = 0; for (auto& s : v) n += s < v[0]; return n; }";
  REQUIRE(compiled(compiler, 1, "bool less = std::string(\"a\") < std::string(\"b\");").ok);
  const Compilation later = compiled(compiler, 2, code);
  REQUIRE(later.ok);
  Compiler fresh(args);
  const Compilation first = compiled(fresh, 2, code);
  REQUIRE(first.ok);
  // The first cell also begins what the headers begin, so it wants more; but no other function.
  CHECK(std::includes(first.wanted.begin(), first.wanted.end(), later.wanted.begin(), later.wanted.end()));
  CHECK(std::find(later.wanted.begin(), later.wanted.end(), "memcmp") != later.wanted.end());
}
