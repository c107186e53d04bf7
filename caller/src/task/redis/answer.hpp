// What the scripts say, as values. Internal to this folder.
#pragma once

#include <charconv>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <caller/task/store.hpp>

#include "link.hpp"

namespace caller::task::redis {

/// The identity of a call as it is stored, and back.
std::string compact(const std::string& call_id);
std::string expanded(const std::string& stored);

/// Hashes as one argument of a script.
std::string packed(const std::vector<std::string>& hashes);

/// The first of several texts in one, each behind its length, which is taken away from `rest`.
/// Errors: StateBackendError when there is none.
std::string_view cut(std::string_view& rest);

/// A time in what the server counts; whatever is more than nothing stays so.
std::string micros(std::chrono::nanoseconds t);

/// What calls may have in common, for the steps that add (lua/life.cpp): MessagePack.
std::string rest_of(const NewInvocation& c);
bool same_rest(const NewInvocation& a, const NewInvocation& b);

/// Longer arguments are kept outside of the record.
inline constexpr std::size_t kLongInRecord = 256;
/// There is nothing to do for it but to store its record and to queue it: those, if the rest is the same, are added as
/// records that are made here.
bool is_plain(const NewInvocation& c);
/// The fields of such a record that calls with the same rest share, and what is its own, before them. What only the
/// server knows, it adds: b, n and z.
std::string common_of(const NewInvocation& c);
std::string own_of(const NewInvocation& c);

/// A record as it is stored (lua/prelude.cpp): MessagePack. `args`, `outcome`: what is too long to be in it.
/// `step`: gets the name of the one that made the last change.
/// Errors: StateBackendError when it is none; of a field that makes no sense there is nothing.
InvocationRecord record_of(std::string id, std::string_view bytes, std::string args, std::string outcome,
                           std::string* step = nullptr);

/// What a script answered, read from the front. Errors: StateBackendError when there is something else.
class Answer {
public:
  explicit Answer(Reply& reply) : list_(reply.list) {
    if (reply.kind != Reply::Kind::list || list_.empty()) wrong();
    what_ = text();
  }
  const std::string& what() const noexcept { return what_; }
  bool more() const noexcept { return at_ < list_.size(); }
  std::string text() {
    if (!more() || list_[at_].kind != Reply::Kind::text) wrong();
    return std::move(list_[at_++].text);
  }
  template <class N = std::int64_t>
  N number() {
    const std::string t = text();
    N value{};
    const auto [end, error] = std::from_chars(t.data(), t.data() + t.size(), value);
    if (error != std::errc() || end != t.data() + t.size()) wrong();
    return value;
  }
  Time time() { return Time(std::chrono::microseconds(number())); }
  Status status() {
    const auto n = number();
    if (n < 0 || n >= static_cast<std::int64_t>(kStatusCount)) wrong();
    return static_cast<Status>(n);
  }
  InvocationRecord record(std::string* step = nullptr) {
    std::string id = text();
    const std::string bytes = text();
    std::string args = text();
    return record_of(std::move(id), bytes, std::move(args), text(), step);
  }
  std::vector<InvocationRecord> records() {
    std::vector<InvocationRecord> out;
    while (more()) out.push_back(record());
    return out;
  }

private:
  [[noreturn]] static void wrong() { throw StateBackendError("Redis gave an answer that no step of tasks gives"); }
  std::vector<Reply>& list_;
  std::size_t at_ = 0;
  std::string what_;
};

/// Errors: what a script says is wrong. `to`: of a change.
void check(Answer& a, Status to = {});

}  // namespace caller::task::redis
