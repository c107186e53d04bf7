// What the tests of tubes share.
#pragma once

#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <caller/tube/all.hpp>

#ifndef CALLER_TEST_TUBES
#error "CALLER_TEST_TUBES names the folder of the test tubes"
#endif

inline const bool search_path_is_set = [] {
  caller::tube::add_search_path(CALLER_TEST_TUBES);
  return true;
}();

inline caller::tube::Tube tube(std::string_view id, const caller::tube::Map& inputs = {}) {
  return caller::tube::Tube::from_any(id, inputs);
}
inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

/// Collects warnings while it lives.
struct Warnings {
  Warnings() {
    caller::tube::set_warning_handler([this](const std::string& w) {
      const std::lock_guard lock(mutex);
      seen.push_back(w);
    });
  }
  ~Warnings() { caller::tube::set_warning_handler({}); }
  std::mutex mutex;
  std::vector<std::string> seen;
};

template <>
struct doctest::StringMaker<std::vector<std::string>> {
  static String convert(const std::vector<std::string>& list) {
    std::string text;
    for (const std::string& s : list) text += s + "\n";
    return String(text.c_str());
  }
};
template <>
struct doctest::StringMaker<caller::tube::Value> {
  static String convert(const caller::tube::Value& v) { return String(v.repr(1000).c_str()); }
};
template <>
struct doctest::StringMaker<caller::tube::Result> {
  static String convert(const caller::tube::Result& r) { return String(r.repr(1000).c_str()); }
};
