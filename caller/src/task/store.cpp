// What stores need not do themselves.
#include <caller/task/store.hpp>

#include <atomic>
#include <mutex>

namespace caller::task {

Store::~Store() = default;

ChangeAndTake Store::change_and_take(Change c, std::size_t most, std::vector<std::string> queues) {
  std::string runner = c.runner;
  Pending<void> changed = change(std::move(c));
  return {std::move(changed), take(std::move(runner), most, std::move(queues), true)};
}
std::vector<Pending<InvocationRecord>> Store::final_records(const std::vector<std::string>& ids) {
  std::vector<Pending<InvocationRecord>> out;
  out.reserve(ids.size());
  for (const auto& id : ids) out.push_back(final_record(id));
  return out;
}

namespace {

/// Of all_ended(), shared by what is told of each.
struct Ends {
  std::mutex mutex;
  std::vector<Ended> list;
  std::size_t left = 0;
  Pending<std::vector<Ended>> all;

  void add(std::size_t place, const Pending<InvocationRecord>& end) {
    Ended one;
    one.place = place;
    try {
      const InvocationRecord& r = end.result();
      one.status = r.status;
      one.task_id = r.task_id;
      one.result = r.result;
      one.exception = r.exception;
    } catch (...) {
      one.error = std::current_exception();
    }
    {
      const std::lock_guard lock(mutex);
      list.push_back(std::move(one));
      if (--left > 0) return;
    }
    (void)all.set_result(std::move(list));
  }
};

}  // namespace

Pending<std::vector<Ended>> Store::all_ended(std::span<const std::string_view> ids) {
  const auto ends = std::make_shared<Ends>();
  ends->left = ids.size();
  ends->list.reserve(ids.size());
  if (ids.empty()) (void)ends->all.set_result(std::vector<Ended>());
  const auto each = final_records({ids.begin(), ids.end()});
  for (std::size_t i = 0; i < each.size(); ++i)
    (void)each[i].add_done_callback(
        [ends, i](const PendingBase& p) { ends->add(i, Pending<InvocationRecord>::share(p.state())); });
  const Pending<std::vector<Ended>> all = ends->all;
  (void)all.add_done_callback([each](const PendingBase& p) {  // what is told of each holds who waits
    if (!p.cancelled()) return;
    for (const auto& one : each) (void)one.cancel();
  });
  return all;
}

NewInvocation again(const InvocationRecord& record, std::string id) {
  NewInvocation n;
  n.id = std::move(id);
  n.task_id = record.task_id;
  n.call_id = record.call_id;
  n.args = record.args;
  n.parent_id = record.parent_id;
  n.queue = record.queue;
  n.priority = record.priority;
  n.registration_key = record.registration_key;
  n.running_key = record.running_key;
  n.reroute = record.reroute;
  if (record.workflow_id != record.id) n.workflow_id = record.workflow_id;
  n.data = record.data;
  return n;
}

}  // namespace caller::task
