// Functions of libc that would end the whole process, seen first by everything in it: called by a cell they end the
// cell. And the start of threads: one that a cell starts ends alone when it faults or an exception leaves it.
#include <cxxabi.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <memory>

#include "faults_of_threads.hpp"
#include "next.hpp"

namespace {

namespace faults = caller::kernel::faults;
using caller::kernel::Next;

constinit Next<int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)> next_pthread_create("pthread_create");
constinit Next<void(int)> next_exit("exit"), next_exit_at_once("_exit"), next_exit_at_once_too("_Exit"),
    next_quick_exit("quick_exit");
constinit Next<void(const char*, const char*, unsigned, const char*)> next_assert_fail("__assert_fail");
[[gnu::constructor]] void find_all() {
  (void)*next_pthread_create;
  for (auto* const next : {&next_exit, &next_exit_at_once, &next_exit_at_once_too, &next_quick_exit}) (void)**next;
  (void)*next_assert_fail;
}

struct Start {
  void* (*function)(void*);
  void* argument;
  std::shared_ptr<void> origin;
  void* result = nullptr;
};

void tell(const std::shared_ptr<void>& origin, const std::exception_ptr& error) noexcept {
  if (faults::Host* host = faults::host()) host->thread_failed(origin, error);
}

void* run_thread(void* raw) {
  const std::unique_ptr<Start> start(static_cast<Start*>(raw));
  try {
    const auto fault = faults::guard(
        [](void* s) {
          auto& it = *static_cast<Start*>(s);
          it.result = it.function(it.argument);
        },
        start.get());
    if (fault) tell(start->origin, std::make_exception_ptr(faults::CellFault(fault)));
  } catch (abi::__forced_unwind&) {  // pthread_exit, pthread_cancel
    throw;
  } catch (...) {  // what would be std::terminate
    tell(start->origin, std::current_exception());
  }
  return start->result;
}

}  // namespace

extern "C" {

CALLER_API int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*function)(void*),
                              void* argument) {
  auto* const real = *next_pthread_create;
  if (!faults::in_cell()) return real(thread, attributes, function, argument);
  faults::Host* const host = faults::host();
  auto start = std::make_unique<Start>(Start{function, argument, host ? host->origin() : nullptr});
  const int result = real(thread, attributes, &run_thread, start.get());
  if (result == 0) (void)start.release();
  return result;
}

CALLER_API void exit(int status) {
  faults::exit_called("exit", status);
  auto* const real = *next_exit;
  real(status);
  __builtin_unreachable();
}

CALLER_API void _exit(int status) {
  faults::exit_called("_exit", status);
  auto* const real = *next_exit_at_once;
  real(status);
  __builtin_unreachable();
}

CALLER_API void _Exit(int status) {
  faults::exit_called("_Exit", status);
  auto* const real = *next_exit_at_once_too;
  real(status);
  __builtin_unreachable();
}

CALLER_API void quick_exit(int status) {
  faults::exit_called("quick_exit", status);
  auto* const real = *next_quick_exit;
  real(status);
  __builtin_unreachable();
}

CALLER_API void __assert_fail(const char* expression, const char* file, unsigned line, const char* function) {
  char text[400];
  std::snprintf(text, sizeof text, "%s:%u: %s: Assertion `%s' failed.", file ? file : "?", line,
                function ? function : "?", expression ? expression : "?");
  faults::assertion_failed(text);
  auto* const real = *next_assert_fail;
  real(expression, file, line, function);
  __builtin_unreachable();
}

}  // extern "C"
