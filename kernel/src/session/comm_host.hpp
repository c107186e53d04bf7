// The comms of cells, on their way to the client and back.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include <caller/kernel/comm_host.hpp>

#include "session/session.hpp"
#include "xeus/face.hpp"

namespace caller::kernel {

/// Publishes for caller::Comm and hands its messages over; xeus' manager knows its comms, too.
///
/// Thread-safety: any thread.
/// Errors: publish: std::invalid_argument for what is no JSON.
/// Source: ipykernel CommManager.
class SessionComms final : public CommHost {
public:
  SessionComms(Session& session, XeusFace& face, std::function<void()> settle);
  ~SessionComms() override;

  /// The work of a comm message; none: it is not for caller::Comm.
  static std::optional<CommCall> call(const Message& request);

  std::string new_id() override;
  std::string request_id() override;
  void publish(CommKind kind, const std::string& id, const std::string& target, const CommMessage& message) override;
  void added(const std::string& id, const std::string& target) override;
  void removed(const std::string& id) override;

private:
  Session& session_;
  XeusFace& face_;
  std::function<void()> settle_;
};

}  // namespace caller::kernel
