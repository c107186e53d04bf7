// As call_direct.
#include <caller/all.hpp>

void f(const caller::Caller& c) {
  c.post([]() -> caller::Coro<void> { co_return; });
}
