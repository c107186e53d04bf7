// std::cout of cells only: the program that the kernel is embedded in keeps its own.
#pragma once

#include <functional>
#include <string_view>

#include "session/session.hpp"

namespace caller::kernel {

/// Routes std::cout, std::cerr and std::clog of code that a cell started to iopub, as long as it lives; what the rest
/// of the program writes goes where it went before, by the stream buffers that were there.
///
/// A thread of the program may be inside of a stream at any time, so the buffers put in front are never freed.
///
/// Thread-safety: one object at a time; the streams: as before.
/// Errors: none.
/// Source: none.
class CellStreams {
public:
  explicit CellStreams(Session& session);
  ~CellStreams();
  CellStreams(const CellStreams&) = delete;
  CellStreams& operator=(const CellStreams&) = delete;

private:
  class Buffer;
  Buffer *out_, *err_, *log_;
};

}  // namespace caller::kernel
