#include "session/cell_streams.hpp"

#include <iostream>
#include <mutex>
#include <shared_mutex>
#include <streambuf>

#include "session/line_hold.hpp"

namespace caller::kernel {

class CellStreams::Buffer final : public std::streambuf {
public:
  Buffer(std::ostream& stream, StreamName name, Session& session)
      : stream_(stream), name_(name), session_(&session), before_(stream.rdbuf(this)) {}

  // The program may have replaced the buffer meanwhile; then it stays as the program wants it.
  void leave() {
    if (stream_.rdbuf() == this) stream_.rdbuf(before_);
    const std::unique_lock lock(mutex_);
    session_ = nullptr;
  }

private:
  // False: this is no text of a cell.
  bool to_cell(std::string_view text) {
    if (!current_work()) return false;
    {
      const std::shared_lock lock(mutex_);
      if (!session_) return false;
    }
    if (!LineHold::take(name_, text, write_)) write_(name_, text);
    return true;
  }
  std::streamsize xsputn(const char* text, std::streamsize size) override {
    return to_cell({text, static_cast<std::size_t>(size)}) ? size : before_->sputn(text, size);
  }
  int_type overflow(int_type c) override {
    if (traits_type::eq_int_type(c, traits_type::eof())) return traits_type::not_eof(c);
    const char character = traits_type::to_char_type(c);
    return to_cell({&character, 1}) ? c : before_->sputc(character);
  }
  int sync() override {
    if (!current_work()) return before_->pubsync();
    LineHold::flush();
    return 0;
  }

  std::ostream& stream_;
  const StreamName name_;
  std::shared_mutex mutex_;
  Session* session_;
  std::streambuf* const before_;
  const LineHold::Write write_ = [this](StreamName name, std::string_view text) {
    const std::shared_lock lock(mutex_);
    if (session_) session_->write(name, text);
  };
};

CellStreams::CellStreams(Session& session)
    : out_(new Buffer(std::cout, StreamName::out, session)),
      err_(new Buffer(std::cerr, StreamName::err, session)),
      log_(new Buffer(std::clog, StreamName::err, session)) {}

CellStreams::~CellStreams() {
  for (Buffer* buffer : {out_, err_, log_}) buffer->leave();
}

}  // namespace caller::kernel
