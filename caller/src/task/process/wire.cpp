// What version of their language a runner and its worker speak: a digest of all that may differ between two builds.
#include "wire.hpp"

#include <iterator>

#include "../app.hpp"

namespace caller::task::detail {

namespace {

/// To be raised when a frame's contents or meaning change in a way that describe() does not show.
constexpr int kRevision = 1;

/// How a Packer writes it.
template <class T>
void describe(std::string& out) {
  if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
    out += std::is_enum_v<T> ? 'e' : std::is_floating_point_v<T> ? 'f' : std::is_signed_v<T> ? 'i' : 'u';
    out += std::to_string(sizeof(T));
  } else if constexpr (IsDuration<T>::value) {
    out += 'd' + std::to_string(T::period::num) + '/' + std::to_string(T::period::den);
    describe<typename T::rep>(out);
  } else if constexpr (IsTimePoint<T>::value) {
    out += 't';
    describe<typename T::duration>(out);
  } else if constexpr (IsOptional<T>::value) {
    out += '?';
    describe<typename T::value_type>(out);
  } else if constexpr (HasFields<T>) {
    T value{};
    out += '{';
    std::apply(
        [&](const auto&... f) {
          ((out += f.first, out += ':', describe<std::remove_cvref_t<decltype(f.second)>>(out), out += ' '), ...);
        },
        caller_task_fields(value));
    out += '}';
  } else if constexpr (IsTuple<T>::value) {
    out += '(';
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (describe<std::remove_cvref_t<std::tuple_element_t<I, T>>>(out), ...);
    }(std::make_index_sequence<std::tuple_size_v<T>>());
    out += ')';
  } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    out += 's';
  } else {
    out += '[';
    describe<typename T::value_type>(out);
    out += ']';
  }
}

template <class R, class... A>
void describe_operation(std::string& out, Pending<R> (Store::*)(A...)) {
  (describe<std::decay_t<A>>(out), ...);
  out += '>';
  if constexpr (!std::is_void_v<R>) describe<R>(out);
}

struct Named {
  const char* name;
  std::uint8_t number;
  void (*describe)(std::string&);
};
template <auto F>
constexpr Named named(const char* name) {
  return {name, StoreOperations::number<F>(), [](std::string& out) { describe_operation(out, F); }};
}
#define CALLER_NAMED(operation) named<&Store::operation>(#operation)
constexpr Named kNamed[] = {
    CALLER_NAMED(add),       CALLER_NAMED(take),          CALLER_NAMED(change),       CALLER_NAMED(get),
    CALLER_NAMED(history),   CALLER_NAMED(ended),         CALLER_NAMED(final_record), named<kListRecords>("list"),
    CALLER_NAMED(counts),    CALLER_NAMED(wait_for),      CALLER_NAMED(check_cycle),  CALLER_NAMED(cancel),
    CALLER_NAMED(heartbeat), CALLER_NAMED(forget_runner), CALLER_NAMED(runners),      CALLER_NAMED(recover),
    CALLER_NAMED(purge),     CALLER_NAMED(value),         CALLER_NAMED(set_value),    CALLER_NAMED(values),
    CALLER_NAMED(put_data),  CALLER_NAMED(data),          CALLER_NAMED(code_ended)};
#undef CALLER_NAMED
static_assert(std::size(kNamed) == StoreOperations::size, "an operation of StoreOperations has no name here");

}  // namespace

const std::string& wire_version() {
  static const std::string version = [] {
    std::string all = std::to_string(kRevision) + ' ' + std::to_string(static_cast<int>(kLastFrame)) + '\n';
    for (const StatusRule& rule : kStatusRules) all.append(rule.name) += ' ';
    for (const Named& one : kNamed) {
      all += '\n' + std::to_string(one.number) + ' ' + one.name + ' ';
      one.describe(all);
    }
    constexpr std::size_t kDigits = 12;
    return sha1_of(all).substr(0, kDigits);
  }();
  return version;
}

std::string mismatch_in(Unpacker hello) {
  std::string theirs;
  try {
    theirs = hello.get<std::string>();
  } catch (const SerializationError&) {  // it is from before there were versions
  }
  if (theirs == wire_version()) return {};
  constexpr std::string_view kDigits = "0123456789abcdef";
  const bool is_one = theirs.size() == wire_version().size() && theirs.find_first_not_of(kDigits) == std::string::npos;
  return "it speaks " + (is_one ? "version " + theirs : std::string("an unnamed version")) +
         " of the language between a runner and its workers, and this runner version " + wire_version() +
         "; both must be of one build of this library: start the runner again, or correct its `worker`";
}

}  // namespace caller::task::detail
