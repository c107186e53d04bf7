#include "session/fault_host.hpp"

#include <algorithm>
#include <exception>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "protocol/log.hpp"
#include "session/kernel.hpp"
#include "session/shell.hpp"

namespace caller::kernel {

FaultHost::FaultHost(Kernel& kernel, int log_descriptor) : kernel_(kernel) { faults::install(this, log_descriptor); }

FaultHost::~FaultHost() { faults::install(nullptr, 2); }

std::shared_ptr<void> FaultHost::origin() { return kernel_.session().work_or_newest(); }

void FaultHost::thread_failed(const std::shared_ptr<void>& origin, const std::exception_ptr& error) noexcept {
  try {
    WorkPtr work = std::static_pointer_cast<Work>(origin);
    if (!work) work = kernel_.session().work_or_newest();
    if (!work) return;
    CellError described;
    try {
      std::rethrow_exception(error);
    } catch (...) {
      described = kernel_.describe_current(work->number);
    }
    std::string text = "a thread that the cell had started was ended:\n";
    for (const auto& line : described.traceback) text += line + "\n";
    kernel_.session().iopub().stream(work->request, StreamName::err, text);
    described.evalue = "in a thread that the cell had started: " + described.evalue;
    const std::lock_guard lock(work->mutex);
    if (!work->thread_error) work->thread_error = std::make_shared<CellError>(std::move(described));
  } catch (const std::exception& e) {
    log(LogLevel::error, std::string("telling of a thread's end: ") + e.what());
  }
}

namespace {

void watch(Kernel& kernel, const faults::LoopTurns& turns, bool only_own) noexcept {
  try {
    if (!only_own || kernel.owns(std::this_thread::get_id())) kernel.interrupts().watch(turns);
  } catch (const std::exception& e) {
    log(LogLevel::error, std::string("a loop cannot be interrupted: ") + e.what());
  }
}

}  // namespace

void FaultHost::loop_begins(const faults::LoopTurns& turns) noexcept { watch(kernel_, turns, false); }

void OwnLoops::loop_begins(const faults::LoopTurns& turns) noexcept { watch(kernel_, turns, true); }

bool Kernel::owns(std::thread::id thread) {
  std::optional<Caller> root = Caller::find(thread);
  while (root) {
    std::optional<Caller> parent = root->parent();
    if (!parent) break;
    root = std::move(parent);
  }
  if (!root) return false;
  if (root->id() == main_.id()) return true;
  const std::lock_guard lock(shells_mutex_);
  return std::any_of(shells_.begin(), shells_.end(),
                     [&](const auto& shell) { return shell.second->caller().id() == root->id(); });
}

void FaultHost::dying(const std::string& reason) noexcept {
  try {
    Session& session = kernel_.session();
    const WorkPtr work = session.work_or_newest();
    const std::string text = "the kernel dies: " + reason;
    session.iopub().publish(
        "error", work ? work->request : nullptr,
        {{"ename", "KernelDied"}, {"evalue", reason}, {"traceback", {"\x1b[31mKernelDied\x1b[0m: " + reason}}});
    if (work) session.iopub().stream(work->request, StreamName::err, text + "\n");
    session.stop();
  } catch (const std::exception&) {  // the log says it
  }
}

}  // namespace caller::kernel
