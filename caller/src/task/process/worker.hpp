// What the process of a worker is to the rest of the module.
#pragma once

#include <memory>
#include <string_view>

#include <caller/task/store.hpp>

namespace caller::task::detail {

/// The argument that makes a program a worker; the application's name follows.
inline constexpr std::string_view kWorkerArgument = "--caller-task-worker=";

/// In a process that executes for a runner of the application: that runner's store, as seen from here. Else null.
std::shared_ptr<Store> store_in_worker(std::string_view app_id);

}  // namespace caller::task::detail
