// A Coro is awaited once.
#include <caller/all.hpp>

caller::Coro<void> f(caller::Coro<int> c) { co_await c; }
