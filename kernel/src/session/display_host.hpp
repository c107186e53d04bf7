// What cells show and ask, on its way to the client.
#pragma once

#include <caller/kernel/display_host.hpp>

#include "session/session.hpp"

namespace caller::kernel {

/// Publishes under the running code's request; the result of a user expression is kept instead.
///
/// Thread-safety: any thread.
/// Errors: input: as Session::ask. The rest: none.
/// Source: IPython DisplayPublisher and DisplayHook.
class SessionDisplay final : public DisplayHost {
public:
  explicit SessionDisplay(Session& session, std::function<void()> settle)
      : session_(session), settle_(std::move(settle)) {
    set_display_host(this);
  }
  ~SessionDisplay() override { set_display_host(nullptr); }

  void result(const MimeBundle& data, const MimeBundle& metadata) override;
  void display(const MimeBundle& data, const MimeBundle& metadata, const std::string& display_id, bool update) override;
  void clear_output(bool wait) override;
  std::string input(const std::string& prompt, bool password) override { return session_.ask(prompt, password); }

private:
  Session& session_;
  std::function<void()> settle_;
};

}  // namespace caller::kernel
