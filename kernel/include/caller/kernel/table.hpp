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
  std::string caption = {};
  std::size_t max_rows = 60;
  std::size_t max_columns = 24;
  std::size_t max_width = 80;
  bool index = true;  ///< the first column numbers the rows, from 0
};

/// What caller::table makes: text, copied out of the range, shown as HTML and as text.
///
/// Thread-safety: distinct objects: safe; shared objects: unsafe to add to, safe to show.
/// Errors: none. Source: pandas DataFrame, as notebooks show it.
class CALLER_API table_view {
public:
  struct cell {
    std::string text;
    bool number = false;  ///< shown at the right
  };

  explicit table_view(table_options options = {}) : options_(std::move(options)) {}

  void columns(std::vector<std::string> names) { names_ = std::move(names); }
  /// Whether row `i` of `total` will be shown; others need only be counted. A total of 0 is not known.
  bool wants(std::size_t i, std::size_t total) const noexcept;
  void add(std::vector<cell> row);
  void skip() noexcept { ++rows_; }

  std::size_t rows() const noexcept { return rows_; }
  std::string text() const;
  std::string html() const;

private:
  struct Row {
    std::size_t number;
    std::vector<cell> cells;
  };
  struct Shape;
  Shape shape() const;

  table_options options_;
  std::vector<std::string> names_;
  std::vector<Row> head_, tail_;  // the tail is a ring once it is full
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
table_view::cell cell_of(const T& x) {
  table_view::cell out;
  put_cell(out, x);
  return out;
}

template <class T>
concept Members = member_count<T>() > 0 && member_count<T>() <= kMaxMembers && !Range<const T> && !Tuple<T> &&
                  !Text<T> && !HasBundle<T>;
template <class T>
concept Row = Range<const T> && !Text<T>;

template <class T>
void put_names(std::vector<std::string>& out, const char* scalar) {
  if constexpr (Members<T>) {
    for (const std::string_view name : member_names<T>()) out.emplace_back(name);
  } else if constexpr (Row<T>) {
    // as many as the longest row has
  } else if constexpr (Pair<T>) {
    out.emplace_back("first");
    put_names<typename T::second_type>(out, "second");
  } else if constexpr (Tuple<T>) {
    for (std::size_t i = 0; i < std::tuple_size<T>::value; ++i) out.push_back(std::to_string(i));
  } else {
    out.emplace_back(scalar);
  }
}

template <class T>
void put_row(std::vector<table_view::cell>& out, const T& x, std::size_t limit) {
  if constexpr (Members<T>) {
    with_members(x, [&](const auto&... member) { (out.push_back(cell_of(member)), ...); });
  } else if constexpr (Row<T>) {
    for (const auto& e : x) {
      if (limit && out.size() > limit) break;  // one too many, which says that there are more
      out.push_back(cell_of<std::remove_cvref_t<decltype(e)>>(e));
    }
  } else if constexpr (Pair<T>) {
    out.push_back(cell_of(x.first));
    put_row(out, x.second, limit);
  } else if constexpr (Tuple<T>) {
    std::apply([&](const auto&... e) { (out.push_back(cell_of(e)), ...); }, x);
  } else {
    out.push_back(cell_of(x));
  }
}

template <class R>
using ElementOf = std::iter_value_t<decltype(std::begin(std::declval<R&>()))>;

template <class R, class Make>
table_view make_table(R& range, const table_options& options, std::vector<std::string> names, Make make) {
  table_view out(options);
  out.columns(std::move(names));
  std::size_t total = 0, i = 0;
  if constexpr (requires { std::size(range); }) total = static_cast<std::size_t>(std::size(range));
  for (auto&& e : range) {
    if (out.wants(i++, total)) {
      std::vector<table_view::cell> row;
      make(row, static_cast<const ElementOf<R>&>(e));
      out.add(std::move(row));
    } else {
      out.skip();
    }
  }
  return out;
}

}  // namespace kernel::detail

/// A column of a table of `T`: a name, and a member (`&T::member`) or any function of a row.
///
/// Thread-safety: distinct objects: safe. Errors: what the function throws, when the table is made. Source: none.
template <class T>
struct column {
  template <class F>
  column(std::string title, F get)
      : name(std::move(title)), put([get = std::move(get)](table_view::cell& out, const T& row) {
          kernel::detail::put_cell<std::remove_cvref_t<decltype(std::invoke(get, row))>>(out, std::invoke(get, row));
        }) {}
  std::string name;
  std::function<void(table_view::cell&, const T&)> put;
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
  std::vector<std::string> names;
  put_names<T>(names, "value");
  if constexpr (Map<std::remove_cvref_t<R>>) {
    names.front() = "key";
    if (names.size() == 2 && names[1] == "second") names[1] = "value";
  }
  return make_table(range, options, std::move(names),
                    [&](auto& row, const T& x) { put_row(row, x, options.max_columns); });
}

/// The same with columns of your choice: `table(people, {{"name", &Person::name}, {"born", [](auto& p) { … }}})`.
/// Thread-safety, Errors, Source: as table(range).
template <class R>
  requires requires(R& r) { std::begin(r) != std::end(r); }
table_view table(R&& range, std::initializer_list<column<kernel::detail::ElementOf<R>>> columns,
                 const table_options& options = {}) {
  using T = kernel::detail::ElementOf<R>;
  std::vector<std::string> names;
  for (const auto& c : columns) names.push_back(c.name);
  return kernel::detail::make_table(range, options, std::move(names), [&](auto& row, const T& x) {
    for (const auto& c : columns) c.put(row.emplace_back(), x);
  });
}

}  // namespace caller
