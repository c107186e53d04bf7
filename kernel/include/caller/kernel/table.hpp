// Tables from ranges: of aggregates, tuples, pairs, maps, ranges or plain values.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <caller/export.hpp>
#include <caller/kernel/reflect.hpp>
#include <caller/kernel/values.hpp>

namespace caller {

/// How a table is shown.
///
/// Units: `max_rows` rows, the first and the last half of them, when there are more; `max_columns` columns; `max_width`
/// characters of a cell. 0 in each: no limit. Thread-safety: plain data. Errors: none.
/// Source: pandas display options.
struct table_options {
  std::string caption = {};      ///< above the table; empty: none
  std::size_t max_rows = 60;     ///< rows shown
  std::size_t max_columns = 24;  ///< columns shown
  std::size_t max_width = 80;    ///< characters of a cell shown
  bool index = true;             ///< the first column numbers the rows, from 0
};

/// What caller::table makes: text, copied out of the range, shown as HTML and as text.
///
/// Thread-safety: distinct objects: safe; shared objects: unsafe to add to, safe to show.
/// Errors: none. Source: pandas DataFrame, as notebooks show it.
class CALLER_API table_view {
public:
  /// A cell of the table, filled by whoever writes the row.
  struct cell {
    std::string text;     ///< what is shown
    bool number = false;  ///< shown at the right
  };

  /// An empty table; columns and rows are added.
  explicit table_view(table_options options = {});
  table_view(const table_view& other);
  table_view(table_view&& other) noexcept;
  table_view& operator=(table_view other) noexcept;
  ~table_view();

  /// The next column's name.
  void name(std::string_view text);
  /// Whether row `i` of `total` will be shown; others need only be counted. A total of 0 is not known.
  bool wants(std::size_t i, std::size_t total) const noexcept;
  /// Begins a row; `next` gives its cells.
  void begin_row();
  /// The next cell of the row that was begun, to be written into.
  cell& next();
  /// How many cells the row has.
  std::size_t size() const noexcept;
  /// counts a row that is not shown
  void skip() noexcept { ++rows_; }

  /// all, shown or not
  std::size_t rows() const noexcept { return rows_; }
  std::string text() const;  ///< for a client without HTML
  std::string html() const;  ///< for a page

private:
  struct Row {
    std::size_t number = 0;
    std::vector<cell> cells;
  };
  struct Shape;
  Shape shape() const;

  table_options options_;
  std::vector<std::string> names_;
  std::vector<Row> head_, tail_;  // the tail is a ring once it is full
  Row* row_ = nullptr;            // the one begun last
  Row spare_{};
  std::size_t rows_ = 0;
};
CALLER_API MimeBundle mime_bundle_repr(const table_view& x);

namespace kernel::detail {

CALLER_API void put_table_number(std::string& out, double v);

template <class T>
void put_cell(table_view::cell& out, const T& x) {
  if constexpr (std::is_floating_point_v<T>) {
    out.number = true;
    put_table_number(out.text, static_cast<double>(x));
  } else if constexpr (std::is_arithmetic_v<T>) {
    out.number = sizeof(T) > 1;  // bool and char are words
    print(out.text, x);
  } else if constexpr (std::is_pointer_v<T> && std::is_convertible_v<T, const char*>) {
    out.text = x ? x : "";
  } else if constexpr (Text<T>) {
    out.text = std::string_view(x);
  } else if constexpr (Optional<T>) {
    if (x.has_value()) put_cell(out, *x);
  } else {
    print(out.text, x);
  }
}

template <class T>
concept Members = member_count<T>() > 0 && member_count<T>() <= kMaxMembers && !Range<const T> && !Tuple<T> &&
                  !Text<T> && !HasBundle<T>;
template <class T>
concept Row = Range<const T> && !Text<T>;

template <class T>
void put_names(table_view& out, std::string_view first, std::string_view last) {
  if constexpr (Members<T>) {
    for (const std::string_view name : member_names<T>()) out.name(name);
  } else if constexpr (Row<T>) {
    // as many as the longest row has
  } else if constexpr (Pair<T>) {
    out.name(first);
    put_names<typename T::second_type>(out, "second", last);
  } else if constexpr (Tuple<T>) {
    for (std::size_t i = 0; i < std::tuple_size<T>::value; ++i) out.name(std::to_string(i));
  } else {
    out.name(last);
  }
}

template <class T>
void put_row(table_view& out, const T& x, std::size_t limit) {
  if constexpr (Members<T>) {
    with_members(x, [&](const auto&... member) { (put_cell(out.next(), member), ...); });
  } else if constexpr (Row<T>) {
    for (const auto& e : x) {
      if (limit && out.size() > limit) break;  // one too many, which says that there are more
      put_cell<std::remove_cvref_t<decltype(e)>>(out.next(), e);
    }
  } else if constexpr (Pair<T>) {
    put_cell(out.next(), x.first);
    put_row(out, x.second, limit);
  } else if constexpr (Tuple<T>) {
    std::apply([&](const auto&... e) { (put_cell(out.next(), e), ...); }, x);
  } else {
    put_cell(out.next(), x);
  }
}

template <class R>
using ElementOf = std::iter_value_t<decltype(std::begin(std::declval<R&>()))>;

template <class R, class Make>
void put_rows(table_view& out, R& range, Make make) {
  std::size_t total = 0, i = 0;
  if constexpr (requires { std::size(range); }) total = static_cast<std::size_t>(std::size(range));
  for (auto&& e : range) {
    if (out.wants(i++, total)) {
      out.begin_row();
      make(static_cast<const ElementOf<R>&>(e));
    } else {
      out.skip();
    }
  }
}

}  // namespace kernel::detail

/// A column of a table of `T`: a name, and a member (`&T::member`) or any function of a row.
///
/// Thread-safety: distinct objects: safe. Errors: what the function throws, when the table is made. Source: none.
template <class T>
struct column {
  /// A column with this title, of what `get` gives for a row: a function or a member.
  template <class F>
  column(std::string title, F get)
      : name(std::move(title)), put([get = std::move(get)](table_view::cell& out, const T& row) {
          kernel::detail::put_cell<std::remove_cvref_t<decltype(std::invoke(get, row))>>(out, std::invoke(get, row));
        }) {}
  std::string name;                                      ///< its title
  std::function<void(table_view::cell&, const T&)> put;  ///< writes a row's value into a cell
};

/// A table of a range, for display.
///
/// An element gives a row: the members of an aggregate (up to 24; the names are theirs), the elements of a tuple, a
/// pair or a range, key and value of a map (a value that is an aggregate gives its members), or one column `value`.
/// What a program cannot look into (with base classes, private, reference or constant members) is printed as a value;
/// name such columns yourself, with the other overload.
///
/// Thread-safety: any thread, as reading the range is.
/// Errors: what iterating the range and printing its elements throws.
/// Source: pandas DataFrame; differs: made from what C++ programs hold.
template <class R>
  requires requires(R& r) { std::begin(r) != std::end(r); }
table_view table(R&& range, const table_options& options = {}) {
  using namespace kernel::detail;
  using T = ElementOf<R>;
  constexpr bool is_map = Map<std::remove_cvref_t<R>>;
  table_view out(options);
  put_names<T>(out, is_map ? "key" : "first", !is_map && Pair<T> ? "second" : "value");
  put_rows(out, range, [&](const T& x) { put_row(out, x, options.max_columns); });
  return out;
}

/// The same with columns of your choice: `table(people, {{"name", &Person::name}, {"born", [](auto& p) { … }}})`.
/// Thread-safety, Errors, Source: as table(range).
template <class R>
  requires requires(R& r) { std::begin(r) != std::end(r); }
table_view table(R&& range, std::initializer_list<column<kernel::detail::ElementOf<R>>> columns,
                 const table_options& options = {}) {
  using T = kernel::detail::ElementOf<R>;
  table_view out(options);
  for (const auto& c : columns) out.name(c.name);
  kernel::detail::put_rows(out, range, [&](const T& x) {
    for (const auto& c : columns) c.put(out.next(), x);
  });
  return out;
}

}  // namespace caller
