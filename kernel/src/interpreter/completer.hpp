// Completion results as clang finds them. Internal to this folder; used in a child process.
#pragma once

#include <functional>
#include <string>

#include "engine.hpp"

namespace caller::kernel {

struct Candidate {
  std::string text, type, signature;
  unsigned priority = 0;
  const clang::NamedDecl* declaration = nullptr;
};

/// Runs clang's completion at `at` of `text`; calls `found` for each candidate whose name begins with `prefix`.
void find_candidates(Engine& engine, const std::string& text, std::size_t at, const std::string& prefix, bool exact,
                     const std::function<void(Candidate&&)>& found);

}  // namespace caller::kernel
