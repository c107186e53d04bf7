// What every cell sees without an include. Compiled once, when the project is built.
#pragma once

#include <algorithm>
#include <any>
#include <array>
#include <atomic>
#include <bit>
#include <bitset>
#include <cctype>
#include <charconv>
#include <chrono>
#include <cmath>
#include <complex>
#include <concepts>
#include <condition_variable>
#include <coroutine>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <filesystem>
#include <forward_list>
#include <fstream>
#include <functional>
#include <future>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <latch>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <numbers>
#include <numeric>
#include <optional>
#include <queue>
#include <random>
#include <ranges>
#include <semaphore>
#include <set>
#include <shared_mutex>
#include <span>
#include <sstream>
#include <stack>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#if __has_include(<caller/all.hpp>)
#include <caller/all.hpp>
#else
#include <caller/coro.hpp>
#endif
#include <caller/kernel/cell.hpp>
#include <caller/kernel/comm.hpp>
#include <caller/kernel/display.hpp>
#include <caller/kernel/plot.hpp>
#include <caller/kernel/progress.hpp>
#include <caller/kernel/table.hpp>
#include <caller/kernel/widgets.hpp>

namespace caller::kernel::detail {
// Showing these is compiled in advance; anything else takes the time its templates take.
template <class... T>
inline void show_each(const T&... x) {
  (show_value(x), ...);
}
inline void compiled_in_advance(bool b, char c, int i, long l, unsigned u, unsigned long ul, long long ll,
                                unsigned long long ull, float f, double d, const char* s, const std::string& t,
                                std::string_view v, const std::vector<int>& vi, const std::vector<double>& vd,
                                const std::vector<std::string>& vs, const std::map<std::string, int>& msi,
                                const std::optional<int>& o, const std::pair<int, int>& p) {
  show_each(b, c, i, l, u, ul, ll, ull, f, d, s, t, v, vi, vd, vs, msi, o, p);
}
// What cells do most with the types they use most; their code is in the prelude's library, and is still inlined. It
// checks for no interrupt, so nothing stands here that takes longer than going through the elements once.
template <class T>
inline void vector_in_advance(std::vector<T>& v, T x, std::initializer_list<T> list) {
  std::vector<T> a(list), b(v), c(v.size()), d(3, x), e(v.begin(), v.end());
  v = b;
  v = std::move(c);
  v = list;
  v.push_back(x);
  v.push_back(std::move(x));
  v.emplace_back(list.begin()[0]);
  v.insert(v.begin(), d.begin(), d.end());
  v.insert(v.end(), list.begin()[0]);
  v.erase(v.begin());
  v.resize(4);
  v.reserve(9);
  v.swap(e);
  for (const auto& each : v) b.push_back(each);
}
template <class M>
inline void map_in_advance(M& m, const typename M::key_type& k, const typename M::mapped_type& x,
                           std::initializer_list<typename M::value_type> list) {
  M a(list), b(m);
  m = b;
  m = std::move(a);
  m[k] = x;
  m[typename M::key_type(k)] = x;
  m.at(k) = x;
  m.insert({k, x});
  m.emplace(k, x);
  m.erase(k);
  m.erase(m.find(k));
  (void)m.count(k);
  (void)m.contains(k);
  for (auto& [key, value] : m) value = x;
}
template <class S>
inline void set_in_advance(S& s, const typename S::key_type& k, std::initializer_list<typename S::key_type> list) {
  S a(list), b(s);
  s = b;
  s.insert(k);
  s.erase(k);
  (void)s.contains(k);
  for (auto& each : s) b.insert(each);
}
inline void containers_in_advance(const std::string& s, std::ostream& out) {
  std::vector<int> i;
  std::vector<double> d;
  std::vector<std::string> t;
  vector_in_advance<int>(i, 1, {1});
  vector_in_advance<double>(d, 1, {1});
  vector_in_advance<std::string>(t, s, {s, "x"});
  t.push_back("x");
  t.emplace_back("x");
  std::map<std::string, int> si;
  std::map<int, int> ii;
  std::map<std::string, std::string> ss;
  map_in_advance(si, s, 1, {{"x", 1}});
  map_in_advance(ii, 1, 1, {{1, 1}});
  map_in_advance(ss, s, s, {{"x", "x"}});
  si["x"] = 1;
  ss["x"] = "x";
  std::unordered_map<std::string, int> usi;
  map_in_advance(usi, s, 1, {{"x", 1}});
  usi["x"] = 1;
  std::set<int> ki;
  std::set<std::string> ks;
  set_in_advance(ki, 1, {1});
  set_in_advance(ks, s, {s});
  std::string made("x"), copy(made), joined = made + "x" + copy + 'x' + std::to_string(1);
  joined += "x";
  out << made << "x" << 1 << 1.5 << 'c' << 1u << 1l << std::endl;
  auto p = std::make_unique<int>(1);
  auto q = std::make_shared<int>(1);
  std::function<void()> f = [] {};
  f();
}
// Algorithms whose templates take the compiler longest. As they may run for long, they are compiled apart, with checks
// for interrupts (checked_main.cpp), and not inlined.
template <class V>
inline void algorithm_in_advance(V& v) {
  std::sort(v.begin(), v.end());
  std::sort(v.begin(), v.end(), std::greater<>());
  std::stable_sort(v.begin(), v.end());
  std::nth_element(v.begin(), v.begin() + 1, v.end());
}
inline void algorithms_in_advance(std::vector<int>& i, std::vector<double>& d, std::vector<std::string>& s) {
  algorithm_in_advance(i);
  algorithm_in_advance(d);
  algorithm_in_advance(s);
}
}  // namespace caller::kernel::detail

using namespace std::chrono_literals;
using namespace std::string_literals;
#if __has_include(<caller/all.hpp>)
using caller::Caller;
#endif
