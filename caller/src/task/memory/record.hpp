// What the store in memory keeps of an invocation, and what it is linked into. Internal to this folder.
//
// A record belongs to the store from insert() to forget(). It is in one list of its queue while it waits to be taken,
// and in one of its runner while it is owned; both go through the record itself, so that a step of its life allocates
// nothing. A record is one block with its texts behind it, as small as can be: where there are many, to bring them into
// the processor's cache is most of the work.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <caller/pending.hpp>
#include <caller/task/store.hpp>

#include "../local.hpp"

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

/// A step of a life. `who`: the number of its runner's name, kept by the store; 0: nobody.
struct Step {
  Time at;
  std::uint32_t who = 0;
  Status status{};
};
/// The first ones, which most never go beyond, are in the record.
class History {
public:
  void add(const Step& s) {
    if (size_ < first_.size()) {
      first_[size_] = s;
    } else {
      if (!more_) more_ = std::make_unique<std::vector<Step>>();
      more_->push_back(s);
    }
    ++size_;
  }
  std::size_t size() const noexcept { return size_; }
  const Step& operator[](std::size_t i) const noexcept {
    return i < first_.size() ? first_[i] : (*more_)[i - first_.size()];
  }

private:
  std::array<Step, 4> first_;
  std::size_t size_ = 0;
  std::unique_ptr<std::vector<Step>> more_;
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
  std::variant<Pending<void>, Pending<InvocationRecord>, Pending<std::vector<Ended>>,
               Pending<std::vector<std::uint32_t>>>
      whom;
  InvocationRecord record{};           // of the one
  std::vector<Ended> ended{};          // of many
  std::vector<std::uint32_t> order{};  // of many, whose ends are read elsewhere
  std::list<Group>::iterator self{};

  bool unwanted() const {
    return std::visit([](const PendingBase& p) { return p.done(); }, whom);
  }
  /// Without a lock: the store goes, and nobody will hear of those that have not ended yet.
  void fail(const std::exception_ptr& error) {
    if (auto* const all = std::get_if<2>(&whom)) {
      std::vector<bool> known(waits.size());
      for (const Ended& one : ended) known[one.place] = true;
      for (std::size_t i = 0; i < known.size(); ++i) {
        if (known[i]) continue;
        ended.emplace_back().place = i;
        ended.back().error = error;
      }
      (void)all->set_result(std::move(ended));
    } else {
      std::visit(
          [&](const auto& p) {
            if (p.set_exception(error)) (void)p.exception();  // no error of theirs: it is not reported
          },
          whom);
    }
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
    } else if (const auto* all = std::get_if<2>(&whom)) {
      (void)all->set_result(std::move(ended));
    } else {
      (void)std::get<3>(whom).set_result(std::move(order));
    }
  }
};

struct Owner;
struct Lane;
/// What few have.
struct Rare {
  std::string exception;
  std::string workflow_id;  // none where that is its own id
  std::vector<std::string> data;
  Steady::time_point due{};
  std::vector<Record*> waits_for, waited_by;
};
struct Record : detail::LocalCall {
  /// With one reference, the store's.
  static Record* make(const detail::LocalDraft& d);

  Status status{};
  bool reroute = true;
  bool cancel_requested = false;
  int priority = 0;
  int retries = 0;
  std::size_t hash;          // of the id
  Record* next = nullptr;    // with the same place in the table
  std::uint64_t number = 0;  // in the order made
  std::uint64_t ticket = 0;  // in the order queued
  Lane* lane = nullptr;      // where it waits to be taken
  Link in_lane{};
  Owner* runner = nullptr;  // while is_owned(status)
  Link of_runner{};
  Wait* waits = nullptr;  // for its end
  std::unique_ptr<Rare> rare;
  std::string result;
  History history{};

  Time created() const noexcept { return history[0].at; }
  Time changed() const noexcept { return history[history.size() - 1].at; }
  Rare& more() {
    if (!rare) rare = std::make_unique<Rare>();
    return *rare;
  }
  Steady::time_point due() const noexcept { return rare ? rare->due : Steady::time_point{}; }
  std::string_view workflow() const noexcept {
    return rare && !rare->workflow_id.empty() ? std::string_view(rare->workflow_id) : id();
  }
  bool has_workflow() const noexcept { return rare && !rare->workflow_id.empty(); }
  std::size_t waiting() const noexcept { return rare ? rare->waited_by.size() : 0; }
  bool waits_itself() const noexcept { return rare && !rare->waits_for.empty(); }
  void settle(Status final_status) noexcept {
    outcome_.store(static_cast<std::uint8_t>(final_status), std::memory_order_release);
  }
  void forget() noexcept { outcome_.store(kForgotten, std::memory_order_release); }
  friend detail::LocalCall;

private:
  Record() = default;
  ~Record() = default;
};

/// What waits in one queue with one priority, the oldest first.
struct Lane : Chain<&Record::in_lane> {};
struct Queue {
  std::map<int, Lane, std::greater<>> by_priority;
};

struct Owner {
  std::uint32_t name = 0;  // its number
  RunnerRecord told;
  Steady::time_point lease_until{};
  Chain<&Record::of_runner> owned;
};

/// Records by their ids; the lists of its places go through them.
class Table {
public:
  static std::size_t hash(std::string_view id) noexcept { return std::hash<std::string_view>{}(id); }
  Record* find(std::string_view id) const noexcept { return find(id, hash(id)); }
  Record* find(std::string_view id, std::size_t hash) const noexcept {
    for (Record* r = places_[hash & (places_.size() - 1)]; r; r = r->next)
      if (r->hash == hash && r->id() == id) return r;
    return nullptr;
  }
  /// One whose id is not there.
  void insert(Record& r) {
    if (size_ == places_.size()) grow();
    Record*& first = places_[r.hash & (places_.size() - 1)];
    r.next = first;
    first = &r;
    ++size_;
  }
  void erase(Record& r) noexcept {
    Record** at = &places_[r.hash & (places_.size() - 1)];
    while (*at != &r) at = &(*at)->next;
    *at = r.next;
    --size_;
  }

private:
  void grow();

  std::vector<Record*> places_ = std::vector<Record*>(64);  // a power of two
  std::size_t size_ = 0;
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
