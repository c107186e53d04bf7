// A call makes the coroutine itself, in its turn.
#include <caller/all.hpp>

caller::Coro<int> work(int n) { co_return n; }
void f(const caller::Caller& c) { c.call_soon(work(1)); }
