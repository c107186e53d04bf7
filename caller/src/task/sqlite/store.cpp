// The store of a file: each step handed to the thread that writes, each question asked at once.
#include <filesystem>

#include <caller/task/sqlite.hpp>

#include "writer.hpp"

namespace caller::task {

namespace sqlite {
namespace {

class SqliteStore final : public Store {
public:
  explicit SqliteStore(std::shared_ptr<Writer> writer) : writer_(std::move(writer)) { writer_->start(); }
  ~SqliteStore() override { writer_->stop(); }

  std::string description() const override { return "SQLite " + writer_->path(); }

  Pending<std::vector<Added>> add(std::vector<NewInvocation> calls) override {
    return writer_->submit<std::vector<Added>>(
        [calls = std::move(calls)](Ledger& l, News& news) { return l.add(calls, news); }, true);
  }
  Pending<std::vector<InvocationRecord>> take(std::string runner, std::size_t most, std::vector<std::string> queues,
                                              bool begin) override {
    return writer_->submit<std::vector<InvocationRecord>>(
        [runner = std::move(runner), most, queues = std::move(queues), begin](Ledger& l, News& news) {
          return l.take(runner, most, queues, begin, news);
        },
        false, true);
  }
  Pending<void> change(Change change) override {
    const bool durable = is_final(change.to);
    return writer_->submit<void>([change = std::move(change)](Ledger& l, News& news) { l.change(change, news); },
                                 durable);
  }
  Pending<void> code_ended(std::string runner, std::string id) override {
    return writer_->submit<void>(
        [runner = std::move(runner), id = std::move(id)](Ledger& l, News& news) { l.code_ended(runner, id, news); },
        false);
  }

  Pending<InvocationRecord> get(std::string id) override {
    return writer_->read<InvocationRecord>([&](Database& db) { return read_record(db, id); });
  }
  Pending<std::vector<HistoryEntry>> history(std::string id) override {
    return writer_->read<std::vector<HistoryEntry>>([&](Database& db) { return read_history(db, id); });
  }
  Pending<void> ended(std::string id) override { return writer_->wait_for_end<void>(id); }
  Pending<InvocationRecord> final_record(std::string id) override {
    return writer_->wait_for_end<InvocationRecord>(id);
  }
  Pending<std::vector<InvocationRecord>> list(Selection selection, std::size_t offset, std::size_t most) override {
    return writer_->read<std::vector<InvocationRecord>>(
        [&](Database& db) { return read_list(db, selection, offset, most); });
  }
  Pending<std::vector<std::pair<Status, std::size_t>>> counts() override {
    return writer_->read<std::vector<std::pair<Status, std::size_t>>>([](Database& db) { return read_counts(db); });
  }

  Pending<void> wait_for(std::string waiter, std::vector<std::string> ids) override {
    return writer_->submit<void>(
        [waiter = std::move(waiter), ids = std::move(ids)](Ledger& l, News&) { l.wait_for(waiter, ids); }, false);
  }
  Pending<void> check_cycle(std::string parent_id, std::string task_id, std::string call_id) override {
    return writer_->read<void>([&](Database& db) { sqlite::check_cycle(db, parent_id, task_id, call_id); });
  }
  Pending<bool> cancel(std::string id) override {
    return writer_->submit<bool>([id = std::move(id)](Ledger& l, News& news) { return l.cancel(id, news); }, true);
  }

  Pending<void> heartbeat(RunnerRecord runner, nanoseconds lease) override {
    return writer_->submit<void>([runner = std::move(runner), lease](Ledger& l, News&) { l.heartbeat(runner, lease); },
                                 false);
  }
  Pending<void> forget_runner(std::string runner) override {
    return writer_->submit<void>([runner = std::move(runner)](Ledger& l, News&) { l.forget_runner(runner); }, false);
  }
  Pending<std::vector<RunnerRecord>> runners() override {
    return writer_->read<std::vector<RunnerRecord>>([](Database& db) { return read_runners(db); });
  }
  Pending<std::vector<std::string>> recover(nanoseconds max_pending) override {
    writer_->look_soon();  // should a wake-up have been lost, with the folder of the sockets for instance
    return writer_->submit<std::vector<std::string>>(
        [max_pending](Ledger& l, News& news) { return l.recover(max_pending, news); }, false);
  }

  Pending<std::size_t> purge(std::optional<nanoseconds> older_than, nanoseconds data_grace) override {
    if (!older_than) return writer_->submit<std::size_t>([](Ledger& l, News& news) { return l.purge_all(news); }, true);
    Pending<std::size_t> all;
    purge_on(writer_, *older_than, data_grace, 0, all);
    return all;
  }

  Pending<std::optional<std::string>> value(std::string key) override {
    return writer_->read<std::optional<std::string>>([&](Database& db) { return read_value(db, key); });
  }
  Pending<bool> set_value(ValueChange change) override {
    return writer_->submit<bool>(
        [change = std::move(change)](Ledger& l, News& news) { return l.set_value(change, news); }, true);
  }
  Pending<std::vector<std::pair<std::string, std::string>>> values(std::string prefix, std::string after,
                                                                   std::size_t most) override {
    return writer_->read<std::vector<std::pair<std::string, std::string>>>(
        [&](Database& db) { return read_values(db, prefix, after, most); });
  }

  Pending<void> put_data(std::string hash, std::string bytes) override {
    return writer_->submit<void>(
        [hash = std::move(hash), bytes = std::move(bytes)](Ledger& l, News&) { l.put_data(hash, bytes); }, true);
  }
  Pending<std::optional<std::string>> data(std::string hash) override {
    return writer_->read<std::optional<std::string>>([&](Database& db) { return read_data(db, hash); });
  }

  std::shared_ptr<void> listen(std::string runner, Listener listener) override {
    return writer_->listen(std::move(runner), std::move(listener));
  }

private:
  /// Some at a time, so that others' steps come between.
  static void purge_on(const std::shared_ptr<Writer>& writer, nanoseconds older_than, nanoseconds data_grace,
                       std::size_t so_far, Pending<std::size_t> all) {
    const auto more = std::make_shared<bool>(false);
    const Pending<std::size_t> some = writer->submit<std::size_t>(
        [=](Ledger& l, News&) { return l.purge_some(older_than, data_grace, *more); }, false, false, false);
    (void)some.add_done_callback([=, writer = std::weak_ptr(writer)](const PendingBase& done) {
      if (const auto error = done.exception()) return (void)all.set_exception(error);
      const std::size_t n = Pending<std::size_t>::share(done.state()).result();
      const auto alive = writer.lock();
      if (!*more || !alive) return (void)all.set_result(so_far + n);
      purge_on(alive, older_than, data_grace, so_far + n, all);
    });
  }

  std::shared_ptr<Writer> writer_;
};

}  // namespace
}  // namespace sqlite

std::shared_ptr<Store> make_sqlite_store(const std::string& path, SqliteOptions options) {
  if (path.empty()) throw StateBackendError("a task database needs a path");
  std::error_code error;  // one name for all processes, wherever they work and whatever links lead there
  const auto whole = std::filesystem::weakly_canonical(std::filesystem::absolute(path), error);
  if (error) throw StateBackendError("cannot open the task database " + path + ": " + error.message());
  return std::make_shared<sqlite::SqliteStore>(std::make_shared<sqlite::Writer>(whole.string(), options));
}

}  // namespace caller::task
