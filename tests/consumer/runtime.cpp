#include <caller/all.hpp>

int main() {
  caller::Caller worker(caller::new_thread, {.name = "worker"});
  const int sum = worker.call_soon([](int a, int b) { return a + b; }, 1, 2).wait();
  worker.stop();
  return sum == 3 ? 0 : 1;
}
