// Triggers: what makes an application call its tasks by itself.
//
//   app.on(cron("0 3 * * MON-FRI", {.zone = "Europe/Paris"}), report, "daily");
//   app.on(event("order", {{"kind", "book"}}), ship, [](const Match& m) { return std::tuple(m.value<int>("number"));
//   }); app.on(all_of(status(load, Status::success), event("approved")), publish); app.emit("order", {{"kind", "book"},
//   {"number", 17}});
//
// Whatever a trigger waits for makes one invocation, however many runners see it, and whichever of them is killed.
// docs/tasks_triggers.md is the guide.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <caller/export.hpp>
#include <caller/task/codec.hpp>
#include <caller/task/error.hpp>
#include <caller/task/options.hpp>
#include <caller/task/status.hpp>
#include <caller/task/store.hpp>

namespace caller::task {

namespace detail {
class AppCore;
struct ConditionNode;
using ConditionPtr = std::shared_ptr<const ConditionNode>;
}  // namespace detail

/// A name and a value of any type that can cross, as JSON.
struct Field {
  /// Errors: SerializationError.
  template <class T>
  Field(std::string field, const T& value) : name(std::move(field)), json(to_bytes(Format::json, value)) {}
  /// Of the value.
  std::string name;
  /// The value.
  std::string json;
};
/// What an event brings with it, and what a condition asks for: a map, as JSON.
class CALLER_API Payload {
public:
  /// An empty map.
  Payload() : Payload(std::initializer_list<Field>{}) {}
  /// `{{"number", 3}, {"kind", "book"}}`
  Payload(std::initializer_list<Field> fields);
  /// One of a type of one's own. Errors: –
  template <class T>
  static Payload of(const T& value) {
    return json(to_bytes(Format::json, value));
  }
  /// Errors: SerializationError: the text is no map as JSON.
  static Payload json(std::string text);
  /// As JSON.
  const std::string& text() const noexcept { return text_; }

private:
  std::string text_;
};

/// What a condition waits for.
enum class ConditionKind : std::uint8_t {
  cron,    ///< a time
  event,   ///< an event
  change,  ///< a status, result or exception of a task's invocation
};

/// One condition that has matched, and by what.
/// Thread-safety: as any value. Errors: SerializationError from what reads a value that is not there, or is another
/// one.
struct CALLER_API MatchPart {
  std::size_t condition = 0;  ///< which one of the trigger, from 0 on, in the order in which they were written
  ConditionKind kind = ConditionKind::cron;   ///< what it waited for
  std::string source{};                       ///< an event's name, a task's id
  std::string id{};                           ///< of the event or the invocation
  Time at{};                                  ///< when it was due, emitted or changed
  Status status{};                            ///< of a change
  std::string payload{};                      ///< of an event: JSON
  std::string args{}, result{}, exception{};  ///< of an invocation: as in its InvocationRecord
  Format format = Format::json;               ///< of `args` and `result`

  /// Of the event's payload.
  template <class T>
  T value(std::string_view name) const {
    return decode<T>(Document(Format::json, payload).root().at(name));
  }
  /// The event's whole payload, as a type of one's own.
  template <class T>
  T payload_as() const {
    return from_bytes<T>(Format::json, payload);
  }
  /// Of the invocation's call.
  template <class T>
  T argument(std::string_view name) const {
    return decode<T>(Document(format, args).root().at(name));
  }
  /// Of the invocation, which has succeeded.
  template <class T>
  T result_as() const {
    return from_bytes<T>(format, result);
  }
  /// Of the invocation, which has failed.
  ExceptionRecord error() const { return ExceptionRecord::from_json(exception); }
};

/// What made a trigger act: of an all_of one part each, else one. What is asked of it is asked of the first part that
/// is of that kind. Thread-safety: as any value. Errors: SerializationError. Source: pynenc TriggerContext.
class CALLER_API Match {
public:
  /// For the library.
  Match(std::string trigger_id, std::vector<MatchPart> parts)
      : trigger_id_(std::move(trigger_id)), parts_(std::move(parts)) {}
  /// As App::on() gave it.
  const std::string& trigger_id() const noexcept { return trigger_id_; }
  /// In the order in which the conditions were written.
  const std::vector<MatchPart>& parts() const noexcept { return parts_; }
  /// Of the last of them.
  Time at() const noexcept;
  /// The first part that is an event.
  const MatchPart& event() const { return first(ConditionKind::event); }
  /// The first part that is a change of an invocation.
  const MatchPart& change() const { return first(ConditionKind::change); }
  /// See MatchPart::value(), of the event.
  template <class T>
  T value(std::string_view name) const {
    return event().value<T>(name);
  }
  /// See MatchPart::argument(), of the change.
  template <class T>
  T argument(std::string_view name) const {
    return change().argument<T>(name);
  }
  /// See MatchPart::result_as(), of the change.
  template <class T>
  T result() const {
    return change().result_as<T>();
  }

private:
  const MatchPart& first(ConditionKind kind) const;
  std::string trigger_id_;
  std::vector<MatchPart> parts_;
};

/// What a trigger waits for. Made by cron(), event(), status(), result(), exception(), all_of() and any_of().
/// Thread-safety: immutable. Errors: none. Source: pynenc TriggerCondition.
class CALLER_API Condition {
public:
  /// For the library.
  explicit Condition(detail::ConditionPtr node) : node_(std::move(node)) {}
  /// Only what `f` says yes to. What `f` throws is logged, and counts as no. Not for all_of() and any_of():
  /// ConfigError.
  Condition where(std::function<bool(const MatchPart&)> f) const;
  /// Only of calls with these arguments. For status(), result() and exception(); else ConfigError.
  Condition with_arguments(const Payload& arguments) const;
  /// As a person would write it.
  std::string text() const;
  /// For the library.
  const detail::ConditionPtr& node() const noexcept { return node_; }

private:
  detail::ConditionPtr node_;
};

/// What else there is to a time. Source: –
struct CronOptions {
  std::string zone = "UTC";  ///< as `Europe/Paris`
  /// A time that passed while no runner was there still counts for so long; of several only the last one does.
  std::chrono::seconds late = std::chrono::hours(1);
};

/// At the times that five fields say: minute, hour, day of month, month, day of week; each `*`, a number or name, a
/// range, with `/step`, or a list of such. Also `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
///
/// If both days are given, either will do. A time at a given hour that the clocks jump over is when they do; one that
/// comes twice is the first; where the hour begins with `*` the one is left out and the other counts twice. A new
/// condition waits for its next time. Errors: ConfigError says what is wrong with the text, or the zone. Source: pynenc
/// CronCondition, cron.
CALLER_API Condition cron(const std::string& fields, CronOptions options = {});

/// Whenever an event of that name is emitted whose payload has these values. Errors: none. Source: pynenc
/// EventCondition.
CALLER_API Condition event(const std::string& name, const Payload& filter = {});

namespace detail {

template <class T>
struct TaskResult;
template <template <class> class Task, class R, class... A>
struct TaskResult<Task<R(A...)>> {
  using Type = R;
};
template <class T>
concept IsTask = requires(const T& t) {
  { t.task_id() } -> std::convertible_to<std::string>;
  typename TaskResult<T>::Type;
};

/// `words`: what stands behind the task's id in text().
CALLER_API Condition change_of(const std::string& what, const std::string& task_id, std::vector<Status> statuses,
                               const std::string& words, std::vector<std::function<bool(const MatchPart&)>> only);
CALLER_API bool type_is(const MatchPart& part, const std::vector<std::string>& types);
CALLER_API std::string quoted_list(const std::vector<std::string>& texts);
CALLER_API Condition combined(bool all, std::vector<Condition> conditions);

}  // namespace detail

/// Whenever an invocation of `task` comes to one of these states, whoever brings it there. Errors: none. Source: pynenc
/// StatusCondition.
template <detail::IsTask T>
Condition status(const T& task, std::vector<Status> statuses) {
  std::string words;
  for (const Status s : statuses) words += (words.empty() ? "" : "|") + std::string(name(s));
  return detail::change_of("status", task.task_id(), std::move(statuses), words, {});
}
/// The same for one state.
template <detail::IsTask T>
Condition status(const T& task, Status one = Status::success) {
  return status(task, std::vector<Status>{one});
}

/// Whenever `task` gives a result: any, one that is equal to `wanted`, or one that `wanted(result)` says yes to.
/// Errors: none. Source: pynenc ResultCondition.
template <detail::IsTask T>
Condition result(const T& task) {
  return detail::change_of("result", task.task_id(), {Status::success}, {}, {});
}
/// The same for some results: see above.
template <detail::IsTask T, class W>
Condition result(const T& task, W wanted) {
  using R = typename detail::TaskResult<T>::Type;
  if constexpr (std::is_invocable_r_v<bool, const W&, const R&>) {
    return detail::change_of("result", task.task_id(), {Status::success}, "function",
                             {[wanted = std::move(wanted)](const MatchPart& p) { return wanted(p.result_as<R>()); }});
  } else {
    R value(std::move(wanted));
    const std::string words = "= " + to_bytes<R>(Format::json, value);
    return detail::change_of("result", task.task_id(), {Status::success}, words,
                             {[value = std::move(value)](const MatchPart& p) {
                               if constexpr (std::equality_comparable<R>)
                                 return p.result_as<R>() == value;
                               else
                                 return p.result == to_bytes<R>(p.format, value);
                             }});
  }
}

/// Whenever `task` fails: with any exception, with one whose type has one of these names (as
/// ExceptionRecord::type; what stands before the last `::` may be left out), or with one of these types
/// (`errors<std::runtime_error>()`). Errors: none. Source: pynenc ExceptionCondition.
template <detail::IsTask T>
Condition exception(const T& task, std::vector<std::string> types = {}) {
  const std::string words = types.empty() ? std::string() : detail::quoted_list(types);
  std::vector<std::function<bool(const MatchPart&)>> only;
  if (!types.empty())
    only.emplace_back([types = std::move(types)](const MatchPart& p) { return detail::type_is(p, types); });
  return detail::change_of("exception", task.task_id(), {Status::failed}, words, std::move(only));
}
/// The same for one name.
template <detail::IsTask T>
Condition exception(const T& task, const char* type) {
  return exception(task, std::vector<std::string>{type});
}
/// The same for types: see above.
template <detail::IsTask T>
Condition exception(const T& task, std::vector<ErrorType> types) {
  std::vector<std::string> names;
  for (const ErrorType& t : types) names.push_back(t.name);
  return detail::change_of("exception", task.task_id(), {Status::failed}, detail::quoted_list(names),
                           {[types = std::move(types)](const MatchPart& p) {
                             const std::exception_ptr error = p.error().exception();
                             for (const ErrorType& t : types)
                               if (t.matches(error)) return true;
                             return false;
                           }});
}

/// When each of them has matched since the trigger last acted; what matched last of each is what counts. Errors:
/// ConfigError for none. Source: pynenc CompositeLogic.AND.
template <std::same_as<Condition>... C>
Condition all_of(Condition first, C... more) {
  return detail::combined(true, {std::move(first), std::move(more)...});
}
/// When one of them has. Alternatives of a trigger are for themselves: an all_of() in one does not forget what it has
/// seen when another one acts. Errors: as all_of(). Source: pynenc CompositeLogic.OR.
template <std::same_as<Condition>... C>
Condition any_of(Condition first, C... more) {
  return detail::combined(false, {std::move(first), std::move(more)...});
}

/// A trigger as the store, or this process, knows it.
struct TriggerRecord {
  std::string id;                   ///< as App::on() gave it
  std::string task_id;              ///< what it calls
  std::string when;                 ///< Condition::text()
  bool here = false;                ///< this process has declared it
  std::optional<Time> next{};       ///< when its clock is due next; of those that are here
  std::vector<std::string> seen{};  ///< of an all_of: texts of the conditions that have matched; of those that are here
};

namespace detail {
/// For tests: the time as cron conditions see it. Setting it makes runners look at it. Thread-safety: any thread.
CALLER_API void set_trigger_clock(AppCore& app, std::function<Time()> now);
}  // namespace detail

}  // namespace caller::task
