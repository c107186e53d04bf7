#include <uv.h>

#include <caller/all.hpp>
#include <caller/uv.hpp>

int main() {
  caller::Caller worker(caller::new_thread, {.name = "worker"});
  const bool same = worker.call_soon([] { return uv_loop_alive(caller::uv_loop()) >= 0; }).wait();
  return same ? 0 : 1;
}
