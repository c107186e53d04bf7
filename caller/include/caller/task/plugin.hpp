// Libraries of tasks, which programs load when they run: `caller runner start --app libtasks.so`.
//
//   #include <caller/task/all.hpp>
//   CALLER_TASKS(app) {
//     app.task("demo.add", [](int x, int y) { return x + y; }, {"x", "y"});
//   }
#pragma once

#include <caller/task/app.hpp>

/// Begins the function that registers a library's tasks on the application `app`. There is one in a library.
/// Thread-safety: called in the thread that loads the library. Errors: what it throws arrives at App::load().
/// Source: pynenc's import of a task's module.
#define CALLER_TASKS(app) extern "C" __attribute__((visibility("default"))) void caller_tasks(caller::task::App& app)
