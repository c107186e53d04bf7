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
  REQUIRE(compiled(compiler, 1, "bool less = std::string(\"a\") < std::string(\"b\");").ok);
  const Compilation later = compiled(
      compiler, 2,
      "int before(const std::vector<std::string>& v) { int n = 0; for (auto& s : v) n += s < v[0]; return n; }");
  REQUIRE(later.ok);
  // operator<=> of strings, which is no member
  CHECK(
      std::none_of(later.wanted.begin(), later.wanted.end(), [](auto& name) { return name.starts_with("_ZStssIc"); }));
}
