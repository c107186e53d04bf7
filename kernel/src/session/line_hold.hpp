// Lines of threads that print at once.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "session/iopub.hpp"

namespace caller::kernel {

/// While one lives, what its thread inserts into a stream of C++ leaves it a line at a time: until a newline, a flush,
/// text by another way (another stream, C's, a display), a page of text, or the end of this.
///
/// For code that runs beside others of its kind and leaves its thread at the end, like a node of a tube: threads that
/// wait for each other in the middle of a line would see it in another order.
///
/// Thread-safety: made and destroyed by one thread. Errors: none. Source: the lines of C's stdout.
class LineHold {
public:
  using Write = std::function<void(StreamName, std::string_view)>;

  LineHold() noexcept;
  ~LineHold();
  LineHold(const LineHold&) = delete;
  LineHold& operator=(const LineHold&) = delete;

  /// Takes text for a stream of the calling thread, and writes what is due. False: the thread holds nothing back.
  /// `write` must outlive the hold.
  static bool take(StreamName name, std::string_view text, const Write& write);
  /// Writes what the calling thread holds.
  static void flush();

private:
  void write_out(std::size_t size);

  LineHold* const outer_;
  StreamName name_ = StreamName::out;
  std::string text_;
  const Write* write_ = nullptr;
};

}  // namespace caller::kernel
