#include "session/output.hpp"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <iostream>
#include <streambuf>
#include <string>
#include <string_view>

#include "interpreter/faults.hpp"
#include "protocol/log.hpp"
#include "session/fd_capture.hpp"
#include "session/line_hold.hpp"

namespace caller::kernel {
namespace {

// A copy of the process that a cell has forked has none of the threads that take text to clients, and the locks on the
// way may be held for ever. Its descriptors lead to the process, as those of any child.
std::atomic<bool> is_copy{false};

void know_copies() {
  static const int once = ::pthread_atfork(nullptr, nullptr, [] { is_copy = true; });
  (void)once;
}

// All of it, if the other end lives.
void write_down(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

// No buffer of its own: the writer gathers, and an object without state is safe for any number of threads. What may
// only go out by the line is kept by the thread.
class ContextBuffer final : public std::streambuf {
public:
  ContextBuffer(StreamName name, LineHold::Write write) : name_(name), write_(std::move(write)) {}

private:
  std::streamsize xsputn(const char* text, std::streamsize size) override {
    faults::touch(text, static_cast<std::size_t>(size));
    put({text, static_cast<std::size_t>(size)});
    return size;
  }
  int_type overflow(int_type c) override {
    if (traits_type::eq_int_type(c, traits_type::eof())) return traits_type::not_eof(c);
    const char character = traits_type::to_char_type(c);
    put({&character, 1});
    return c;
  }
  int sync() override {
    if (!is_copy) LineHold::flush();  // what is held was written before the copy was made
    return 0;
  }
  void put(std::string_view text) {
    if (is_copy) return write_down(name_ == StreamName::out ? 1 : 2, text);
    if (!LineHold::take(name_, text, write_)) write_(name_, text);
  }
  const StreamName name_;
  const LineHold::Write write_;
};

// Reads a line at a time for the running work. What was typed and not read waits in the work, so two cells may read at
// once.
class InputBuffer final : public std::streambuf {
public:
  explicit InputBuffer(Session& session) : session_(session) {}

  // At least one character is there afterwards.
  std::string& fill(Work& work) {
    if (work.input_rest.empty()) work.input_rest = session_.ask("", false) + "\n";
    return work.input_rest;
  }

private:
  int_type underflow() override {
    if (is_copy) return traits_type::eof();
    const WorkPtr work = require();
    return traits_type::to_int_type(fill(*work).front());
  }
  int_type uflow() override {
    if (is_copy) return traits_type::eof();
    const WorkPtr work = require();
    std::string& rest = fill(*work);
    const char c = rest.front();
    rest.erase(0, 1);
    return traits_type::to_int_type(c);
  }
  std::streamsize showmanyc() override {
    if (is_copy) return -1;
    const WorkPtr work = session_.work_or_newest();
    return work ? static_cast<std::streamsize>(work->input_rest.size()) : 0;
  }
  WorkPtr require() {
    WorkPtr work = session_.work_or_newest();
    if (!work) throw KernelError(KernelErrc::no_request, "input was asked for outside any cell");
    return work;
  }

  Session& session_;
};

}  // namespace

struct Output::State {
  Session& session;
  FdCapture capture;
  ContextBuffer out{StreamName::out, [this](StreamName name, std::string_view t) { write(name, t); }};
  ContextBuffer err{StreamName::err, [this](StreamName name, std::string_view t) { write(name, t); }};
  InputBuffer in;
  std::streambuf *old_out, *old_err, *old_log, *old_in;
  std::ios_base::iostate old_mask;
  FILE *c_out = nullptr, *c_err = nullptr, *c_in = nullptr;
  FILE *old_c_out = stdout, *old_c_err = stderr, *old_c_in = stdin;

  explicit State(Session& s)
      : session(s),
        capture([this](int fd, std::string_view bytes) {
          if (!session.write_as_newest(fd == 1 ? StreamName::out : StreamName::err, bytes)) pass_on(fd, bytes);
        }),
        in(s),
        old_out(std::cout.rdbuf(&out)),
        old_err(std::cerr.rdbuf(&err)),
        old_log(std::clog.rdbuf(&err)),
        old_in(std::cin.rdbuf(&in)),
        old_mask(std::cin.exceptions()) {
    // What a question throws must end the cell, not just set a flag in the stream.
    std::cin.exceptions(std::ios_base::badbit);
    know_copies();
    c_out = ::fopencookie(
        this, "w",
        {nullptr, [](void* c, const char* text, std::size_t n) { return c_write(c, StreamName::out, text, n); },
         nullptr, nullptr});
    c_err = ::fopencookie(
        this, "w",
        {nullptr, [](void* c, const char* text, std::size_t n) { return c_write(c, StreamName::err, text, n); },
         nullptr, nullptr});
    c_in = ::fopencookie(this, "r", {&c_read, nullptr, nullptr, nullptr});
    for (FILE* f : {c_out, c_err, c_in})
      if (f) std::setvbuf(f, nullptr, _IONBF, 0);
    if (c_out) stdout = c_out;
    if (c_err) stderr = c_err;
    if (c_in) stdin = c_in;
  }

  ~State() {
    stdout = old_c_out;
    stderr = old_c_err;
    stdin = old_c_in;
    // The cookie streams stay open: a thread of a cell may still hold them. They are of no use after this, and small.
    std::cin.exceptions(old_mask);
    std::cin.rdbuf(old_in);
    std::clog.rdbuf(old_log);
    std::cerr.rdbuf(old_err);
    std::cout.rdbuf(old_out);
    set_log_descriptor(2);
  }

  void pass_on(int fd, std::string_view bytes) const { write_down(capture.original(fd), bytes); }

  void write(StreamName name, std::string_view text) {
    if (is_copy) return write_down(name == StreamName::out ? 1 : 2, text);
    settle();  // text on the descriptors was written earlier
    if (!session.write(name, text)) pass_on(name == StreamName::out ? 1 : 2, text);
  }

  void settle() {
    std::fflush(old_c_out);  // a library may have kept the pointer
    capture.drain();
  }

  static ssize_t c_write(void* cookie, StreamName name, const char* text, std::size_t size) {
    faults::touch(text, size);
    try {
      if (!is_copy) LineHold::flush();
      static_cast<State*>(cookie)->write(name, {text, size});
      return static_cast<ssize_t>(size);
    } catch (...) {  // must not pass through C
      errno = EIO;
      return 0;
    }
  }

  static ssize_t c_read(void* cookie, char* text, std::size_t size) {
    if (is_copy) return 0;
    auto& self = *static_cast<State*>(cookie);
    try {
      const WorkPtr work = self.session.work_or_newest();
      if (!work) return 0;
      std::string& rest = self.in.fill(*work);
      const std::size_t n = rest.copy(text, size);
      rest.erase(0, n);
      return static_cast<ssize_t>(n);
    } catch (...) {  // must not pass through C: the program sees a read error
      errno = EIO;
      return -1;
    }
  }
};

Output::Output(Session& session) : state_(std::make_unique<State>(session)) {
  set_log_descriptor(state_->capture.original(2));
}

Output::~Output() { settle(); }

void Output::settle() { state_->settle(); }

void Output::renew_input() {
  std::cin.clear();
  // Whoever reads C's stdin keeps its lock until the user has answered.
  FILE* const in = stdin;
  if (::ftrylockfile(in) != 0) return;
  ::clearerr_unlocked(in);
  ::funlockfile(in);
}

int Output::log_descriptor() const noexcept { return state_->capture.original(2); }

}  // namespace caller::kernel
