#include <caller/monitor/monitor.hpp>
#include <caller/task/all.hpp>

int main() {
  caller::task::App app = caller::task::AppBuilder{}.app_id("consumer").build();
  caller::monitor::Monitor monitor(app, {.port = 0});
  return monitor.url().starts_with("http://127.0.0.1:") ? 0 : 1;
}
