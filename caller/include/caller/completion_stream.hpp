// CompletionStream: Pendings in the order in which they are done; part of <caller/caller.hpp>.
#pragma once

#include <exception>
#include <memory>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

#include <caller/caller.hpp>

namespace caller {

/// What as_completed gives. Destroying it is leaving early.
/// Thread-safety: one consumer. Errors: see next(). Source: async-kernel Caller.as_completed (an async iterator).
template <class T>
class [[nodiscard]] CompletionStream {
public:
  using Item = std::conditional_t<std::is_same_v<T, PendingBase>, PendingBase, Pending<T>>;  ///< what next() gives

  /// For the runtime: what `feeder` puts into `queue`.
  CompletionStream(std::shared_ptr<detail::CompletionQueue> queue, PendingBase feeder)
      : queue_(std::move(queue)), feeder_(std::move(feeder)) {}
  CompletionStream(CompletionStream&&) noexcept = default;
  CompletionStream& operator=(CompletionStream&& other) noexcept {
    std::swap(queue_, other.queue_);
    std::swap(feeder_, other.feeder_);
    return *this;
  }
  ~CompletionStream() {
    if (queue_) detail::completion_leave(*queue_, std::move(feeder_));
  }

  /// The next Pending that is done, or nothing at the end.
  /// Cancel-safety: may be awaited again. Errors: what the generator threw, at the end; Error(deadlock).
  Coro<std::optional<Item>> next() {
    auto queue = queue_;
    PendingBase p = co_await detail::completion_next(queue);
    if (!p) co_return std::nullopt;
    if constexpr (std::is_same_v<T, PendingBase>)
      co_return p;
    else
      co_return Item::share(p.state());
  }

private:
  std::shared_ptr<detail::CompletionQueue> queue_;
  PendingBase feeder_;
};

namespace detail {
template <class P>
struct StreamOf {
  using type = CompletionStream<PendingBase>;
};
template <class T>
struct StreamOf<Pending<T>> {
  using type = CompletionStream<T>;
};
template <class Items>
struct ItemsOf {
  using type = std::ranges::range_value_t<Items>;
};
template <class T>
struct ItemsOf<AsyncGenerator<T>> {
  using type = T;
};
}  // namespace detail

template <class T, class Items>
Coro<void> Caller::feed(Caller self, std::shared_ptr<detail::CompletionQueue> queue, Items items) {
  std::exception_ptr failure;
  try {
    if constexpr (detail::IsAsyncGenerator<Items>::value) {
      while (co_await detail::completion_room(queue)) {
        auto item = co_await items.next();
        if (!item || !detail::completion_add(*queue, self.to_pending(std::move(*item)))) break;
      }
    } else {
      std::optional<std::ranges::iterator_t<Items>> it;
      while (co_await detail::completion_room(queue)) {  // only then produce the next one
        if (it)
          ++*it;
        else
          it.emplace(std::ranges::begin(items));
        if (*it == std::ranges::end(items) || !detail::completion_add(*queue, self.to_pending(**it))) break;
      }
    }
  } catch (...) {
    failure = std::current_exception();
  }
  detail::completion_end(*queue, failure);
}

template <class Items>
auto Caller::as_completed(Items&& items, AsCompletedOptions options) const {
  using Range = std::remove_cvref_t<Items>;
  using P = detail::item_pending_t<typename detail::ItemsOf<Range>::type>;
  using Stream = typename detail::StreamOf<P>::type;
  constexpr bool generator = detail::IsAsyncGenerator<Range>::value || !std::ranges::forward_range<Range>;
  if constexpr (generator) {
    static_assert(!std::is_lvalue_reference_v<Items>, "move the generator into as_completed");
    auto queue = detail::make_completion_queue(options.max_concurrent, options.cancel_unfinished);
    Caller self(Adopt{}, *core_, false);
    detail::retain_core(*core_, false);
    ScheduleOptions schedule;
    schedule.opt_out_of_groups = true;
    auto feeder = schedule_call(schedule, &Caller::feed<P, Range>, self, queue, std::move(items));
    feeder.add_done_callback([queue](const PendingBase& p) {  // it may never have begun
      if (p.cancelled())
        detail::completion_end(*queue, std::make_exception_ptr(PendingCancelled("as_completed's generator")));
    });
    return Stream(queue, feeder);
  } else {
    auto queue = detail::make_completion_queue(0, options.cancel_unfinished);
    for (auto&& item : items) detail::completion_add(*queue, to_pending(std::forward<decltype(item)>(item)));
    detail::completion_end(*queue, nullptr);
    return Stream(queue, PendingBase());
  }
}

template <class Item>
  requires(!detail::is_coro_v<Item>)
auto Caller::as_completed(std::initializer_list<Item> items, AsCompletedOptions options) const {
  return as_completed(std::vector<Item>(items), options);
}

}  // namespace caller
