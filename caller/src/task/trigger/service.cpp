#include "service.hpp"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "../app.hpp"

namespace caller::task::detail {

namespace {
using std::chrono::milliseconds;
constexpr milliseconds kFirstAfterError(200), kLastAfterError(60'000);
constexpr std::size_t kMostSettled = 10'000;  // some may never be told of
}  // namespace

TriggerService::TriggerService(AppPtr app, Caller loop, std::string runner_id)
    : app_(std::move(app)), loop_(std::move(loop)), runner_id_(std::move(runner_id)) {}

void TriggerService::start() {
  {
    const std::lock_guard lock(mutex_);
    started_ = true;
  }
  app_->triggers.add_service(weak_from_this());
  look_at_all();
}

void TriggerService::look_at_all() {
  {
    const std::lock_guard lock(mutex_);
    all_ = true;
  }
  kick();
}

void TriggerService::beat() {
  if (app_->triggers.empty()) return;
  bool due = !app_->triggers.is_told();
  if (!due) {
    const Time now = app_->triggers.now();
    const std::lock_guard lock(mutex_);
    due = next_ && now >= *next_;
  }
  if (due) kick();
}

Coro<void> TriggerService::stop() {
  std::optional<Pending<void>> last;
  std::shared_ptr<void> listener;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    listener = std::move(listener_);
    if (running_) last = under_way_;
  }
  listener.reset();
  if (timer_) (void)timer_->cancel();
  if (last) (void)co_await last->async_wait_done();
  co_return;
}

void TriggerService::told(const std::string& key) {
  {
    const std::lock_guard lock(mutex_);
    if (key.empty()) {
      all_ = true;
    } else {
      if (settled_.erase(key)) return;
      keys_.insert(key);
    }
  }
  if (key.empty()) app_->triggers.forget_told();  // it may have been purged
  kick();
}

void TriggerService::kick() {
  if (app_->triggers.empty()) return;
  const std::lock_guard lock(mutex_);
  again_ = true;
  if (!started_ || running_ || stopping_) return;
  running_ = true;
  under_way_ = loop_.to_thread([self = shared_from_this()] { self->rounds(); });
}

/// In a worker.
void TriggerService::rounds() {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (!again_ || stopping_) {
        running_ = false;
        break;
      }
      again_ = false;
    }
    bool good = false;
    std::string error;
    try {
      good = round();
    } catch (...) {
      error = "triggers: " + ExceptionRecord::of(std::current_exception()).message;
    }
    if (!error.empty()) app_->log(error);
    const std::lock_guard lock(mutex_);
    after_error_ = good ? milliseconds(0) : std::clamp(2 * after_error_, kFirstAfterError, kLastAfterError);
    all_ = all_ || !good;
  }
  loop_.post([self = shared_from_this()] { self->set_timer(); });
}

/// False: something is left to do.
bool TriggerService::round() {
  Store& store = store_of(*app_);
  bool listens = false;
  {
    const std::lock_guard lock(mutex_);
    listens = listener_ != nullptr;
  }
  if (!listens) {
    Listener l;
    l.values = kChangeKey;
    l.value = [self = weak_from_this()](const std::string& key) {
      if (const auto service = self.lock()) service->told(key);
    };
    auto token = store.listen(runner_id_, std::move(l));
    const std::lock_guard lock(mutex_);
    if (!stopping_) listener_ = std::move(token);
    all_ = true;  // as of what came before nobody was told
  }
  app_->triggers.tell(store);
  const Time now = app_->triggers.now();
  std::vector<std::string> keys;
  bool all = false, due = false;
  {
    const std::lock_guard lock(mutex_);
    all = std::exchange(all_, false);
    keys.assign(keys_.begin(), keys_.end());
    keys_.clear();
    due = all || !next_ || now >= *next_;
  }
  TriggerPass pass(*app_, [this](const std::string& key) {
    const std::lock_guard lock(mutex_);
    if (settled_.size() >= kMostSettled) settled_.clear();
    settled_.insert(key);
  });
  if (due) {
    pass.cron(now);
    const auto next = pass.next(now);
    const std::lock_guard lock(mutex_);
    next_ = next;
  }
  if (all)
    pass.all();
  else if (!keys.empty())
    pass.some(std::move(keys));
  return pass.good();
}

void TriggerService::set_timer() {
  std::optional<std::chrono::nanoseconds> wait;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || running_) return;
    if (next_) wait = std::max<std::chrono::nanoseconds>(*next_ - app_->triggers.now(), milliseconds(0));
    if (after_error_.count() > 0) wait = std::min<std::chrono::nanoseconds>(wait.value_or(after_error_), after_error_);
  }
  if (timer_) (void)timer_->cancel();
  timer_.reset();
  if (!wait) return;
  constexpr std::chrono::hours kLongest(24);
  timer_ = loop_.call_later(std::min<std::chrono::nanoseconds>(*wait, kLongest), [self = weak_from_this()] {
    if (const auto service = self.lock()) service->kick();
  });
}

}  // namespace caller::task::detail
