#include "writer.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace caller::task::sqlite {

Writer::Writer(std::string path, SqliteOptions options)
    : path_(std::move(path)),
      options_(options),
      event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      timer_(::timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK)) {
  if (event_.get() < 0 || timer_.get() < 0) throw StateBackendError("the system gives no more file descriptors");
  neighbours_ = std::make_unique<Neighbours>(path_ + "-wake");
  const Neighbours::Turn turn(*neighbours_);
  db_ = std::make_unique<Database>(path_, options_.busy_timeout);
  db_->prepare();
  // A worker is to stay small. With 32 MB the index of the ids, which are random, would cost a fifth less at 300 000.
  db_->execute("PRAGMA synchronous = NORMAL; PRAGMA cache_size = -2000");
  reader_ = std::make_unique<Database>(path_, options_.busy_timeout);
  reader_->execute("PRAGMA query_only = 1; PRAGMA cache_size = -16000");
  ledger_ = std::make_unique<Ledger>(*db_);
  seen_ended_ = db_->number("SELECT max(seq) FROM ended").value_or(0);
  seen_purges_ = db_->number("SELECT purges FROM state").value_or(0);
  seen_values_ = db_->number("SELECT max(seq) FROM value_change").value_or(0);
}

Writer::~Writer() = default;

void Writer::start() {
  look_ = true;  // what happened before our socket was there
  thread_ = std::thread([self = shared_from_this()] {
    self->flusher_ = std::thread([writer = self.get()] { writer->flush_loop(); });
    self->loop();
    self->fail_waiting();
    {
      const std::lock_guard lock(self->flush_mutex_);
      self->flush_ends_ = true;
      self->flush_changed_.notify_one();
    }
    self->flusher_.join();
  });
}

void Writer::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    wake();
  }
  if (thread_.get_id() == std::this_thread::get_id())
    thread_.detach();  // the store's last user was told by us
  else
    thread_.join();
}

void Writer::wake() noexcept {
  if (!std::exchange(asleep_, false)) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto n = ::write(event_.get(), &one, sizeof one);
}

void Writer::put(StepPtr step, bool now_if_here) {
  if (now_if_here && thread_.get_id() == std::this_thread::get_id()) {
    std::vector<StepPtr> one;  // who was told something may wait for this
    one.push_back(std::move(step));
    return write(one, true);
  }
  const std::lock_guard lock(mutex_);
  waiting_.push_back(std::move(step));
  wake();
}

void Writer::look_soon() {
  const std::lock_guard lock(mutex_);
  look_ = true;
  wake();
}

void Writer::loop() {
  pollfd fds[] = {{event_.get(), POLLIN, 0}, {neighbours_->socket(), POLLIN, 0}, {timer_.get(), POLLIN, 0}};
  for (;;) {
    std::vector<StepPtr> steps;
    bool look_now = false, stop = false, idle = false;
    finish_flushed();
    {
      const std::scoped_lock lock(mutex_, flush_mutex_);
      steps.swap(waiting_);
      look_now = std::exchange(look_, false);
      stop = stopping_ && steps.empty() && unflushed_ == 0;
      idle = asleep_ = steps.empty() && !look_now && !stop && flushed_.empty();
    }
    if (stop) return;
    if (::poll(fds, 3, idle ? -1 : 0) > 0) {
      std::uint64_t count;
      if (fds[0].revents) {
        [[maybe_unused]] const auto n = ::read(event_.get(), &count, sizeof count);
      }
      if (fds[1].revents) {
        neighbours_->drain();
        look_now = true;
      }
      if (fds[2].revents) {
        [[maybe_unused]] const auto n = ::read(timer_.get(), &count, sizeof count);  // ECANCELED: the clock was set
        (void)submit<void>(
            [](Ledger& l, News& news) {
              l.release_due(news);
              news.due = true;
            },
            false);
      }
    }
    if (idle) {
      const std::lock_guard lock(mutex_);
      asleep_ = false;
    }
    if (!steps.empty()) write(steps, false);
    if (look_now) look();
  }
}

// ---- transactions ----

/// `flush_here`: who asked for it keeps this thread waiting.
void Writer::write(std::vector<StepPtr>& steps, bool flush_here) {
  News news;
  std::vector<Step*> all;
  for (const StepPtr& step : steps) all.push_back(step.get());
  if (!attempt(all, false, news)) {
    for (Step* const step : all) {
      News own;
      attempt({step}, true, own);
      news.append(own);
    }
  }
  const bool flushes = options_.sync == SqliteSync::accepted &&
                       std::any_of(steps.begin(), steps.end(), [](auto& s) { return s->durable && !s->error; });
  if (flushes && flush_here) {
    const std::exception_ptr failed = flush();
    for (const StepPtr& step : steps)
      if (step->durable && !step->error) step->error = failed;
  } else if (flushes) {
    flush_later(steps, std::exchange(news.ended, {}));
  }
  for (const StepPtr& step : steps) step->finish(step->error);
  tell(news);
}

// ---- the disk ----

/// Takes those away that are to be there when their Pending is done. Who waits for an end is told then, too.
void Writer::flush_later(std::vector<StepPtr>& steps, std::vector<std::string> ended) {
  Committed committed;
  committed.ended = std::move(ended);
  for (StepPtr& step : steps)
    if (step->durable && !step->error) committed.steps.push_back(std::move(step));
  std::erase(steps, nullptr);
  {
    const std::lock_guard lock(mutex_);
    ++unflushed_;
  }
  const std::lock_guard lock(flush_mutex_);
  to_flush_.push_back(std::move(committed));
  flush_changed_.notify_one();
}

void Writer::flush_loop() {
  std::unique_lock lock(flush_mutex_);
  for (;;) {
    flush_changed_.wait(lock, [this] { return flush_ends_ || !to_flush_.empty(); });
    if (to_flush_.empty()) return;
    std::vector<Committed> batch = std::exchange(to_flush_, {});
    lock.unlock();
    const std::exception_ptr error = flush();
    {
      const std::scoped_lock both(mutex_, flush_mutex_);
      for (Committed& c : batch) {
        c.error = error;
        flushed_.push_back(std::move(c));
      }
      wake();
    }
    lock.lock();
  }
}

/// What stands is in the log (WAL) of the database.
std::exception_ptr Writer::flush() noexcept {
  try {
    const std::lock_guard lock(log_mutex_);
    const std::string path = path_ + "-wal";
    struct stat there{}, ours{};
    const bool is_there = ::stat(path.c_str(), &there) == 0;
    if (!is_there || log_.get() < 0 || ::fstat(log_.get(), &ours) != 0 || ours.st_ino != there.st_ino)
      log_ = Fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (log_.get() >= 0 && ::fdatasync(log_.get()) == 0) return nullptr;
    throw StateBackendError("the task database " + path_ +
                            " cannot be brought to the disk: " + std::generic_category().message(errno));
  } catch (...) {
    return std::current_exception();
  }
}

void Writer::finish_flushed() {
  std::vector<Committed> done;
  {
    const std::scoped_lock lock(mutex_, flush_mutex_);
    done.swap(flushed_);
    unflushed_ -= done.size();
  }
  for (Committed& c : done) {
    for (const StepPtr& step : c.steps) step->finish(c.error);
    News news;
    news.ended = std::move(c.ended);
    tell(news);
  }
}

/// True: it stands, or is the error of the step that is alone. False: one of them must be undone; nothing stands.
bool Writer::attempt(const std::vector<Step*>& steps, bool alone, News& news) {
  const bool durable = options_.sync == SqliteSync::every;
  for (Step* const step : steps) step->error = nullptr;
  std::exception_ptr trouble;
  try {
    const bool only_takes = std::all_of(steps.begin(), steps.end(), [](Step* s) { return s->takes; });
    if (only_takes && !db_->number("SELECT 1 FROM invocation WHERE ticket IS NOT NULL LIMIT 1")) return true;
    const Neighbours::Turn turn(*neighbours_);
    if (durable != full_sync_) {
      db_->execute(durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
      full_sync_ = durable;
    }
    try {
      db_->run("BEGIN IMMEDIATE");
      ledger_->begin();
      for (Step* const step : steps) {
        const int before = db_->changes_so_far();
        try {
          step->run(*ledger_, news);
        } catch (...) {
          if (db_->changes_so_far() != before || !db_->in_transaction()) throw;
          step->error = std::current_exception();
        }
      }
      ledger_->end();
      db_->run("COMMIT");
    } catch (...) {
      db_->roll_back();
      throw;
    }
    return true;
  } catch (...) {
    trouble = std::current_exception();
  }
  news = {};
  if (!alone && steps.size() > 1) return false;
  for (Step* const step : steps) step->error = trouble;
  return true;
}

// ---- telling ----

void Writer::complete(const std::vector<std::string>& ids) {
  std::vector<AwaitingById::node_type> done;
  {
    const std::lock_guard lock(mutex_);
    if (ends_.empty()) return;
    for (const std::string& id : ids)
      if (auto node = ends_.extract(id)) done.push_back(std::move(node));
  }
  for (auto& node : done) {
    for (const auto& p : node.mapped().ends) p.set_result();
    auto& records = node.mapped().records;
    std::erase_if(records, [](const auto& p) { return p.done(); });
    if (records.empty()) continue;
    const auto record = read<InvocationRecord>([&](Database& db) { return read_record(db, node.key()); });
    const auto error = record.exception();
    for (const auto& p : records)
      if (error)
        p.set_exception(error);
      else
        p.set_result(record.result());
  }
}
void Writer::fail_waiting() {
  AwaitingById left;
  {
    const std::lock_guard lock(mutex_);
    left.swap(ends_);
  }
  detail::fail_closed(left);
}

void Writer::tell(const News& news) {
  if (!news.any()) return;
  complete(news.ended);
  for (const auto& [seq, key] : news.values)
    if (seq == seen_values_ + 1)
      seen_values_ = seq;
    else
      told_values_.insert(seq);
  std::vector<std::function<void()>> calls;
  std::vector<std::string> forgotten;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [token, listener] : listeners_) {
      if (news.work && listener.second.work) calls.push_back(listener.second.work);
      for (const auto& [runner, id] : news.cancelled)
        if (runner == listener.first && listener.second.cancelled && told_cancels_.insert(id).second)
          calls.push_back([tell = listener.second.cancelled, id = id] { tell(id); });
    }
    tell_values(news, news.forgotten, calls);
    if (news.forgotten)
      for (const auto& [id, ends] : ends_) forgotten.push_back(id);
  }
  complete(forgotten);
  for (const auto& call : calls) call();
  neighbours_->tell();
  if (news.due) set_timer();
}

/// With the mutex. `any`: there may be others.
void Writer::tell_values(const News& news, bool any, std::vector<std::function<void()>>& calls) {
  for (const auto& [token, listener] : listeners_) {
    const auto& tell = listener.second.value;
    if (!tell) continue;
    if (any) calls.push_back([tell] { tell({}); });
    for (const auto& [seq, key] : news.values)
      if (key.starts_with(listener.second.values)) calls.push_back([tell, key = key] { tell(key); });
  }
}

void Writer::look() {
  try {
    News news;
    {
      Cursor c = db_->query("SELECT seq, id FROM ended WHERE seq > ?1 ORDER BY seq", seen_ended_);
      while (c.next()) {
        seen_ended_ = c.integer(0);
        news.ended.push_back(c.text(1));
      }
    }
    complete(news.ended);
    bool missed = false;  // changes of values
    {
      Cursor c = db_->query("SELECT seq, key FROM value_change WHERE seq > ?1 ORDER BY seq", seen_values_);
      while (c.next()) {
        const std::int64_t seq = c.integer(0);
        missed |= seq != seen_values_ + 1;
        seen_values_ = seq;
        if (!told_values_.contains(seq)) news.values.emplace_back(seq, c.text(1));
      }
      told_values_.clear();
    }
    std::unordered_set<std::string> cancels;
    std::vector<std::function<void()>> calls;
    std::vector<std::string> gone;
    {
      const bool work = db_->number("SELECT 1 FROM invocation WHERE ticket IS NOT NULL LIMIT 1").has_value();
      std::vector<std::pair<std::string, std::string>> cancelled;
      Cursor c = db_->query(
          "SELECT owner, id FROM invocation INDEXED BY invocation_cancelling WHERE cancel = 1 AND owner IS NOT NULL");
      while (c.next()) cancelled.emplace_back(c.text(0), c.text(1));
      const auto purges = db_->number("SELECT purges FROM state").value_or(0);
      const bool purged = std::exchange(seen_purges_, purges) != purges;
      const std::lock_guard lock(mutex_);
      for (const auto& [token, listener] : listeners_) {
        if (work && listener.second.work) calls.push_back(listener.second.work);
        for (const auto& [runner, id] : cancelled) {
          if (runner != listener.first || !listener.second.cancelled) continue;
          cancels.insert(id);
          if (told_cancels_.insert(id).second)
            calls.push_back([tell = listener.second.cancelled, id = id] { tell(id); });
        }
      }
      told_cancels_ = std::move(cancels);
      tell_values(news, missed || purged, calls);
      if (purged)
        for (const auto& [id, ends] : ends_) gone.push_back(id);
    }
    std::erase_if(gone, [&](const std::string& id) {
      return db_->number("SELECT 1 FROM invocation WHERE id = ?1", id).has_value();
    });
    complete(gone);
    for (const auto& call : calls) call();
    set_timer();
  } catch (const StateBackendError&) {  // it is looked again at the next news, and the next heartbeat
  }
}

void Writer::set_timer() {
  itimerspec at{};
  try {
    if (const auto due = db_->number(
            "SELECT due FROM invocation WHERE due IS NOT NULL AND typeof(due) = 'integer' ORDER BY due LIMIT 1"))
      at.it_value = {std::max<std::int64_t>(*due, 1) / 1'000'000'000, std::max<std::int64_t>(*due, 1) % 1'000'000'000};
  } catch (const StateBackendError&) {
    return;  // as above
  }
  ::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &at, nullptr);
}

// ---- waiting and listening ----

template <class T>
Pending<T> Writer::wait_for_end(const std::string& id) {
  Pending<T> p;
  {
    const std::lock_guard lock(mutex_);
    ends_[id].add(p);
  }
  // After that, so that an end is either seen here or told.
  std::exception_ptr error;
  std::conditional_t<std::is_void_v<T>, char, std::optional<T>> record{};
  try {
    const std::lock_guard lock(read_mutex_);
    const std::optional<Status> status = read_status(*reader_, id);
    if (status && !is_final(*status)) return p;
    if (!status)
      error = std::make_exception_ptr(InvocationNotFoundError(id));
    else if constexpr (!std::is_void_v<T>)
      record = read_record(*reader_, id);
  } catch (...) {
    error = std::current_exception();
  }
  {
    const std::lock_guard lock(mutex_);
    if (const auto it = ends_.find(id); it != ends_.end()) {
      it->second.remove(p);
      if (it->second.empty()) ends_.erase(it);
    }
  }
  if (p.done()) return p;
  if (error)
    p.set_exception(error);
  else if constexpr (std::is_void_v<T>)
    p.set_result();
  else
    p.set_result(std::move(*record));
  return p;
}
template Pending<void> Writer::wait_for_end(const std::string& id);
template Pending<InvocationRecord> Writer::wait_for_end(const std::string& id);

std::shared_ptr<void> Writer::listen(std::string runner, Listener listener) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t token = ++last_token_;
  listeners_.emplace(token, std::pair(std::move(runner), std::move(listener)));
  return std::shared_ptr<void>(nullptr, [writer = weak_from_this(), token](void*) {
    const auto self = writer.lock();
    if (!self) return;
    std::unique_lock inner(self->mutex_);
    const auto node = self->listeners_.extract(token);
    inner.unlock();  // what it holds may go with it
  });
}

}  // namespace caller::task::sqlite
