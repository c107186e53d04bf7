#include "session/session.hpp"

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <utility>

#include <caller/pending.hpp>

#include "protocol/log.hpp"
#include "session/line_hold.hpp"

namespace caller::kernel {
namespace {

thread_local std::optional<std::string> shell_of_thread;  // whose cell ran on it last

}  // namespace

std::string user_name() {
  for (const char* name : {"LOGNAME", "USER", "USERNAME"})
    if (const char* value = std::getenv(name); value && *value) return value;
  const passwd* entry = ::getpwuid(::geteuid());
  return entry ? entry->pw_name : "user";
}

Session::Session(ConnectionInfo connection, const Options& options, Handlers handlers)
    : connection_(std::move(connection)),
      handlers_(std::move(handlers)),
      wire_(connection_.key, user_name()),
      iopub_([this](const std::string& type, const Request& parent, const json& content, const json& metadata,
                    Frames buffers) { emit(type, parent, content, metadata, std::move(buffers)); }),
      input_([this](const Request& parent, const json& content) {
        std::string id;
        io_->send(Channel::input,
                  wire_.encode(parent->idents, "input_request", parent, content, json::object(), {}, &id));
        return id;
      }),
      history_(options.history_path) {
  ZmqIo::Handlers io;
  io.received = [this](Channel channel, Frames frames) { received(channel, std::move(frames)); };
  io.welcome = [this](const std::string& topic) {
    return wire_.encode({topic}, "iopub_welcome", nullptr, {{"subscription", topic}});
  };
  io.parent_died = [this] {
    if (handlers_.parent_died) handlers_.parent_died();
  };
  io_ = std::make_unique<ZmqIo>(connection_, std::move(io), options.watch_pid);
}

Session::~Session() { stop(); }

void Session::start() {
  iopub_.start();
  iopub_.publish("status", nullptr, {{"execution_state", "starting"}});
  io_->start();
}

void Session::stop() {
  const std::lock_guard lock(stop_mutex_);  // two threads may end the kernel; the second waits for the first
  input_.cancel_all();
  iopub_.stop();
  if (io_) io_->stop();
}

void Session::received(Channel channel, Frames frames) {
  auto result = wire_.decode(std::move(frames), channel);
  if (const Dropped* dropped = std::get_if<Dropped>(&result)) {
    log(LogLevel::warning, "message on " + std::string(channel_name(channel)) + " dropped: " + dropped->reason);
    return;
  }
  auto request = std::make_shared<const Message>(std::get<Message>(std::move(result)));
  if (channel != Channel::input) return handlers_.request(std::move(request));
  if (!request->fault.empty() || request->type() != "input_reply" || !input_.reply(*request))
    log(LogLevel::info, "stdin: nobody waits for this " + request->type());
}

void Session::emit(const std::string& type, const Request& parent, const json& content, const json& metadata,
                   Frames buffers) {
  std::string topic = "kernel." + wire_.session() + "." + type;
  if (type == "stream") topic = "stream." + field<std::string>(content, "name", "");
  io_->send(Channel::iopub, wire_.encode({std::move(topic)}, type, parent, content, metadata, std::move(buffers)));
}

void Session::reply(const Request& request, const json& content, const json& metadata) {
  std::string type = request->type();
  if (const auto at = type.rfind("_request"); at != std::string::npos) type.replace(at, std::string::npos, "_reply");
  io_->send(request->channel, wire_.encode(request->idents, type, request, content, metadata));
}

void Session::publish(const std::string& type, const json& content, const json& metadata, Frames buffers) {
  LineHold::flush();  // what the thread has printed before
  const WorkPtr work = work_or_newest();
  iopub_.publish(type, work ? work->request : nullptr, content, metadata, std::move(buffers));
}

bool Session::write(StreamName name, std::string_view text) {
  const WorkPtr work = work_or_newest();
  if (work) iopub_.stream(work->request, name, text);
  return work != nullptr;
}

bool Session::write_as_newest(StreamName name, std::string_view text) {
  const WorkPtr work = newest();
  if (work) iopub_.stream(work->request, name, text);
  return work != nullptr;
}

std::string Session::ask(const std::string& prompt, bool password) {
  LineHold::flush();
  const WorkPtr work = work_or_newest();
  const Request request = work ? work->request : nullptr;
  if (request) iopub_.flush(request);  // text before the question
  Pending<std::string> answer;
  input_.ask(request, prompt, password, [answer](std::optional<std::string> value) {
    if (value)
      answer.set_result(std::move(*value));
    else
      answer.set_exception(KernelError(KernelErrc::input_cancelled, "the wait for input was interrupted"));
  });
  try {
    return answer.wait();
  } catch (const KernelError&) {
    throw;
  } catch (...) {
    input_.cancel(request);  // the waiting work is cancelled: nobody wants the answer any more
    throw;
  }
}

WorkPtr Session::work_or_newest() {
  if (WorkPtr work = current_work()) return work;
  if (!shell_of_thread) return newest();
  const std::lock_guard lock(newest_mutex_);
  const auto it = newest_of_shell_.find(*shell_of_thread);
  return it == newest_of_shell_.end() ? newest_ : it->second;
}

WorkPtr Session::newest() {
  const std::lock_guard lock(newest_mutex_);
  return newest_;
}

void Session::set_newest(const WorkPtr& work) {
  shell_of_thread = work->request->subshell();
  if (work->silent) return;
  const std::lock_guard lock(newest_mutex_);
  newest_ = newest_of_shell_[*shell_of_thread] = work;
}

void Session::forget_shell(const std::string& id) {
  const std::lock_guard lock(newest_mutex_);
  newest_of_shell_.erase(id);
}

}  // namespace caller::kernel
