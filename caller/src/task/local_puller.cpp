// Workers where the store shares its invocations: they copy nothing of them, and no step of theirs waits.
#include <exception>
#include <utility>

#include "engine.hpp"

namespace caller::task::detail {

/// What the invocations that a worker executes have in common. Each worker has its own: what all of them counted
/// references on would go from processor to processor with each task.
struct Engine::Home {
  std::shared_ptr<Engine> engine;
  DefinitionPtr definition{};  // of the last one
  std::uint64_t version = 0;   // of the application's tasks
  bool left_waiting = false;   // as of Active, of what was executed last
};

/// What a worker has executed last; without `change` there is nothing to tell.
struct Engine::Executed {
  LocalRef call{};
  std::optional<Change> change{};
  ActivePtr active{};
};

/// Keeps the call and the definition while the code runs.
class Engine::LocalRun final : public LazyRun {
public:
  LocalRun(std::shared_ptr<Home> home, const LocalTaken& taken) : home_(std::move(home)), taken_(taken) {}
  std::string execute(std::stop_token stop) const {
    const struct End {
      const LocalRun& run;
      ~End() { run.home_->left_waiting = run.end(); }
    } at_the_end{*this};
    return home_->definition->plain(home_->engine->app_->options.format, taken_.call->args(), std::move(stop));
  }

private:
  std::shared_ptr<const Run> make() const override {
    const LocalCall& call = *taken_.call;
    InvocationRecord record;
    record.id = call.id();
    record.task_id = call.task_id();
    record.call_id = call.call_id();
    record.parent_id = call.parent_id();
    record.workflow_id = taken_.workflow_id;
    record.retries = taken_.retries;
    return make_run(home_->engine->app_, record, home_->engine->id_, home_->engine);
  }

  std::shared_ptr<Home> home_;
  LocalTaken taken_;
};

/// With a slot that has no invocation, as a worker that is yet to be found.
void Engine::look_locally() {
  for (;;) {
    const std::uint64_t seen = arrivals_.load();
    const std::optional<std::size_t> most = begin_taking_or_leave();
    if (!most) return;
    std::vector<LocalTaken> taken;
    const bool worked = take_locally(*most, taken);
    std::vector<Job> jobs;
    {
      const Locked lock(*this);
      know_taken_locked(*most, taken, jobs, nullptr);
      if (!jobs.empty()) pullers_ += jobs.size() - 1;
    }
    if (jobs.size() < *most) grant();
    if (jobs.empty()) {
      if (worked && seen != arrivals_.load() && keep_slot()) continue;
      return puller_left();
    }
    for (Job& job : jobs) launch_local(std::move(job));
    if (seen != arrivals_.load()) start_puller();
    return;
  }
}

/// False: the store cannot be used now.
bool Engine::take_locally(std::size_t most, std::vector<LocalTaken>& taken) {
  try {
    local_->take_some(id_, most, options_.queues, taken);
    return true;
  } catch (...) {
    cannot_take_now(std::current_exception());
    return false;
  }
}

/// What a take gave, of up to `most`: each has a slot. `spare`: may be used again if nobody else has it.
void Engine::know_taken_locked(std::size_t most, std::vector<LocalTaken>& taken, std::vector<Job>& jobs,
                               ActivePtr spare) {
  for (LocalTaken& one : taken) {
    ActivePtr active = std::move(spare);
    if (active && active.use_count() == 1)
      *active = Active();
    else
      active = std::make_shared<Active>();
    active->give_up = stopping_;  // it was on its way to us
    active->cancelled = stopping_ || (!early_.empty() && early_.contains(std::string(one.call->id())));
    active->call = one.call;
    active->place = local_active_.size();
    local_active_.push_back(active);
    jobs.push_back({std::move(one), std::move(active)});
  }
  if (--taking_ == 0 && !early_.empty()) early_.clear();
  looking_ -= static_cast<std::ptrdiff_t>(most);
  used_ -= static_cast<std::ptrdiff_t>(most - taken.size());
}

void Engine::forget_local_locked(Active& active) noexcept {
  ActivePtr& place = local_active_[active.place];
  local_active_.back()->place = active.place;
  std::swap(place, local_active_.back());
  active.call = {};
  local_active_.pop_back();
}

void Engine::launch_local(Job job) noexcept { launch<&Engine::pull_locally, &Engine::begin_elsewhere>(std::move(job)); }

/// The loop does what a worker cannot: coroutines, what has a time-out, what is to end before it begins.
void Engine::begin_elsewhere(Job job) {
  InvocationRecord record = local_->record_of(*job.taken.call);
  {
    const Locked lock(*this);
    active_[record.id] = job.active;
    forget_local_locked(*job.active);
  }
  begin(std::move(record));
}

/// Kept in `home`. Null: the loop finds out what is wrong.
const TaskDefinition* Engine::definition_of(Home& home, const LocalCall& call) const {
  const std::uint64_t version = app_->version();
  if (home.definition && home.version == version && home.definition->id == call.task_id()) return home.definition.get();
  home.version = version;
  home.definition.reset();
  try {
    home.definition = app_->find(std::string(call.task_id()));
  } catch (const std::exception&) {
  }
  return home.definition.get();
}

/// As a plain function on this thread; none: it is the loop's business.
std::optional<Pending<std::string>> Engine::begin_here(const std::shared_ptr<Home>& home, const Job& job) {
  const TaskDefinition* const definition = definition_of(*home, *job.taken.call);
  if (!definition || !definition->plain || definition->options.timeout.count() > 0) return std::nullopt;
  auto run = std::make_shared<LocalRun>(home, job.taken);
  const RunScope scope(run);
  const Caller here = Caller::current();
  std::optional<Pending<std::string>> begun;
  if (definition->stops)
    begun = here.call_soon([run = std::move(run)](std::stop_token stop) { return run->execute(std::move(stop)); });
  else
    begun = here.call_soon([run = std::move(run)] { return run->execute({}); });
  {
    const Locked lock(*this);
    if (!job.active->cancelled) {
      job.active->begun = job.active->here = true;
      job.active->pending = *begun;
      return begun;
    }
  }
  (void)begun->cancel();  // it never starts
  return std::nullopt;
}

/// The end of what ran on this thread, which keeps a slot to look for more; nothing if it was told when it was asked to
/// end.
Engine::Executed Engine::executed_here(Home& home, Job job, const Pending<std::string>& running,
                                       const std::exception_ptr& error) {
  const bool left_waiting = std::exchange(home.left_waiting, false);
  {
    const Locked lock(*this);
    if (std::exchange(job.active->over, true)) return {};
    ++looking_;
  }
  // Nobody asks for it now; what it holds, an exception of the task's, dies without the mutex.
  job.active->pending.reset();
  job.active->left_waiting = left_waiting;
  Executed out{job.taken.call, {}, std::move(job.active)};
  if (running.cancelled()) {
    out.change = {std::string(out.call->id()), Status::cancelled, id_, {}, {}, {}};
  } else if (!error) {
    std::string& result = running.result();  // nobody else has it
    std::vector<std::string> data = data_of(result);
    out.change = {{}, Status::success, {}, std::move(result), {}, {}, std::move(data)};
  } else {
    InvocationRecord record;
    record.id = out.call->id();
    record.retries = job.taken.retries;
    out.change = outcome(*home.definition, record, id_, error, {});
  }
  return out;
}

/// Tells the end of `last`, if there is one, and takes up to `most` (none: only tells). False: the store cannot be used
/// now.
bool Engine::tell_and_take(Executed last, std::optional<std::size_t> most, std::vector<LocalTaken>& taken,
                           std::vector<Job>& jobs) {
  taken.clear();
  std::exception_ptr refused;
  bool worked = true;
  if (last.change) {
    try {
      refused = local_->change_and_take_some(*last.call, *last.change, id_, most.value_or(0), options_.queues, taken);
    } catch (...) {
      refused = std::current_exception();
      worked = false;
      cannot_take_now(refused);
    }
  } else if (most) {
    worked = take_locally(*most, taken);
  }
  bool stopping = false, wanted = false;
  {
    const Locked lock(*this);
    if (last.active && !refused) forget_local_locked(*last.active);
    if (most) know_taken_locked(*most, taken, jobs, refused ? ActivePtr() : std::move(last.active));
    stopping = stopping_;
    wanted = !resuming_.empty();
  }
  if (refused) {
    last.change->id = last.call->id();  // not said where the call itself is
    last.change->runner = id_;
    Ending ending{std::move(*last.change), {}, std::move(last.active)};
    ending.told.set_exception(refused);
    conclude_later(std::move(ending));
  }
  if (wanted) grant();
  if (stopping) on_loop([self = shared_from_this()] { self->kick(); });
  return worked;
}

Coro<void> Engine::pull_locally(std::shared_ptr<Engine> self, Job first) {
  Engine& engine = *self;
  const auto home = std::make_shared<Home>();
  home->engine = self;
  std::vector<LocalTaken> taken;
  std::vector<Job> jobs;
  jobs.push_back(std::move(first));
  bool busy = true;  // has executed something since it looked in vain
  for (;;) {
    Executed last;
    if (!jobs.empty()) {
      for (std::size_t i = 1; i < jobs.size(); ++i) {
        {
          const Locked lock(engine);
          ++engine.pullers_;
        }
        engine.launch_local(std::move(jobs[i]));
      }
      Job job = std::move(jobs.front());
      jobs.clear();
      if (std::optional<Pending<std::string>> begun = engine.begin_here(home, job)) {
        const Pending<std::string> running = std::move(*begun);
        begun.reset();
        std::exception_ptr error;
        try {
          (void)co_await running;
        } catch (...) {
          error = std::current_exception();
        }
        last = engine.executed_here(*home, std::move(job), running, error);
      } else {
        engine.begin_elsewhere(std::move(job));
      }
      if (!last.change && !engine.keep_slot()) break;
    }
    const std::uint64_t seen = engine.arrivals_.load();  // before we look
    const std::optional<std::size_t> most = engine.begin_taking();
    const bool worked = engine.tell_and_take(std::move(last), most, taken, jobs);
    if (!most) {
      engine.start_puller();  // should nobody have wanted the slot
      break;
    }
    if (!jobs.empty()) {
      busy = true;
      // What arrived meanwhile found no slot free, as we had asked for all of them.
      if (seen != engine.arrivals_.load()) engine.start_puller();
      continue;
    }
    if (!worked) break;
    if (seen == engine.arrivals_.load() && !(std::exchange(busy, false) && engine.arrives_soon(seen))) break;
    if (!engine.keep_slot()) break;
  }
  engine.puller_left();
}

}  // namespace caller::task::detail
