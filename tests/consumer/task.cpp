#include <caller/task/all.hpp>

int main() {
  caller::task::App app = caller::task::AppBuilder{}.app_id("consumer").build();
  auto add = app.task("consumer.add", [](int x, int y) { return x + y; }, {"x", "y"});
  auto runner = app.thread_runner();
  runner->start();
  const int sum = add(1, 2).result();
  runner->stop();
  return sum == 3 ? 0 : 1;
}
