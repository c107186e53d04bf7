// What is said: the words of what a function throws, and whether a text has some.
#pragma once

#include <string>

/// Words of what `f` throws.
template <class E, class F>
std::string words(F f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "(nothing was thrown)";
}

inline bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }
