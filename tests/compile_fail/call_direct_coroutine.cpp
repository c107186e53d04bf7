// call_direct runs inline in the scheduler: what can suspend would block every other call.
#include <caller/all.hpp>

void f(const caller::Caller& c) {
  c.call_direct([]() -> caller::Coro<void> { co_return; });
}
