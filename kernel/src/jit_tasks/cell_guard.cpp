#include "jit_tasks/cell_guard.hpp"

#include <memory>
#include <stop_token>
#include <string>
#include <utility>

#include <caller/task/app.hpp>

#include "interpreter/faults.hpp"
#include "interpreter/interrupt.hpp"
#include "session/interrupts.hpp"

namespace caller::kernel {

void guard_cell_tasks() noexcept {
  task::detail::set_cell_guard([](const std::function<std::string()>& body, std::stop_token stop) {
    Interrupts::take_signals();
    interrupt::Scope scope;
    const std::stop_callback interrupt(stop, [&scope] { scope.request(); });
    std::string result;
    try {
      faults::guarded([&] { result = body(); });
    } catch (const faults::CellFault& e) {  // by the name that cells know it by
      task::ExceptionRecord record;
      record.type = e.fault().name;
      record.message = e.fault().text;
      throw task::TaskFailed(std::make_shared<const task::ExceptionRecord>(std::move(record)));
    }
    return result;
  });
}

}  // namespace caller::kernel
