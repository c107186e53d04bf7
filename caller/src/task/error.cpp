#include <caller/task/error.hpp>

#include <cxxabi.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <typeindex>
#include <typeinfo>
#include <unordered_map>

namespace caller::task {

namespace {

class Category final : public std::error_category {
public:
  const char* name() const noexcept override { return "caller.task"; }
  std::string message(int code) const override {
    static constexpr const char* kWords[] = {"tasks",
                                             "another try is wanted",
                                             "a value cannot be written or read",
                                             "the options of a task make no sense",
                                             "the call cannot be routed",
                                             "a call with other arguments is under way",
                                             "the invocation",
                                             "no such invocation",
                                             "the store cannot be used",
                                             "the runner cannot go on",
                                             "the runner cannot run here",
                                             "the configuration cannot be used",
                                             "a field has two parents",
                                             "already in use",
                                             "the status does not fit",
                                             "the status cannot follow",
                                             "another runner owns the invocation",
                                             "somebody else was faster",
                                             "a call would wait for itself",
                                             "the invocation is being taken",
                                             "no such task",
                                             "the task failed",
                                             "the invocation was cancelled",
                                             "the time is over",
                                             "the worker's process ended",
                                             "what is stored makes no sense"};
    const auto n = static_cast<std::size_t>(code);
    return n >= 1 && n <= std::size(kWords) ? kWords[n - 1] : "unknown error " + std::to_string(code);
  }
};

ErrorDetails with(ErrorDetails first, ErrorDetails more) {
  first.insert(first.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  return first;
}

std::string detail_of(const ErrorDetails& details, std::string_view key) {
  for (const auto& [k, value] : details)
    if (k == key) return value;
  return {};
}

}  // namespace

const std::error_category& error_category() noexcept {
  static const Category category;
  return category;
}

TaskingError::TaskingError(Errc code, std::string text, ErrorDetails details)
    : std::system_error(make_error_code(code)), text_(std::move(text)), details_(std::move(details)) {}
TaskingError::~TaskingError() = default;
std::string TaskingError::detail(std::string_view key) const { return detail_of(details_, key); }

RetryError::RetryError(const std::string& text) : TaskingError(Errc::retry, text) {}
RetryError::~RetryError() = default;
SerializationError::SerializationError(const std::string& text) : TaskingError(Errc::serialization, text) {}
SerializationError::~SerializationError() = default;

TaskError::TaskError(const std::string& task_id, const std::string& text, Errc code, ErrorDetails more)
    : TaskingError(code, text, with({{"task_id", task_id}}, std::move(more))) {}
TaskError::~TaskError() = default;
InvalidTaskOptionsError::InvalidTaskOptionsError(const std::string& task_id, const std::string& text)
    : TaskError(task_id, text, Errc::invalid_task_options) {}
InvalidTaskOptionsError::~InvalidTaskOptionsError() = default;
UnknownTaskError::UnknownTaskError(const std::string& task_id, const std::string& text)
    : TaskError(task_id, text, Errc::unknown_task) {}
UnknownTaskError::~UnknownTaskError() = default;
TaskRoutingError::TaskRoutingError(const std::string& task_id, const std::string& text, Errc code, ErrorDetails more)
    : TaskError(task_id, text, code, std::move(more)) {}
TaskRoutingError::~TaskRoutingError() = default;
InvocationConcurrencyWithDifferentArgumentsError::InvocationConcurrencyWithDifferentArgumentsError(
    const std::string& task_id, const std::string& existing_id, const std::string& difference)
    : TaskRoutingError(
          task_id,
          "task " + task_id + ": " +
              (existing_id.empty()
                   ? "two calls made at once have the same key and other arguments: "
                   : "invocation " + existing_id + " of the same key is under way with other arguments: ") +
              difference,
          Errc::different_arguments, {{"existing_invocation_id", existing_id}, {"difference", difference}}) {}
InvocationConcurrencyWithDifferentArgumentsError::~InvocationConcurrencyWithDifferentArgumentsError() = default;

InvocationError::InvocationError(const std::string& invocation_id, const std::string& text, Errc code,
                                 ErrorDetails more)
    : TaskingError(code, text, with({{"invocation_id", invocation_id}}, std::move(more))) {}
InvocationError::~InvocationError() = default;
InvocationCancelledError::InvocationCancelledError(const std::string& invocation_id)
    : InvocationError(invocation_id, "invocation " + invocation_id + " was cancelled", Errc::cancelled) {}
InvocationCancelledError::~InvocationCancelledError() = default;
TaskTimeoutError::TaskTimeoutError(const std::string& invocation_id, const std::string& text)
    : InvocationError(invocation_id, text, Errc::timed_out) {}
TaskTimeoutError::~TaskTimeoutError() = default;
WorkerCrashedError::WorkerCrashedError(const std::string& invocation_id, const std::string& task_id,
                                       const std::string& end)
    : InvocationError(
          invocation_id,
          "the process that executed invocation " + invocation_id + " of task " + task_id + " ended: " + end,
          Errc::worker_crashed, {{"task_id", task_id}, {"end", end}}) {}
WorkerCrashedError::~WorkerCrashedError() = default;
PendingInvocationLockError::PendingInvocationLockError(const std::string& invocation_id)
    : InvocationError(invocation_id, "invocation " + invocation_id + " is being taken by another runner",
                      Errc::pending_lock) {}
PendingInvocationLockError::~PendingInvocationLockError() = default;
InvocationStatusError::InvocationStatusError(const std::string& invocation_id, const std::string& text, Errc code,
                                             ErrorDetails more)
    : InvocationError(invocation_id, text, code, std::move(more)) {}
InvocationStatusError::~InvocationStatusError() = default;
InvocationStatusTransitionError::InvocationStatusTransitionError(const std::string& invocation_id, Status from,
                                                                 Status to)
    : InvocationStatusError(invocation_id,
                            "invocation " + invocation_id + " is " + std::string(task::name(from)) +
                                ", which cannot become " + std::string(task::name(to)),
                            Errc::status_transition,
                            {{"from", std::string(task::name(from))}, {"to", std::string(task::name(to))}}) {}
InvocationStatusTransitionError::~InvocationStatusTransitionError() = default;
InvocationStatusOwnershipError::InvocationStatusOwnershipError(const std::string& invocation_id, Status status,
                                                               const std::string& owner, const std::string& runner)
    : InvocationStatusError(invocation_id,
                            "invocation " + invocation_id + " (" + std::string(task::name(status)) + ") belongs to " +
                                (owner.empty() ? "no runner" : "runner " + owner) + ", not to " + runner,
                            Errc::status_ownership,
                            {{"status", std::string(task::name(status))}, {"owner", owner}, {"runner", runner}}) {}
InvocationStatusOwnershipError::~InvocationStatusOwnershipError() = default;
InvocationStatusRaceConditionError::InvocationStatusRaceConditionError(const std::string& invocation_id,
                                                                       Status expected, Status found)
    : InvocationStatusError(
          invocation_id,
          "invocation " + invocation_id + " was expected to be " + std::string(task::name(expected)) + " and is " +
              std::string(task::name(found)) + ": somebody else was faster",
          Errc::status_race,
          {{"expected", std::string(task::name(expected))}, {"found", std::string(task::name(found))}}) {}
InvocationStatusRaceConditionError::~InvocationStatusRaceConditionError() = default;

StateBackendError::StateBackendError(const std::string& text, Errc code, ErrorDetails details)
    : TaskingError(code, text, std::move(details)) {}
StateBackendError::~StateBackendError() = default;
InvocationNotFoundError::InvocationNotFoundError(const std::string& invocation_id)
    : StateBackendError("there is no invocation " + invocation_id, Errc::invocation_not_found,
                        {{"invocation_id", invocation_id}}) {}
InvocationNotFoundError::~InvocationNotFoundError() = default;

UnreadableError::UnreadableError(const std::string& text) : StateBackendError(text, Errc::unreadable) {}
UnreadableError::~UnreadableError() = default;

RunnerError::RunnerError(const std::string& text, Errc code) : TaskingError(code, text) {}
RunnerError::~RunnerError() = default;
RunnerNotExecutableError::RunnerNotExecutableError(const std::string& text)
    : RunnerError(text, Errc::runner_not_executable) {}
RunnerNotExecutableError::~RunnerNotExecutableError() = default;
ConfigError::ConfigError(const std::string& text, Errc code) : TaskingError(code, text) {}
ConfigError::~ConfigError() = default;
ConfigMultiInheritanceError::ConfigMultiInheritanceError(const std::string& text)
    : ConfigError(text, Errc::config_multi_inheritance) {}
ConfigMultiInheritanceError::~ConfigMultiInheritanceError() = default;
AlreadyInitializedError::AlreadyInitializedError(const std::string& text)
    : TaskingError(Errc::already_initialized, text) {}
AlreadyInitializedError::~AlreadyInitializedError() = default;
CycleDetectedError::CycleDetectedError(const std::string& path)
    : TaskingError(Errc::cycle_detected, "the call would wait for itself: " + path, {{"path", path}}) {}
CycleDetectedError::~CycleDetectedError() = default;

TaskFailed::TaskFailed(std::shared_ptr<const ExceptionRecord> record)
    : TaskingError(Errc::task_failed, record->type + ": " + record->message), record_(std::move(record)) {}
TaskFailed::~TaskFailed() = default;

// ---- crossing processes ----

namespace {

using Make = std::function<std::exception_ptr(const ExceptionRecord&)>;

struct ExceptionTypes {
  std::mutex mutex;
  std::unordered_map<std::type_index, std::string> names;
  std::map<std::string, Make, std::less<>> makers;

  void add(const std::type_info& type, std::string name, Make make) {
    const std::lock_guard lock(mutex);
    names.insert_or_assign(std::type_index(type), name);
    makers.insert_or_assign(std::move(name), std::move(make));
  }
  template <class E>
  void standard() {
    add(typeid(E), detail::type_name(typeid(E)),
        [](const ExceptionRecord& r) { return detail::with_causes(E(r.message), r); });
  }
  template <class E, class F>
  void own(const char* name, F make) {
    add(typeid(E), name, [make](const ExceptionRecord& r) { return detail::with_causes(make(r), r); });
  }

  ExceptionTypes() {
    standard<std::runtime_error>();
    standard<std::logic_error>();
    standard<std::invalid_argument>();
    standard<std::domain_error>();
    standard<std::length_error>();
    standard<std::out_of_range>();
    standard<std::range_error>();
    standard<std::overflow_error>();
    standard<std::underflow_error>();
    own<std::bad_alloc>("std::bad_alloc", [](const ExceptionRecord&) { return std::bad_alloc(); });
    const auto get = [](const ExceptionRecord& r, std::string_view key) { return detail_of(r.details, key); };
    const auto status = [get](const ExceptionRecord& r, std::string_view key) {
      return status_of(get(r, key)).value_or(Status::registered);
    };
    using R = const ExceptionRecord&;
    own<TaskingError>("TaskingError", [](R r) { return TaskingError(r.message); });
    own<RetryError>("RetryError", [](R r) { return RetryError(r.message); });
    own<SerializationError>("SerializationError", [](R r) { return SerializationError(r.message); });
    own<TaskError>("TaskError", [=](R r) { return TaskError(get(r, "task_id"), r.message); });
    own<InvalidTaskOptionsError>("InvalidTaskOptionsError",
                                 [=](R r) { return InvalidTaskOptionsError(get(r, "task_id"), r.message); });
    own<UnknownTaskError>("UnknownTaskError", [=](R r) { return UnknownTaskError(get(r, "task_id"), r.message); });
    own<TaskRoutingError>("TaskRoutingError", [=](R r) { return TaskRoutingError(get(r, "task_id"), r.message); });
    own<InvocationConcurrencyWithDifferentArgumentsError>("InvocationConcurrencyWithDifferentArgumentsError", [=](R r) {
      return InvocationConcurrencyWithDifferentArgumentsError(get(r, "task_id"), get(r, "existing_invocation_id"),
                                                              get(r, "difference"));
    });
    own<InvocationError>("InvocationError", [=](R r) { return InvocationError(get(r, "invocation_id"), r.message); });
    own<InvocationCancelledError>("InvocationCancelledError",
                                  [=](R r) { return InvocationCancelledError(get(r, "invocation_id")); });
    own<WorkerCrashedError>("WorkerCrashedError", [=](R r) {
      return WorkerCrashedError(get(r, "invocation_id"), get(r, "task_id"), get(r, "end"));
    });
    own<TaskTimeoutError>("TaskTimeoutError",
                          [=](R r) { return TaskTimeoutError(get(r, "invocation_id"), r.message); });
    own<PendingInvocationLockError>("PendingInvocationLockError",
                                    [=](R r) { return PendingInvocationLockError(get(r, "invocation_id")); });
    own<InvocationStatusError>("InvocationStatusError",
                               [=](R r) { return InvocationStatusError(get(r, "invocation_id"), r.message); });
    own<InvocationStatusTransitionError>("InvocationStatusTransitionError", [=](R r) {
      return InvocationStatusTransitionError(get(r, "invocation_id"), status(r, "from"), status(r, "to"));
    });
    own<InvocationStatusOwnershipError>("InvocationStatusOwnershipError", [=](R r) {
      return InvocationStatusOwnershipError(get(r, "invocation_id"), status(r, "status"), get(r, "owner"),
                                            get(r, "runner"));
    });
    own<InvocationStatusRaceConditionError>("InvocationStatusRaceConditionError", [=](R r) {
      return InvocationStatusRaceConditionError(get(r, "invocation_id"), status(r, "expected"), status(r, "found"));
    });
    own<StateBackendError>("StateBackendError", [](R r) { return StateBackendError(r.message); });
    own<UnreadableError>("UnreadableError", [](R r) { return UnreadableError(r.message); });
    own<InvocationNotFoundError>("InvocationNotFoundError",
                                 [=](R r) { return InvocationNotFoundError(get(r, "invocation_id")); });
    own<RunnerError>("RunnerError", [](R r) { return RunnerError(r.message); });
    own<RunnerNotExecutableError>("RunnerNotExecutableError", [](R r) { return RunnerNotExecutableError(r.message); });
    own<ConfigError>("ConfigError", [](R r) { return ConfigError(r.message); });
    own<ConfigMultiInheritanceError>("ConfigMultiInheritanceError",
                                     [](R r) { return ConfigMultiInheritanceError(r.message); });
    own<AlreadyInitializedError>("AlreadyInitializedError", [](R r) { return AlreadyInitializedError(r.message); });
    own<CycleDetectedError>("CycleDetectedError", [=](R r) { return CycleDetectedError(get(r, "path")); });
  }
};

ExceptionTypes& exception_types() {
  static auto* types = new ExceptionTypes;  // tasks may end after static destruction has begun
  return *types;
}

/// That of an exception as the code that threw it knows it: std::throw_with_nested() derives one of its own from it.
const std::type_info& thrown_type(const std::exception& e) {
  const std::type_info& type = typeid(e);
  constexpr std::string_view kNested = "St17_Nested_exceptionI";
  const auto* const derived = dynamic_cast<const abi::__vmi_class_type_info*>(&type);
  return derived && std::string_view(type.name()).starts_with(kNested) ? *derived->__base_info[0].__base_type : type;
}

ExceptionRecord record_of(const std::exception_ptr& error, int depth);

void add_cause(ExceptionRecord& record, const std::nested_exception& nested, int depth) {
  constexpr int kDeepest = 16;
  if (const auto inner = nested.nested_ptr(); inner && depth < kDeepest)
    record.cause = std::make_shared<const ExceptionRecord>(record_of(inner, depth + 1));
}

ExceptionRecord record_of(const std::exception_ptr& error, int depth) {
  ExceptionRecord record;
  try {
    std::rethrow_exception(error);
  } catch (const TaskFailed& e) {
    return e.record();  // it only passes through here
  } catch (const TaskingError& e) {
    record.type = e.name();
    record.message = e.what();
    record.details = e.details();
    if (const auto* nested = dynamic_cast<const std::nested_exception*>(&e)) add_cause(record, *nested, depth);
  } catch (const std::exception& e) {
    record.message = e.what();
    const std::type_info& type = thrown_type(e);
    auto& types = exception_types();
    {
      const std::lock_guard lock(types.mutex);
      if (const auto it = types.names.find(std::type_index(type)); it != types.names.end()) record.type = it->second;
    }
    if (record.type.empty()) record.type = detail::type_name(type);
    if (const auto* nested = dynamic_cast<const std::nested_exception*>(&e)) add_cause(record, *nested, depth);
  } catch (const std::string& s) {
    record.type = "std::string";
    record.message = s;
  } catch (const char* s) {
    record.type = "const char*";
    record.message = s ? s : "";
  } catch (...) {
    const std::type_info* type = abi::__cxa_current_exception_type();
    record.type = type ? detail::type_name(*type) : "unknown";
    record.message = "an exception that is no std::exception";
  }
  return record;
}

nlohmann::json json_of(const ExceptionRecord& r) {
  nlohmann::json out = {{"type", r.type}, {"message", r.message}};
  if (!r.details.empty()) {
    auto& details = out["details"] = nlohmann::json::array();
    for (const auto& [key, value] : r.details) details.push_back({key, value});
  }
  if (r.cause) out["cause"] = json_of(*r.cause);
  return out;
}

ExceptionRecord from(const nlohmann::json& json, int depth) {
  ExceptionRecord r;
  r.type = json.at("type").get<std::string>();
  r.message = json.at("message").get<std::string>();
  if (const auto it = json.find("details"); it != json.end())
    for (const auto& pair : *it) r.details.emplace_back(pair.at(0).get<std::string>(), pair.at(1).get<std::string>());
  if (const auto it = json.find("cause"); it != json.end() && depth < 32)
    r.cause = std::make_shared<const ExceptionRecord>(from(*it, depth + 1));
  return r;
}

}  // namespace

std::string detail::type_name(const std::type_info& type) {
  int status = 0;
  char* text = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  std::string out = status == 0 && text ? text : type.name();
  std::free(text);
  return out;
}

void detail::register_exception(const std::type_info& type, std::string name,
                                std::function<std::exception_ptr(const ExceptionRecord&)> make) {
  exception_types().add(type, std::move(name), std::move(make));
}

ExceptionRecord ExceptionRecord::of(const std::exception_ptr& error) {
  if (!error) return {"none", "no exception", {}, nullptr};
  return record_of(error, 0);
}

std::exception_ptr ExceptionRecord::exception() const {
  Make make;
  {
    auto& types = exception_types();
    const std::lock_guard lock(types.mutex);
    if (const auto it = types.makers.find(type); it != types.makers.end()) make = it->second;
  }
  if (make) return make(*this);
  return std::make_exception_ptr(TaskFailed(std::make_shared<const ExceptionRecord>(*this)));
}

std::string ExceptionRecord::to_json() const {
  return json_of(*this).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

ExceptionRecord ExceptionRecord::from_json(std::string_view json) {
  try {
    return from(nlohmann::json::parse(json), 0);
  } catch (const nlohmann::json::exception& e) {
    throw SerializationError(std::string("a stored exception cannot be read: ") + e.what());
  }
}

}  // namespace caller::task
