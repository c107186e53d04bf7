// Arguments are kept as values.
#include <caller/all.hpp>
#include <memory>

void f(const caller::Caller& c, std::unique_ptr<int>& p) {
  c.call_soon([](std::unique_ptr<int>) {}, p);
}
