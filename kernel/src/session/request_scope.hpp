// The one place that says busy, reply and idle.
#pragma once

#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "session/session.hpp"

namespace caller::kernel {

/// `{status: error, ename, evalue, traceback}`.
json error_content(const std::string& ename, const std::string& evalue, const std::vector<std::string>& traceback = {});

/// The same for the exception in flight; called inside a catch block.
json error_content_of_current();

/// A request being served: publishes busy when made and idle, always last, when destroyed. While it lives, the running
/// code has the request as its work.
///
/// A request that expects a reply and got none when the scope ends is answered by an error.
///
/// Thread-safety: one thread or coroutine.
/// Errors: reply: none; a second one is dropped and logged.
/// Source: ipykernel `dispatch_shell`; differs: idle cannot be forgotten, concurrent requests do not mix.
class RequestScope {
public:
  /// Called before idle: everything written so far to descriptors must be on its way.
  using Settle = std::function<void()>;

  RequestScope(Session& session, Request request, Settle settle = {});
  ~RequestScope();
  RequestScope(const RequestScope&) = delete;
  RequestScope& operator=(const RequestScope&) = delete;

  const Request& request() const noexcept { return work_->request; }
  const json& content() const noexcept { return work_->request->content; }
  const WorkPtr& work() const noexcept { return work_; }
  void reply(const json& content, const json& metadata = json::object());
  bool replied() const noexcept { return replied_; }
  /// No reply is expected: comm messages and unknown types.
  void expect_no_reply() noexcept { replied_ = true; }

private:
  Session& session_;
  WorkPtr work_;
  Settle settle_;
  ContextVar<WorkPtr>::Scope context_;
  bool replied_ = false;
};

}  // namespace caller::kernel
