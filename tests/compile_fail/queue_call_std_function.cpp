// Two std::functions cannot be told apart: the lane needs a key.
#include <caller/all.hpp>

void f(const caller::Caller& c, std::function<void(int)> g) { c.queue_call(g, 1); }
