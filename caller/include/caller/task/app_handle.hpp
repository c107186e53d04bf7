// What handles on an application are made of.
#pragma once

#include <memory>
#include <utility>

#include <caller/export.hpp>

namespace caller::task::detail {

class AppCore;
using AppPtr = std::shared_ptr<AppCore>;

/// While one lives, handles that this thread copies do not keep that application: the copies become its own. A closure
/// that has captured constants is copied also where it is moved.
class CALLER_API AppKeeps {
public:
  explicit AppKeeps(const AppPtr& app) noexcept : AppKeeps(app.get()) {}
  explicit AppKeeps(const AppCore* app) noexcept;
  ~AppKeeps();
  AppKeeps(const AppKeeps&) = delete;
  AppKeeps& operator=(const AppKeeps&) = delete;

private:
  const AppCore* before_;
};
CALLER_API bool app_keeps(const AppCore* app) noexcept;
[[noreturn]] CALLER_API void throw_app_gone();

/// Keeps its application, unless the application keeps it: tasks capture the application and other tasks, and would
/// keep all of them for ever. A copy of one that does not keep it does; so whoever runs such a task's code may copy.
class AppHandle {
public:
  AppHandle(AppPtr app) noexcept : app_(std::move(app)) {}
  AppHandle(const AppHandle& o) : app_(o.get()) {
    if (!app_keeps(app_.get())) return;
    kept_ = app_;
    app_.reset();
  }
  AppHandle(AppHandle&&) noexcept = default;
  AppHandle& operator=(const AppHandle& o) { return *this = AppHandle(o); }
  AppHandle& operator=(AppHandle&&) noexcept = default;
  ~AppHandle() = default;

  /// Errors: TaskError when the application that kept this handle is gone.
  AppPtr get() const {
    if (app_) return app_;
    AppPtr app = kept_.lock();
    if (!app) throw_app_gone();
    return app;
  }
  operator AppPtr() const { return get(); }
  AppCore& operator*() const { return app_ ? *app_ : *get(); }
  AppCore* operator->() const { return &**this; }
  bool keeps() const noexcept { return app_ != nullptr; }

private:
  AppPtr app_;
  std::weak_ptr<AppCore> kept_;
};

}  // namespace caller::task::detail
