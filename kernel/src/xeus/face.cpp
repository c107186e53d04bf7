#include "xeus/face.hpp"

#include <atomic>
#include <iostream>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <xeus/xcomm.hpp>
#include <xeus/xhistory_manager.hpp>
#include <xeus/xinterpreter.hpp>
#include <xeus/xkernel.hpp>
#include <xeus/xserver.hpp>

#include "interpreter/faults.hpp"
#include "protocol/log.hpp"

namespace caller::kernel {
namespace {

// Requests reach the dispatcher, never these: xeus asks for them only where a library calls its interpreter directly.
class Interpreter final : public xeus::xinterpreter {
public:
  explicit Interpreter(XeusFace::KernelInfo info) : info_(std::move(info)) {
    xeus::register_interpreter(this);  // where libraries find their comm manager
  }

private:
  static json refuse(const char* what) {
    return {{"status", "error"},
            {"ename", "InternalError"},
            {"evalue", std::string(what) + " is served by the kernel's dispatcher"},
            {"traceback", json::array()}};
  }
  void configure_impl() override {}
  json execute_request_impl(int, const std::string&, bool, bool, json, bool) override {
    return refuse("execute_request");
  }
  json complete_request_impl(const std::string&, int) override { return refuse("complete_request"); }
  json inspect_request_impl(const std::string&, int, int) override { return refuse("inspect_request"); }
  json is_complete_request_impl(const std::string&) override { return refuse("is_complete_request"); }
  json kernel_info_request_impl() override { return info_(); }
  void shutdown_request_impl() override {}

  XeusFace::KernelInfo info_;
};

constexpr std::size_t kLongestId = 55;  // what a xeus::xguid holds

class Messenger final : public xeus::xcontrol_messenger {
  json send_to_shell_impl(const json&) override { return json::object(); }
};

Frames to_frames(const xeus::buffer_sequence& buffers) {
  Frames out;
  for (const auto& b : buffers) out.emplace_back(b.begin(), b.end());
  return out;
}

xeus::buffer_sequence to_buffers(const Frames& frames) {
  xeus::buffer_sequence out;
  for (const auto& f : frames) out.emplace_back(f.begin(), f.end());
  return out;
}

class Server final : public xeus::xserver {
public:
  explicit Server(XeusFace::Publish* publish) : publish_(publish) {}

private:
  xeus::xcontrol_messenger& get_control_messenger_impl() override { return messenger_; }
  void send_shell_impl(xeus::xmessage) override {}
  void send_control_impl(xeus::xmessage) override {}
  void send_stdin_impl(xeus::xmessage) override {}
  void publish_impl(xeus::xpub_message message, xeus::channel) override {
    const auto type = field<std::string>(message.header(), "msg_type", "");
    if (type == "status") return;  // the dispatcher's business
    json content = message.content();
    if (type == "comm_close")
      content = {{"comm_id", field<std::string>(content, "comm_id", "")},
                 {"data", field<json>(content, "data", json::object())}};
    (*publish_)(type, content, message.metadata(), to_frames(message.buffers()));
  }
  void start_impl(xeus::xpub_message) override {}
  void abort_queue_impl(const listener&, long) override {}
  void stop_impl() override {}
  void update_config_impl(xeus::xconfiguration&) const override {}

  XeusFace::Publish* publish_;
  Messenger messenger_;
};

// The builder is a plain function pointer, so what it needs waits here while the kernel is composed.
XeusFace::Publish* g_publish = nullptr;

std::unique_ptr<xeus::xserver> make_server(xeus::xcontext&, const xeus::xconfiguration&, json::error_handler_t) {
  return std::make_unique<Server>(g_publish);
}

}  // namespace

struct XeusFace::State {
  Publish publish;
  Interpreter* interpreter = nullptr;
  std::unique_ptr<xeus::xkernel> kernel;
  mutable std::recursive_mutex mutex;
  int depth = 0;  // calls into xeus that are under way on the thread with the lock
  // Comms of others come and go on any thread, while a handler under the lock may wait for that very thread. So they
  // only queue, and who leaves the lock does what is queued.
  std::mutex queue_mutex;
  std::vector<std::function<void(State&)>> queue;
  std::map<std::string, xeus::xtarget> foreign_targets;
  std::map<std::string, std::unique_ptr<xeus::xcomm>> foreign;
  std::list<xeus::xcomm> echoes;
  std::atomic<bool> closed{false};  // a comm_close went out

  void later(std::function<void(State&)> change) {
    {
      const std::lock_guard lock(queue_mutex);
      queue.push_back(std::move(change));
    }
    drain();
  }
  void drain() {
    for (;;) {
      const std::unique_lock lock(mutex, std::try_to_lock);
      // Whoever holds it drains when it leaves; under a call of xeus, what that call uses must stay.
      if (!lock || depth > 0) return;
      std::vector<std::function<void(State&)>> changes;
      {
        const std::lock_guard queue_lock(queue_mutex);
        changes.swap(queue);
      }
      if (changes.empty()) return;
      for (const auto& change : changes) change(*this);
    }
  }

  xeus::xcomm_manager& comms() const { return interpreter->comm_manager(); }
  bool knows(const std::string& id) const {
    return id.size() <= kLongestId && comms().comms().contains(xeus::xguid(id.c_str()));
  }
  static xeus::xmessage convert(const Message& m) {
    // The fields that xeus reads without asking are there, whatever the client sent.
    json content = m.content;
    if (!field<json>(content, "comm_id", nullptr).is_string()) content["comm_id"] = "";
    if (!field<json>(content, "target_name", nullptr).is_string()) content["target_name"] = "";
    if (!content.contains("data")) content["data"] = json::object();
    return xeus::xmessage(m.idents, m.header, m.parent_header, m.metadata, std::move(content), to_buffers(m.buffers));
  }
};

// Holds the lock; what was queued meanwhile is done on the way out.
class XeusFace::Entered {
public:
  explicit Entered(State& state) : state_(state) {
    state_.mutex.lock();
    ++state_.depth;
  }
  ~Entered() {
    --state_.depth;
    state_.mutex.unlock();
    state_.drain();
  }
  Entered(const Entered&) = delete;
  Entered& operator=(const Entered&) = delete;

private:
  State& state_;
};

XeusFace::XeusFace(Publish publish, KernelInfo kernel_info) : state_(std::make_unique<State>()) {
  state_->publish = [s = state_.get(), out = std::move(publish)](const std::string& type, const json& content,
                                                                 const json& metadata, Frames buffers) {
    if (type == "comm_close") s->closed = true;
    out(type, content, metadata, std::move(buffers));
  };
  auto interpreter = std::make_unique<Interpreter>(std::move(kernel_info));
  state_->interpreter = interpreter.get();
  g_publish = &state_->publish;
  state_->kernel = std::make_unique<xeus::xkernel>(xeus::get_user_name(), std::make_unique<xeus::xcontext_impl<int>>(0),
                                                   std::move(interpreter), &make_server);
  g_publish = nullptr;
  // xeus announces itself on std::clog, which nobody asked for.
  std::streambuf* const log_buffer = std::clog.rdbuf(nullptr);
  state_->kernel->start();
  std::clog.rdbuf(log_buffer);
  std::clog.clear();
}

XeusFace::~XeusFace() {
  // Comms unregister themselves from the manager, which goes with the kernel.
  state_->echoes.clear();
  state_->foreign.clear();
}

void XeusFace::add(const std::string& id, const std::string& target, Forward message, Forward close) {
  if (id.empty() || id.size() > kLongestId) return;
  state_->later([id, target, message = std::move(message), close = std::move(close)](State& s) {
    const auto forward = [](const Forward& to) {
      return [to](const xeus::xmessage& m) {
        to(field<json>(m.content(), "data", json::object()).dump(), m.metadata().dump(), to_frames(m.buffers()));
      };
    };
    const auto at = s.foreign_targets.try_emplace(target, target, xeus::xtarget::function_type(), &s.comms()).first;
    auto comm = std::make_unique<xeus::xcomm>(&at->second, xeus::xguid(id.c_str()));
    comm->on_message(forward(message));
    comm->on_close(forward(close));
    s.foreign[id] = std::move(comm);
  });
}

void XeusFace::remove(const std::string& id) {
  state_->later([id](State& s) {
    const auto it = s.foreign.find(id);
    if (it == s.foreign.end()) return;
    s.comms().comms().erase(xeus::xguid(id.c_str()));
    s.foreign.erase(it);
  });
}

bool XeusFace::comm_open(const Message& request) {
  const Entered entered(*state_);
  const auto id = field<std::string>(request.content, "comm_id", "");
  if (id.empty() || id.size() > kLongestId) {
    state_->publish("comm_close", {{"comm_id", id}, {"data", json::object()}}, json::object(), {});
    return false;
  }
  // xeus answers an unknown target by comm_close, and then throws; what a known target throws is its own.
  const bool before = state_->closed.exchange(false);
  try {
    // A fault in a handler of the user's must not leave our lock behind.
    faults::guarded([&] { state_->comms().comm_open(State::convert(request)); });
  } catch (...) {
    const bool refused = state_->closed.exchange(before);
    if (!refused || state_->knows(id)) throw;
  }
  state_->closed = before;
  return state_->knows(id);
}

bool XeusFace::comm_msg(const Message& request) {
  const Entered entered(*state_);
  if (!state_->knows(field<std::string>(request.content, "comm_id", ""))) return false;
  faults::guarded([&] { state_->comms().comm_msg(State::convert(request)); });
  return true;
}

bool XeusFace::comm_close(const Message& request) {
  const Entered entered(*state_);
  const auto id = field<std::string>(request.content, "comm_id", "");
  if (!state_->knows(id)) return false;
  faults::guarded([&] { state_->comms().comm_close(State::convert(request)); });
  return true;
}

json XeusFace::comm_info(const std::string& target) const {
  const Entered entered(*state_);
  json out = json::object();
  for (const auto& [id, comm] : state_->comms().comms()) {
    const std::string name = comm->target().name();
    if (target.empty() || name == target) out[std::string(id)] = {{"target_name", name}};
  }
  return out;
}

void XeusFace::register_echo_target(const std::string& name) {
  const Entered entered(*state_);
  state_->comms().register_comm_target(name, [s = state_.get()](xeus::xcomm&& opened, xeus::xmessage) {
    s->echoes.push_back(std::move(opened));
    xeus::xcomm& comm = s->echoes.back();
    comm.on_message([&comm](xeus::xmessage m) { comm.send(m.metadata(), m.content().at("data"), m.buffers()); });
    // The comm must outlive its own close handler, so it stays in the list, unregistered by xeus.
  });
}

}  // namespace caller::kernel
