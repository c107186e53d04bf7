#include "client.hpp"

#include "runtime/shielded_wait.hpp"

#include <optional>
#include <thread>

#include <caller/task/error.hpp>

namespace caller::task::redis {

using Steady = std::chrono::steady_clock;

namespace {

constexpr std::size_t kMostBytes = std::size_t{512} << 20;  // of one argument, to Redis
constexpr std::size_t kMostArguments = 1'000'000;
constexpr std::size_t kFew = 16;  // under way: more are sent together

std::exception_ptr error_of(const std::string& text) { return std::make_exception_ptr(StateBackendError(text)); }

}  // namespace

Client::Client(Address address, std::chrono::nanoseconds patience)
    : address_(std::move(address)),
      patience_(patience),
      loop_(caller::new_thread, CallerOptions{.name = "tasks-redis"}) {}

void Client::start(Events events) {
  events_ = std::move(events);
  // The links belong to us and to their coroutines, which end when the loop is stopped.
  commands_ = std::make_shared<Link>(address_, LinkEvents{[this] { up(); }, [this](Reply&& r) { reply(std::move(r)); },
                                                          [this](const Trouble& t) { down(t); }});
  messages_ = std::make_shared<Link>(address_, LinkEvents{[this] {
                                                            messages_up_ = true;
                                                            for (const auto& c : channels_)
                                                              messages_->write(command_bytes({"SUBSCRIBE", c}));
                                                          },
                                                          [this](Reply&& r) { message(std::move(r)); },
                                                          [this](const Trouble&) { messages_up_ = false; }});
  (void)loop_.call_soon([link = commands_] { return Link::run(link); });
  (void)loop_.call_soon([link = messages_] { return Link::run(link); });
}

void Client::stop() {
  caller::detail::end_loop(loop_);
  close();
}

void Client::mute() {
  muted_ = true;
  close();
}

void Client::close() {
  std::vector<Request> left;
  std::deque<Request> sent, waiting;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    left.swap(inbox_);
    sent.swap(sent_);
    waiting.swap(waiting_);
  }
  const std::string text = closed();
  fail_all(std::move(sent), text);
  fail_all(std::move(waiting), text);
  for (auto& r : left) r.done(nullptr, error_of(text));
}

std::string Client::closed() const { return "the store of tasks in Redis at " + address_.shown + " was closed"; }

bool Client::is_here() const noexcept { return loop_.thread() == std::this_thread::get_id(); }

void Client::run(const Script& script, std::string key, std::vector<std::string> arguments, Done done) {
  Request r{&script, std::move(arguments), std::move(done), Steady::now() + patience_};
  std::size_t bytes = 0;
  for (const auto& a : r.arguments) bytes += a.size();
  if (bytes > kMostBytes || r.arguments.size() > kMostArguments)
    return r.done(nullptr, error_of("this is more than Redis takes at once: " + std::to_string(bytes) + " bytes in " +
                                    std::to_string(r.arguments.size()) + " parts; make the batches smaller"));
  r.arguments.insert(r.arguments.begin(), std::move(key));
  bool post = false, stopped = false;
  {
    const std::lock_guard lock(mutex_);
    stopped = stopped_;
    if (!stopped && up_ && inbox_.empty() && sent_.size() < kFew) {  // no other thread need wake to send it
      send_locked(std::move(r));
      post = !watching_ && !std::exchange(posted_, true);  // somebody must look at its time
    } else if (!stopped) {
      inbox_.push_back(std::move(r));
      post = !std::exchange(posted_, true);
    }
  }
  if (stopped) return r.done(nullptr, error_of(closed()));
  if (post) on_loop([this] { take_in(); });
}

void Client::take_in() {
  {
    const std::lock_guard lock(mutex_);
    posted_ = false;
    for (auto& r : std::exchange(inbox_, {})) {
      if (up_)
        send_locked(std::move(r));
      else
        waiting_.push_back(std::move(r));
    }
  }
  watch();
}

void Client::write(const Request& r) {
  if (!r.script) return commands_->write(command_bytes({"FUNCTION", "LOAD", scripts().library}));
  const bool known = !r.script->function.empty();
  std::vector<std::string_view> command{known ? "FCALL" : "EVAL", known ? r.script->function : r.script->text,
                                        r.repeated ? "2" : "1"};
  if (r.repeated) command.emplace_back(r.arguments.front());
  command.insert(command.end(), r.arguments.begin(), r.arguments.end());
  commands_->write(command_bytes(command));
}
/// In the order of the answers.
void Client::send_locked(Request r) {
  write(r);
  sent_.push_back(std::move(r));
}
void Client::load_locked() { send_locked({nullptr, {}, {}, Steady::now() + patience_}); }

void Client::up() {
  was_ever_up_ = true;
  last_trouble_.clear();
  const std::lock_guard lock(mutex_);
  up_ = true;
  load_locked();
  for (; !waiting_.empty(); waiting_.pop_front()) {
    waiting_.front().again = false;
    send_locked(std::move(waiting_.front()));
  }
}

void Client::reply(Reply&& answer) {
  std::optional<Request> asked;
  {
    const std::lock_guard lock(mutex_);
    if (!up_) return;  // the connection was given up: its commands go to the next one
    if (!sent_.empty()) {
      asked = std::move(sent_.front());
      sent_.pop_front();
    }
  }
  if (!asked) return give_up_connection();  // it says what nobody asked for
  Request& r = *asked;
  if (!r.script) return loaded(answer);
  if (answer.kind == Reply::Kind::text && answer.text == "ok") {  // the server makes lists with effort
    Reply list;
    list.kind = Reply::Kind::list;
    list.list.push_back(std::move(answer));
    return r.done(&list, nullptr);
  }
  if (answer.kind != Reply::Kind::error) return r.done(&answer, nullptr);
  if (answer.text.starts_with("ERR Function not found") && !r.again && refused_.empty()) {  // somebody flushed them
    r.again = true;
    const std::lock_guard lock(mutex_);
    load_locked();
    return send_locked(std::move(r));
  }
  if (answer.text.starts_with("LOADING")) {  // it reads its file; later
    {
      const std::lock_guard lock(mutex_);
      sent_.push_front(std::move(r));
    }
    return give_up_connection();
  }
  r.done(nullptr,
         error_of("Redis at " + address_.shown + " refuses a step: " + (refused_.empty() ? answer.text : refused_)));
}

void Client::loaded(const Reply& answer) {
  const bool there = answer.kind != Reply::Kind::error || answer.text.find("already exists") != std::string::npos;
  refused_ = there ? "" : answer.text;
}

void Client::give_up_connection() {
  {
    const std::lock_guard lock(mutex_);
    up_ = false;
  }
  commands_->drop();
}

void Client::down(const Trouble& trouble) {
  last_trouble_ = trouble.text;
  std::deque<Request> failed;
  {
    const std::lock_guard lock(mutex_);
    up_ = false;
    // First what was asked first.
    for (; !sent_.empty(); sent_.pop_back()) {
      if (!sent_.back().script) continue;
      sent_.back().repeated = true;
      waiting_.push_front(std::move(sent_.back()));
    }
    if (trouble.refused || !was_ever_up_) failed.swap(waiting_);
  }
  fail_all(std::move(failed), trouble.text);
}

void Client::fail_all(std::deque<Request> requests, const std::string& text) {
  for (auto& r : requests)
    if (r.script) r.done(nullptr, error_of(text));
}

/// Looks when the oldest request's time is over, as long as there is one.
void Client::watch() {
  const auto now = Steady::now();
  std::deque<Request> silent, late;
  std::optional<Steady::time_point> next;
  {
    const std::lock_guard lock(mutex_);
    if (watching_) return;
    if (!sent_.empty() && sent_.front().deadline <= now) {
      silent.swap(sent_);
      up_ = false;
    }
    for (; !waiting_.empty() && waiting_.front().deadline <= now; waiting_.pop_front())
      late.push_back(std::move(waiting_.front()));
    for (const auto* oldest : {&sent_, &waiting_})
      if (!next && !oldest->empty()) next = oldest->front().deadline;
    watching_ = next.has_value();
  }
  if (!silent.empty()) {
    give_up_connection();
    last_trouble_ = "Redis at " + address_.shown + " does not answer; see whether the server is overloaded or stopped";
    fail_all(std::move(silent), last_trouble_);
  }
  fail_all(std::move(late), last_trouble_.empty() ? "Redis at " + address_.shown + " does not answer" : last_trouble_);
  if (!next) return;
  (void)loop_.call_later(std::max<std::chrono::nanoseconds>(*next - now, std::chrono::milliseconds(1)), [this] {
    {
      const std::lock_guard lock(mutex_);
      watching_ = false;
    }
    watch();
  });
}

void Client::subscribe(std::string channel) {
  on_loop([this, channel = std::move(channel)] {
    if (channels_.insert(channel).second && messages_up_) messages_->write(command_bytes({"SUBSCRIBE", channel}));
  });
}
void Client::unsubscribe(std::string channel) {
  on_loop([this, channel = std::move(channel)] {
    if (channels_.erase(channel) && messages_up_) messages_->write(command_bytes({"UNSUBSCRIBE", channel}));
  });
}

void Client::message(Reply&& r) {
  if (muted_ || r.kind != Reply::Kind::list || r.list.size() != 3) return;
  if (r.list[0].text == "subscribe")
    events_.subscribed(r.list[1].text);
  else if (r.list[0].text == "message")
    events_.message(r.list[1].text, r.list[2].text);
}

}  // namespace caller::task::redis
