// Exceptions of cells as Jupyter shows them. Needs run-time type information, unlike most of this folder.
#include "exceptions.hpp"

#include <cxxabi.h>

#include <exception>
#include <string>
#include <typeinfo>

#include <caller/kernel/interrupted.hpp>
#include <caller/kernel/values.hpp>

namespace caller::kernel {
namespace {

struct Described {
  std::string type, text;
};

template <class E>
void nested(const E& e, std::vector<Described>& out);

void describe(std::vector<Described>& out) {
  const auto type_in_flight = [] {
    const std::type_info* t = abi::__cxa_current_exception_type();
    return t ? detail::demangle_clean(t->name()) : std::string("unknown exception");
  };
  try {
    throw;
  } catch (const Interrupted&) {
    out.push_back({"KeyboardInterrupt", ""});
  } catch (const std::exception& e) {
    out.push_back({detail::demangle_clean(typeid(e).name()), e.what()});
    nested(e, out);
  } catch (const std::string& s) {
    out.push_back({"std::string", s});
  } catch (const char* s) {
    out.push_back({"const char*", s ? s : ""});
  } catch (int i) {
    out.push_back({"int", std::to_string(i)});
  } catch (long i) {
    out.push_back({"long", std::to_string(i)});
  } catch (double d) {
    out.push_back({"double", repr(d)});
  } catch (const std::nested_exception& e) {
    out.push_back({type_in_flight(), ""});
    nested(e, out);
  } catch (...) {
    out.push_back({type_in_flight(), ""});
  }
}

template <class E>
void nested(const E& e, std::vector<Described>& out) {
  if (out.size() > 32) return;  // a chain that bites its tail
  try {
    std::rethrow_if_nested(e);
  } catch (...) {
    describe(out);
  }
}

}  // namespace

CellError describe_exception(int cell_number) {
  std::vector<Described> chain;
  describe(chain);
  CellError out;
  // std::throw_with_nested wraps the type in a local one; what was thrown is its argument.
  for (auto& d : chain)
    if (const std::string wrap = "std::_Nested_exception<"; d.type.rfind(wrap, 0) == 0 && d.type.back() == '>')
      d.type = d.type.substr(wrap.size(), d.type.size() - wrap.size() - 1);
  out.ename = chain.front().type;
  out.evalue = chain.front().text;
  const std::string red = "\033[0;31m", plain = "\033[0m";
  out.traceback.push_back("Cell [" + std::to_string(cell_number) + "]:");
  for (std::size_t i = 0; i < chain.size(); ++i)
    out.traceback.push_back((i ? "caused by " : "") + red + chain[i].type + plain +
                            (chain[i].text.empty() ? "" : ": " + chain[i].text));
  return out;
}

}  // namespace caller::kernel
