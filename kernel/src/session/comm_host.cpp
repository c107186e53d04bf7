#include "session/comm_host.hpp"

#include <stdexcept>
#include <utility>

#include <caller/caller.hpp>
#include <caller/kernel/widget_host.hpp>

#include "protocol/json_text.hpp"
#include "protocol/wire.hpp"

namespace caller::kernel {
namespace {

json parsed(const std::string& text, const char* what, bool object) {
  if (nested_too_deep(text))
    throw std::invalid_argument(std::string("comm: the ") + what + " is nested deeper than " +
                                std::to_string(kDeepestJson) + " levels");
  json out = parse_json(text);
  if (out.is_discarded() || (object && !out.is_object()))
    throw std::invalid_argument(std::string("comm: the ") + what + (object ? " is no JSON object: " : " is no JSON: ") +
                                text.substr(0, 200));
  return out;
}

// What somebody calls by xeus' means runs where they are, or, if it awaits, after them.
void run(std::optional<CommCall> call) {
  if (!call) return;
  if (call->plain) call->plain();
  if (call->awaiting) (void)Caller::current().call_soon(std::move(call->awaiting));
}

}  // namespace

SessionComms::SessionComms(Session& session, XeusFace& face, std::function<void()> settle)
    : session_(session), face_(face), settle_(std::move(settle)) {
  set_comm_host(this);
  serve_widgets();
}

SessionComms::~SessionComms() { set_comm_host(nullptr); }

std::optional<CommCall> SessionComms::call(const Message& request) {
  const std::string type = request.type();
  const CommKind kind = type == "comm_open" ? CommKind::open : type == "comm_msg" ? CommKind::message : CommKind::close;
  CommMessage message{field<json>(request.content, "data", json::object()).dump(), request.metadata.dump(),
                      request.buffers};
  return comm_call(kind, field<std::string>(request.content, "comm_id", ""),
                   field<std::string>(request.content, "target_name", ""), std::move(message));
}

std::string SessionComms::new_id() { return kernel::new_id(); }

std::string SessionComms::request_id() {
  const WorkPtr work = session_.work_or_newest();
  return work && work->request ? work->request->id() : std::string();
}

void SessionComms::publish(CommKind kind, const std::string& id, const std::string& target,
                           const CommMessage& message) {
  json content = {{"comm_id", id}, {"data", parsed(message.data, "data", false)}};
  const json metadata = parsed(message.metadata, "metadata", true);
  if (kind == CommKind::open) {
    content["target_name"] = target;
    content["target_module"] = nullptr;
  }
  if (settle_) settle_();
  session_.publish(kind == CommKind::open      ? "comm_open"
                   : kind == CommKind::message ? "comm_msg"
                                               : "comm_close",
                   content, metadata, message.buffers);
}

void SessionComms::added(const std::string& id, const std::string& target) {
  face_.add(
      id, target,
      [id](const std::string& data, const std::string& metadata, Frames buffers) {
        run(comm_call(CommKind::message, id, "", {data, metadata, std::move(buffers)}));
      },
      [id](const std::string& data, const std::string& metadata, Frames buffers) {
        run(comm_call(CommKind::close, id, "", {data, metadata, std::move(buffers)}));
      });
}

void SessionComms::removed(const std::string& id) { face_.remove(id); }

}  // namespace caller::kernel
