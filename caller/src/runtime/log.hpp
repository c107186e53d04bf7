// The debug log: nothing but a test of two words when nobody listens.
#pragma once

#include <string_view>

#include "core.hpp"

namespace caller::detail {

extern std::atomic<bool> process_log_set;
void write_log(const Voice* voice, LogLevel level, const char* what, std::string_view detail) noexcept;
/// As report_error, where only a Core's voice is left; null: the process's.
void report_error_to(const Voice* voice, const char* where, const std::exception_ptr& error) noexcept;

inline bool log_wanted(const Voice* voice) noexcept {
  return (voice && voice->log) || process_log_set.load(std::memory_order_relaxed);
}
/// `what` and `detail` are joined only when somebody listens. With no lock held: the handler may do anything.
inline void log(const Core* core, LogLevel level, const char* what, std::string_view detail = {}) noexcept {
  const Voice* const voice = core ? core->voice.get() : nullptr;
  if (log_wanted(voice)) [[unlikely]]
    write_log(voice, level, what, detail);
}

}  // namespace caller::detail
