// Where the runtime's own words go: the log, and errors that nobody can observe.
#include "log.hpp"

#include <cstdio>

namespace caller {
namespace detail {

std::atomic<bool> process_log_set{false};

namespace {

struct Handlers {
  std::mutex mutex;
  std::shared_ptr<const ErrorHandler> error;
  std::shared_ptr<const LogHandler> log;
};
Handlers& handlers() {
  static auto* h = new Handlers;  // never destroyed: threads may outlive static destruction
  return *h;
}

template <class Handler>
void replace(std::shared_ptr<const Handler> Handlers::* which, Handler handler) {
  std::shared_ptr<const Handler> made;
  if (handler) made = std::make_shared<const Handler>(std::move(handler));
  std::lock_guard lock(handlers().mutex);
  std::swap(handlers().*which, made);
}

struct Words {
  std::string text = "unknown exception";
  bool cancelled = false;  // never an error, for a log
};
Words describe(const std::exception_ptr& error) {
  Words words;
  try {
    std::rethrow_exception(error);
  } catch (const PendingCancelled& e) {
    words = {e.what(), true};
  } catch (const std::exception& e) {
    words.text = e.what();
  } catch (...) {  // not a std::exception: nothing more to say
  }
  return words;
}

}  // namespace

void write_log(const Voice* voice, LogLevel level, const char* what, std::string_view detail) noexcept {
  try {
    std::string text;
    if (voice) text.append("Caller \"").append(voice->name).append("\": ");
    text.append(what).append(detail);
    if (voice && voice->log) return voice->log(level, text);
    std::shared_ptr<const LogHandler> handler;
    {
      std::lock_guard lock(handlers().mutex);
      handler = handlers().log;
    }
    if (handler) (*handler)(level, text);
  } catch (...) {  // a log that fails must not fail what it tells of
  }
}

void report_error(Core* core, const char* where, const std::exception_ptr& error) noexcept {
  if (!core) core = this_thread().core;
  report_error_to(core ? core->voice.get() : nullptr, where, error);
}

void report_error_to(const Voice* voice, const char* where, const std::exception_ptr& error) noexcept {
  const bool logged = log_wanted(voice);
  try {
    if (logged) {
      const Words words = describe(error);
      write_log(voice, words.cancelled ? LogLevel::debug : LogLevel::error, where, ": " + words.text);
    }
    if (voice && voice->error_handler) return voice->error_handler(where, error);
    std::shared_ptr<const ErrorHandler> handler;
    {
      std::lock_guard lock(handlers().mutex);
      handler = handlers().error;
    }
    if (handler) return (*handler)(where, error);
    if (logged) return;
    const Words words = describe(error);
    if (!words.cancelled) std::fprintf(stderr, "caller: unhandled error in %s: %s\n", where, words.text.c_str());
  } catch (...) {  // a handler that throws has no one left to tell
  }
}

}  // namespace detail

void set_error_handler(ErrorHandler handler) { detail::replace(&detail::Handlers::error, std::move(handler)); }

void set_log_handler(LogHandler handler) {
  const bool set = static_cast<bool>(handler);
  detail::replace(&detail::Handlers::log, std::move(handler));
  detail::process_log_set.store(set, std::memory_order_relaxed);
}

const char* to_string(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::debug:
      return "debug";
    case LogLevel::warning:
      return "warning";
    case LogLevel::error:
      return "error";
  }
  return "unknown";
}

}  // namespace caller
