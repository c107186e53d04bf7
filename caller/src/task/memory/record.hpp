// What the store in memory keeps of an invocation, and what it is linked into. Internal to this folder.
//
// A record belongs to the store from insert() to forget(). It is in one list of its queue while it waits to be taken,
// and in one of its runner while it is owned; both go through the record itself, so that a step of its life allocates
// nothing.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <caller/pending.hpp>
#include <caller/task/store.hpp>

namespace caller::task::memory {

using Steady = std::chrono::steady_clock;

struct Record;

/// Two pointers of a record, and the list that goes through them.
struct Link {
  Record* before = nullptr;
  Record* next = nullptr;
};
template <Link Record::* Where>
class Chain {
public:
  bool empty() const noexcept { return first_ == nullptr; }
  Record* first() const noexcept { return first_; }
  void push_back(Record& r) noexcept {
    r.*Where = {last_, nullptr};
    (last_ ? (last_->*Where).next : first_) = &r;
    last_ = &r;
  }
  void erase(Record& r) noexcept {
    const Link link = std::exchange(r.*Where, {});
    (link.before ? (link.before->*Where).next : first_) = link.next;
    (link.next ? (link.next->*Where).before : last_) = link.before;
  }
  template <class F>
  void each(F f) const {
    for (Record* r = first_; r; r = (r->*Where).next) f(*r);
  }

private:
  Record* first_ = nullptr;
  Record* last_ = nullptr;
};

/// A step of a life. `who`: the name of its runner, kept by the store; null: nobody.
struct Step {
  Time at;
  const std::string* who = nullptr;
  Status status{};
};
/// The first ones, which most never go beyond, are in the record.
class History {
public:
  void add(const Step& s) {
    if (size_ < first_.size())
      first_[size_] = s;
    else
      more_.push_back(s);
    ++size_;
  }
  std::vector<HistoryEntry> entries() const {
    std::vector<HistoryEntry> out;
    out.reserve(size_);
    for (std::size_t i = 0; i < size_; ++i) {
      const Step& s = i < first_.size() ? first_[i] : more_[i - first_.size()];
      out.push_back({s.status, s.who ? *s.who : std::string(), s.at});
    }
    return out;
  }

private:
  std::array<Step, 4> first_;
  std::size_t size_ = 0;
  std::vector<Step> more_;
};

struct Group;
/// That somebody waits for the end of one.
struct Wait {
  Group* group = nullptr;
  std::size_t place = 0;
  Wait* next = nullptr;  // of the same record
};
/// Somebody who waits for the ends of some, and what is known of them already. It is in the store's list until all have
/// ended, or nobody wants to know any more.
struct Group {
  std::vector<Wait> waits;  // never grows: records point to them
  std::size_t left = 0;
  std::variant<Pending<void>, Pending<InvocationRecord>, Pending<std::vector<Ended>>> whom;
  InvocationRecord record{};   // of the one
  std::vector<Ended> ended{};  // of many
  std::list<Group>::iterator self{};

  bool unwanted() const {
    return std::visit([](const PendingBase& p) { return p.done(); }, whom);
  }
  /// Without a lock.
  void tell() {
    if (const auto* one = std::get_if<0>(&whom)) {
      (void)one->set_result();
    } else if (const auto* shown = std::get_if<1>(&whom)) {
      if (is_final(record.status))
        (void)shown->set_result(std::move(record));
      else  // purged
        (void)shown->set_exception(std::make_exception_ptr(InvocationNotFoundError(record.id)));
    } else {
      (void)std::get<2>(whom).set_result(std::move(ended));
    }
  }
};

struct Owner;
struct Lane;
struct Record : InvocationRecord {  // without owner, and with no workflow_id where that is its own id
  bool cancel_requested = false;
  std::uint64_t number = 0;  // in the order made
  std::uint64_t ticket = 0;  // in the order queued
  Lane* lane = nullptr;      // where it waits to be taken
  Link in_lane{};
  Owner* runner = nullptr;  // while is_owned(status)
  Link of_runner{};
  Steady::time_point due{};
  Wait* waits = nullptr;  // for its end
  std::vector<Record*> waits_for{}, waited_by{};
  History history{};
};

/// What waits in one queue with one priority, the oldest first.
struct Lane : Chain<&Record::in_lane> {};
struct Queue {
  std::map<int, Lane, std::greater<>> by_priority;
};

struct Owner {
  const std::string* name = nullptr;
  RunnerRecord told;
  Steady::time_point lease_until{};
  Chain<&Record::of_runner> owned;
};

/// Records by their ids. Not noexcept: so the library's tables keep the numbers, and need not look at other records.
struct IdHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view id) const { return std::hash<std::string_view>{}(id); }
  std::size_t operator()(const Record* r) const { return (*this)(std::string_view(r->id)); }
};
struct SameId {
  using is_transparent = void;
  static std::string_view id(std::string_view id) noexcept { return id; }
  static std::string_view id(const Record* r) noexcept { return r->id; }
  template <class A, class B>
  bool operator()(const A& a, const B& b) const noexcept {
    return id(a) == id(b);
  }
};

struct Value {
  std::string bytes;
  Steady::time_point until{};
  bool over() const { return until != Steady::time_point{} && until <= Steady::now(); }
};

struct Data {
  std::optional<std::string> bytes;  // none: it is referred to and was not put yet
  std::size_t references = 0;
  Steady::time_point unused{};  // since when, without references
};

}  // namespace caller::task::memory
