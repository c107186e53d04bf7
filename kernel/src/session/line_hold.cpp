#include "session/line_hold.hpp"

namespace caller::kernel {
namespace {

constexpr std::size_t kMost = 4096;  // bytes of a line that does not end
thread_local LineHold* of_thread = nullptr;

}  // namespace

LineHold::LineHold() noexcept : outer_(of_thread) { of_thread = this; }

LineHold::~LineHold() {
  try {
    write_out(text_.size());
  } catch (...) {  // the cell is being ended
  }
  of_thread = outer_;
}

void LineHold::write_out(std::size_t size) {
  if (size == 0) return;
  // First out of here: writing may come back.
  const std::string now = text_.substr(0, size);
  text_.erase(0, size);
  (*write_)(name_, now);
}

bool LineHold::take(StreamName name, std::string_view text, const Write& write) {
  LineHold* const hold = of_thread;
  if (!hold) return false;
  if (hold->name_ != name || hold->write_ != &write) {
    hold->write_out(hold->text_.size());
    hold->name_ = name;
    hold->write_ = &write;
  }
  const std::size_t end = text.rfind('\n');
  const std::size_t before = hold->text_.size();
  hold->text_ += text;
  if (end != std::string_view::npos) hold->write_out(before + end + 1);
  if (hold->text_.size() >= kMost) hold->write_out(hold->text_.size());
  return true;
}

void LineHold::flush() {
  for (LineHold* hold = of_thread; hold; hold = hold->outer_) hold->write_out(hold->text_.size());
}

}  // namespace caller::kernel
