#include "protocol/log.hpp"

#include <unistd.h>

#include <array>
#include <atomic>
#include <string>

namespace caller::kernel {
namespace {
std::atomic<LogLevel> g_level{LogLevel::warning};
std::atomic<int> g_fd{2};
constexpr std::array<std::string_view, 4> kNames{"debug", "info", "warning", "error"};
}  // namespace

void set_log_level(LogLevel level) noexcept { g_level = level; }

void set_log_descriptor(int fd) noexcept { g_fd = fd; }

void log(LogLevel level, std::string_view text) noexcept {
  if (level < g_level.load() || level == LogLevel::off) return;
  try {
    std::string line = "[caller-kernel] ";
    line += kNames[static_cast<std::size_t>(level)];
    line += ": ";
    line += text;
    line += '\n';
    std::string_view rest = line;
    while (!rest.empty()) {
      const ssize_t n = ::write(g_fd.load(), rest.data(), rest.size());
      if (n <= 0) return;
      rest.remove_prefix(static_cast<std::size_t>(n));
    }
  } catch (...) {
    // Out of memory while logging: the message is lost, the kernel is not.
  }
}

}  // namespace caller::kernel
