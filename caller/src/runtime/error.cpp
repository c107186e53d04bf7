#include <caller/error.hpp>

#include <sstream>

namespace caller {
namespace {

class Category final : public std::error_category {
public:
  const char* name() const noexcept override { return "caller"; }
  std::string message(int value) const override {
    switch (static_cast<Errc>(value)) {
      case Errc::no_running_caller:
        return "there is no Caller in this thread; make one (`Caller loop(caller::manual)`), or do it in the work of "
               "one";
      case Errc::caller_exists:
        return "there is a Caller already";
      case Errc::caller_stopped:
        return "the Caller has stopped";
      case Errc::not_done:
        return "the Pending is not done";
      case Errc::cancelled:
        return "cancelled";
      case Errc::timed_out:
        return "timed out";
      case Errc::mismatch:
        return "what was asked for does not match";
      case Errc::unsupported_backend:
        return "unsupported backend";
      case Errc::deadlock:
        return "this would wait for itself";
      case Errc::not_regular_function:
        return "not a regular function";
      case Errc::wrong_loop:
        return "belongs to another loop";
      case Errc::already_running:
        return "already running";
      case Errc::wrong_thread:
        return "wrong thread";
      case Errc::group_failed:
        return "members of the group failed";
      case Errc::not_started:
        return "not started";
      case Errc::stopped_early:
        return "ended before it was asked to";
      case Errc::receiver_exists:
        return "somebody else receives already";
      case Errc::invalid_argument:
        return "invalid argument";
    }
    return "unknown error " + std::to_string(value);
  }
};

}  // namespace

const std::error_category& error_category() noexcept {
  static const Category category;
  return category;
}

Error::Error(Errc code, const std::string& context) : std::system_error(code, context) {}
Error::~Error() = default;
NoRunningCaller::NoRunningCaller(const std::string& c) : Error(Errc::no_running_caller, c) {}
NoRunningCaller::~NoRunningCaller() = default;
CallerStopped::CallerStopped(const std::string& c) : Error(Errc::caller_stopped, c) {}
CallerStopped::~CallerStopped() = default;
PendingNotDone::PendingNotDone(const std::string& c) : Error(Errc::not_done, c) {}
PendingNotDone::~PendingNotDone() = default;
PendingCancelled::PendingCancelled(const std::string& message) : Error(Errc::cancelled, message) {}
PendingCancelled::~PendingCancelled() = default;
TimedOut::TimedOut(const std::string& c) : Error(Errc::timed_out, c) {}
TimedOut::~TimedOut() = default;
void detail::throw_timed_out(const char* wait, std::int64_t nanoseconds) {
  struct Unit {
    std::int64_t nanoseconds;
    const char* name;
  };
  Unit unit{1, "ns"};
  for (const Unit larger : {Unit{1'000, "µs"}, Unit{1'000'000, "ms"}, Unit{1'000'000'000, "s"}})
    if (nanoseconds >= larger.nanoseconds) unit = larger;
  std::ostringstream text;
  text << wait << ", after " << static_cast<double>(nanoseconds) / static_cast<double>(unit.nanoseconds) << ' '
       << unit.name;
  throw TimedOut(text.str());
}
NotRegularFunction::NotRegularFunction(const std::string& c) : Error(Errc::not_regular_function, c) {}
NotRegularFunction::~NotRegularFunction() = default;

}  // namespace caller
