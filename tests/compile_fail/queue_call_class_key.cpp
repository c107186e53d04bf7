// Only the type of such a key could tell lanes apart.
#include <caller/all.hpp>

void g(int);
void f(const caller::Caller& c) { c.queue_call(std::pair(1, 2), &g, 1); }
