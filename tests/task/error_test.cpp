// Exceptions that cross processes.
#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

#include <caller/task/error.hpp>

using namespace caller::task;

namespace {

template <class E>
std::exception_ptr crossed(const E& e) {
  const auto record = ExceptionRecord::of(std::make_exception_ptr(e));
  return ExceptionRecord::from_json(record.to_json()).exception();
}

template <class E>
void comes_back(const E& e) {
  try {
    std::rethrow_exception(crossed(e));
  } catch (const E& back) {
    CHECK(typeid(back) == typeid(E));
    CHECK(std::string(back.what()) == e.what());
  }
}

struct Mine : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct Unknown : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace

TEST_CASE("an exception comes back with its type, its words and its data") {
  comes_back(std::out_of_range("x is \"9\"\n"));
  comes_back(RetryError("later"));
  comes_back(TaskError("a.b", "wrong"));
  comes_back(InvalidTaskOptionsError("a.b", "max_retries: -1"));
  comes_back(InvocationConcurrencyWithDifferentArgumentsError("a.b", "id", "x: 1, not 2"));
  comes_back(InvocationStatusTransitionError("id", Status::success, Status::running));
  comes_back(InvocationStatusOwnershipError("id", Status::running, "r1", "r2"));
  comes_back(InvocationStatusRaceConditionError("id", Status::registered, Status::pending));
  comes_back(InvocationNotFoundError("id"));
  comes_back(UnreadableError("what"));
  comes_back(CycleDetectedError("a -> b -> a"));
  comes_back(PendingInvocationLockError("id"));
  comes_back(InvocationCancelledError("id"));
  comes_back(ConfigMultiInheritanceError("x"));
  register_exception<Mine>();
  comes_back(Mine("of the user"));
}

TEST_CASE("an exception of a type that is not known here keeps its type's name, its words and its causes") {
  std::exception_ptr error;
  try {
    try {
      throw Unknown("inner");
    } catch (...) {
      std::throw_with_nested(Unknown("outer"));
    }
  } catch (...) {
    error = std::current_exception();
  }
  const auto record = ExceptionRecord::from_json(ExceptionRecord::of(error).to_json());
  REQUIRE(record.cause);
  CHECK(record.cause->message == "inner");
  try {
    record.rethrow();
  } catch (const TaskFailed& failed) {
    CHECK(failed.record().message == "outer");
    CHECK(failed.type().find("Unknown") != std::string::npos);
    // Through a second process: still itself.
    CHECK(ExceptionRecord::of(std::current_exception()).message == "outer");
  }
}

TEST_CASE("an exception that was thrown with another one nested in it keeps its type, and its causes when it is back") {
  register_exception<Mine>();
  const auto nested = [](auto e) {
    try {
      try {
        throw std::out_of_range("cause");
      } catch (...) {
        std::throw_with_nested(e);
      }
    } catch (...) {
      return std::current_exception();
    }
  };
  const auto check = [&](auto e, const char* type) {
    const ExceptionRecord record = ExceptionRecord::of(nested(e));
    CHECK(record.type == type);
    REQUIRE(record.cause);
    CHECK(record.cause->type == "std::out_of_range");
    try {
      ExceptionRecord::from_json(record.to_json()).rethrow();
    } catch (const decltype(e)& back) {
      CHECK(std::string(back.what()) == e.what());
      CHECK_THROWS_AS(std::rethrow_if_nested(back), std::out_of_range);
      CHECK(ExceptionRecord::of(std::current_exception()).type == type);
    }
  };
  check(Mine("mine"), detail::type_name(typeid(Mine)).c_str());
  check(std::invalid_argument("x"), "std::invalid_argument");
  check(StateBackendError("gone"), "StateBackendError");
  const ExceptionRecord unknown = ExceptionRecord::of(nested(Unknown("u")));
  CHECK(unknown.type == detail::type_name(typeid(Unknown)));
}

TEST_CASE("what is no std::exception crosses, too") {
  for (const auto& error : {std::make_exception_ptr(std::string("text")), std::make_exception_ptr(17),
                            std::make_exception_ptr("literal"), std::exception_ptr()})
    CHECK_THROWS_AS(ExceptionRecord::from_json(ExceptionRecord::of(error).to_json()).rethrow(), TaskFailed);
}

TEST_CASE("a stored exception that is nonsense is an error of its own") {
  for (const char* text : {"", "{", "[]", "{\"type\":1}", "{\"type\":\"a\",\"message\":\"b\",\"details\":[1]}"})
    CHECK_THROWS_AS((void)ExceptionRecord::from_json(text), SerializationError);
  std::string deep = "{\"type\":\"a\",\"message\":\"b\"}";
  for (int i = 0; i < 1000; ++i) deep = "{\"type\":\"a\",\"message\":\"b\",\"cause\":" + deep + "}";
  CHECK(ExceptionRecord::from_json(deep).type == "a");
}
