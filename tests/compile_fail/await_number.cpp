// Nothing to await.
#include <caller/all.hpp>

caller::Coro<void> f() { co_await 5; }
