#include <caller/task_loop.hpp>

#include <utility>

#include "core.hpp"

namespace caller {

using detail::Core;

/// Makes the loop the thread's current Caller, and whatever was there before again afterwards.
class TaskLoop::Entered {
public:
  explicit Entered(Core& core) noexcept : saved_(detail::this_thread()) {
    detail::this_thread() = {&core, &core, nullptr, nullptr};
  }
  ~Entered() {
    detail::ThreadState& ts = detail::this_thread();
    detail::release(std::exchange(ts.context, nullptr));  // a signal handler may look at any time
    ts = saved_;
  }
  Entered(const Entered&) = delete;
  Entered& operator=(const Entered&) = delete;

private:
  detail::ThreadState saved_;
};

TaskLoop::TaskLoop() : core_(new Core({.name = "TaskLoop", .backend = Backend::manual}, nullptr, false)) {
  core_->thread_id = std::this_thread::get_id();
}

TaskLoop::~TaskLoop() {
  {
    Entered entered(*core_);
    core_->abandon();
  }
  core_->release();
}

Caller TaskLoop::caller() const {
  core_->retain();
  return {Caller::Adopt{}, *core_, false};
}

void TaskLoop::check_loop(const PendingBase& p) const {
  const detail::PendingState& s = *p.state();
  // A call of to_thread is its worker's; which one that is may not be decided yet.
  if (s.is(detail::PendingState::kWorker) || (s.core && s.core != core_))
    throw Error(Errc::wrong_loop, "TaskLoop: the Pending belongs to another loop");
}

/// With a reference on the loop: it may outlive it.
void TaskLoop::make_ours(const PendingBase& p) const {
  detail::PendingState& s = *p.state();
  core_->retain();
  detail::extras_of(s).keeps = std::shared_ptr<void>(core_, [](Core* core) { core->release(); });
  s.core = core_;
}

void TaskLoop::check_not_running(const char* operation) const {
  if (running_) throw Error(Errc::already_running, operation);
}

bool TaskLoop::run_once() {
  check_not_running("TaskLoop::run_once");
  Entered entered(*core_);
  running_ = true;
  const bool any = core_->loop_once(1) > 0;
  running_ = false;
  return any;
}

void TaskLoop::run_forever() {
  check_not_running("TaskLoop::run_forever");
  Entered entered(*core_);
  running_ = true;
  stopped_ = false;
  core_->loop_until([this] { return stopped_; });
  running_ = false;
}

void TaskLoop::drive(const PendingBase& p) {
  Entered entered(*core_);
  running_ = true;
  try {
    p.wait_done({.timeout = {}, .protect = true, .shield = true});
  } catch (...) {
    running_ = false;
    throw;
  }
  running_ = false;
}

void TaskLoop::stop() {
  caller().post([this] {
    stopped_ = true;
    core_->break_drain();
  });
}

std::size_t TaskLoop::total_tasks() const { return core_->queued(); }

}  // namespace caller
