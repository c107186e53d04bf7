// Exceptions of cells as Jupyter shows them. Needs run-time type information, unlike most of this folder.
#include "exceptions.hpp"

#include <cxxabi.h>

#include <exception>
#include <string>
#include <typeinfo>
#include <utility>

#include <caller/kernel/interrupted.hpp>
#include <caller/kernel/values.hpp>

#include "faults.hpp"

namespace caller::kernel {
namespace {

struct Described {
  std::string type, text;
  std::vector<const void*> frames{};  // where it was thrown, if that is known
};

template <class E>
void nested(const E& e, std::vector<Described>& out, const faults::Fault*& fault);

void describe_one(std::vector<Described>& out, const faults::Fault*& fault) {
  const auto type_in_flight = [] {
    const std::type_info* t = abi::__cxa_current_exception_type();
    return t ? detail::demangle_clean(t->name()) : std::string("unknown exception");
  };
  try {
    throw;
  } catch (const faults::CellFault& e) {
    out.push_back({e.fault().name, e.fault().text});
    fault = &e.fault();
  } catch (const Interrupted&) {
    out.push_back({"KeyboardInterrupt", ""});
  } catch (const std::exception& e) {
    out.push_back({detail::demangle_clean(typeid(e).name()), e.what()});
    nested(e, out, fault);
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
    nested(e, out, fault);
  } catch (...) {
    out.push_back({type_in_flight(), ""});
  }
}

void describe(std::vector<Described>& out, const faults::Fault*& fault) {
  const std::size_t at = out.size();
  auto frames = faults::thrown_at(std::current_exception());
  describe_one(out, fault);
  if (fault && at + 1 == out.size()) frames = fault->frames;
  out[at].frames = std::move(frames);
}

template <class E>
void nested(const E& e, std::vector<Described>& out, const faults::Fault*& fault) {
  if (out.size() > 32) return;  // a chain that bites its tail
  // rethrow_if_nested ends the process where nothing was in flight when throw_with_nested was called.
  const auto* with = dynamic_cast<const std::nested_exception*>(&e);
  if (!with || !with->nested_ptr()) return;
  try {
    with->rethrow_nested();
  } catch (...) {
    describe(out, fault);
  }
}

std::string text_of(const Place& p) {
  return p.cell + ", line " + std::to_string(p.line) + (p.function.empty() ? "" : ", in " + p.function);
}

/// The calls of cells, outermost first; of a long recursion the two ends.
std::vector<std::string> stack_of(const std::vector<Place>& places) {
  constexpr std::size_t kInner = 12, kOuter = 4;
  std::vector<std::string> out;
  for (std::size_t i = places.size(); i-- > 0;) {
    if (places.size() > kInner + kOuter + 1 && i == places.size() - 1 - kOuter) {
      out.push_back("  … " + std::to_string(i + 1 - kInner) + " more calls");
      i = kInner;
      continue;
    }
    out.push_back("  " + text_of(places[i]));
  }
  return out;
}

std::vector<Place> places_of(const std::vector<const void*>& frames, const Locate& locate) {
  std::vector<Place> out;
  if (!locate) return out;
  for (const void* frame : frames)
    for (auto& place : locate(frame)) out.push_back(std::move(place));
  return out;
}

}  // namespace

CellError describe_exception(int cell_number, const Locate& locate) {
  std::vector<Described> chain;
  const faults::Fault* fault = nullptr;
  describe(chain, fault);
  CellError out;
  // std::throw_with_nested wraps the type in a local one; what was thrown is its argument.
  for (auto& d : chain)
    if (const std::string wrap = "std::_Nested_exception<"; d.type.rfind(wrap, 0) == 0 && d.type.back() == '>')
      d.type = d.type.substr(wrap.size(), d.type.size() - wrap.size() - 1);
  out.ename = chain.front().type;
  out.evalue = chain.front().text;
  // What a library of the program's throws in place of a cell's exception has no lines itself; its cause has.
  std::vector<Place> places;
  for (const Described& d : chain)
    if (places.empty()) places = places_of(d.frames, locate);
  if (fault && !places.empty()) out.evalue += " (" + text_of(places.front()) + ")";
  const std::string red = "\033[0;31m", plain = "\033[0m";
  out.traceback.push_back("Cell [" + std::to_string(cell_number) + "]:");
  for (auto& line : stack_of(places)) out.traceback.push_back(std::move(line));
  for (std::size_t i = 0; i < chain.size(); ++i)
    out.traceback.push_back((i ? "caused by " : "") + red + chain[i].type + plain +
                            (chain[i].text.empty() ? "" : ": " + chain[i].text));
  if (fault && !fault->damage.empty())
    out.traceback.push_back("The session goes on. Possibly damaged: " + fault->damage);
  return out;
}

}  // namespace caller::kernel
