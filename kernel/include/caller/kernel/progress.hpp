// A bar for long work, driven by hand or by a range.
#pragma once

#include <cstddef>
#include <iterator>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include <caller/export.hpp>

namespace caller {

namespace kernel::detail {
template <class T>
concept Iterable = requires(T& x) {
  std::begin(x) != std::end(x);
  *std::begin(x);
};
}  // namespace kernel::detail

/// A bar for long work.
///
/// By hand: `caller::progress bar(n, "label"); …; bar.step();`. Around a range: `for (auto& x : caller::progress(v))`,
/// which counts an element when its turn of the loop is over. It shows how far the work is, the time it took, and, when
/// `total` is known, the time it will still take; a client without HTML sees a line of text. A bar that goes away
/// before its total was reached says so.
///
/// The bar stays in the cell that made it; updates are sent at most ten times a second, and when the total is reached
/// or the bar goes away.
///
/// Thread-safety: any thread may step, set and label one bar; a range is iterated by one thread.
/// Units: `total` counts steps; 0 (or a range that does not know its size) means unknown.
/// Errors: none. Source: tqdm, as notebooks use it.
template <class Range = void>
class progress;

/// A bar that is moved by hand; see progress.
template <>
class CALLER_API progress<void> {
public:
  /// Shown at once; `total` 0: not known.
  explicit progress(double total = 0, std::string label = {});
  ~progress();
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;

  void step(double n = 1);        ///< moves on
  void set(double value);         ///< moves to
  void label(std::string text);   ///< replaces the text beside it
  double value() const noexcept;  ///< the steps done

private:
  struct State;
  std::unique_ptr<State> state_;
};

/// A bar around a range; see progress.
template <class Range>
  requires kernel::detail::Iterable<Range>
class progress<Range> : public progress<void> {
public:
  /// Iterates `range`, which is moved or referred to as it was given.
  explicit progress(Range&& range, std::string label = {})
      : progress<void>(size_of(range), std::move(label)), range_(std::forward<Range>(range)) {}

  /// Steps the bar when it is moved on.
  template <class I>
  class iterator {
  public:
    /// For begin().
    iterator(I at, progress<void>* bar) : at_(std::move(at)), bar_(bar) {}
    decltype(auto) operator*() const { return *at_; }
    iterator& operator++() {
      ++at_;
      bar_->step();
      return *this;
    }
    template <class S>
    friend bool operator!=(const iterator& a, const S& end) {
      return a.at_ != end;
    }

  private:
    I at_;
    progress<void>* bar_;
  };

  /// Where the range begins, with the bar.
  auto begin() { return iterator<decltype(std::begin(range_))>(std::begin(range_), this); }
  /// Where the range ends.
  auto end() { return std::end(range_); }

private:
  static double size_of(Range& range) {
    if constexpr (requires { std::size(range); })
      return static_cast<double>(std::size(range));
    else
      return 0;
  }
  Range range_;  // a reference, or what was a temporary
};

template <class N>
  requires std::is_arithmetic_v<N>
progress(N) -> progress<void>;
template <class N, class L>
  requires std::is_arithmetic_v<N>
progress(N, L) -> progress<void>;
template <class R>
  requires kernel::detail::Iterable<R>
progress(R&&) -> progress<R>;
template <class R, class L>
  requires kernel::detail::Iterable<R>
progress(R&&, L) -> progress<R>;

}  // namespace caller
