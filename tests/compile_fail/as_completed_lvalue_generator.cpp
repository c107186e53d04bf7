// A generator is consumed.
#include <caller/all.hpp>

void f(const caller::Caller& c, caller::Generator<caller::Pending<int>>& g) { auto s = c.as_completed(g); }
