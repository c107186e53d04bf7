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
}  // namespace caller::kernel::detail

using namespace std::chrono_literals;
using namespace std::string_literals;
#if __has_include(<caller/all.hpp>)
using caller::Caller;
#endif
