// What an application and its tasks tell people.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <caller/export.hpp>

namespace caller::task {

/// How bad what is told is.
enum class Severity : std::uint8_t { debug, info, warning, error };
/// In words. Thread-safety: any thread. Errors: none. Source: –
CALLER_API std::string_view name(Severity severity) noexcept;

namespace detail {
class AppCore;
}

/// Goes to AppOptions::log, or to standard error, if it is not below `logging_level`. Within a run it names task and
/// invocation. A copy is a handle.
/// Thread-safety: any thread. Errors: none. Source: pynenc's TaskLoggerAdapter.
class CALLER_API Logger {
public:
  /// For the library.
  Logger(std::weak_ptr<detail::AppCore> app, std::string prefix) : app_(std::move(app)), prefix_(std::move(prefix)) {}
  /// Whether anybody is told of that.
  bool enabled(Severity severity) const noexcept;
  /// Tells it.
  void log(Severity severity, std::string_view text) const noexcept;
  /// Tells it.
  void debug(std::string_view text) const noexcept { log(Severity::debug, text); }
  /// Tells it.
  void info(std::string_view text) const noexcept { log(Severity::info, text); }
  /// Tells it.
  void warning(std::string_view text) const noexcept { log(Severity::warning, text); }
  /// Tells it.
  void error(std::string_view text) const noexcept { log(Severity::error, text); }

private:
  std::weak_ptr<detail::AppCore> app_;
  std::string prefix_;
};

}  // namespace caller::task
