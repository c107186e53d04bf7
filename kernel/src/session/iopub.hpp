// Everything the kernel publishes: order, coalescing of text, whole characters.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "protocol/message.hpp"

namespace caller::kernel {

enum class StreamName { out, err };

/// Publishes messages in the order of the calls and gathers stream text.
///
/// A Jupyter server cuts a kernel off above 1 000 messages or 1 MB a second, so a loop that prints must not make a
/// message a line. The first text of a request leaves at once; what follows within `kInterval` leaves together, or
/// earlier when there is much of it (`kSize`, but not more often than each `kBurst`; `kMost` at any time) or when
/// another message of that request is published. A character split between two writes arrives whole.
///
/// Each change between stdout and stderr is a message more. Where they change more often than `kChange`, for longer
/// than `kChangesAhead`, the text of an interval is gathered as one message for each of the two: what each says keeps
/// its order, what one says among the other's does not.
///
/// Thread-safety: any thread. The emitter is called under the writer's lock: it must only queue.
/// Units: kInterval, kBurst, kChange and kChangesAhead milliseconds, kSize and kMost bytes.
/// Errors: none of its own.
/// Source: ipykernel OutStream; differs: per request, first text at once, ordered with all other messages.
class IopubWriter {
public:
  using Clock = std::chrono::steady_clock;
  using Emit = std::function<void(const std::string& type, const Request& parent, const json& content,
                                  const json& metadata, Frames buffers)>;
  static constexpr std::chrono::milliseconds kInterval{30};
  static constexpr std::chrono::milliseconds kBurst{5};
  static constexpr std::chrono::milliseconds kChange{4};
  static constexpr std::chrono::milliseconds kChangesAhead{800};
  static constexpr std::size_t kSize = 64 * 1024;
  static constexpr std::size_t kMost = 1024 * 1024;

  explicit IopubWriter(Emit emit, std::function<Clock::time_point()> now = [] { return Clock::now(); });
  ~IopubWriter();
  IopubWriter(const IopubWriter&) = delete;
  IopubWriter& operator=(const IopubWriter&) = delete;

  /// Starts the thread that sends gathered text when it is due.
  void start();

  /// Ends that thread and sends everything gathered.
  void stop();

  void stream(const Request& parent, StreamName name, std::string_view text);
  void publish(const std::string& type, const Request& parent, const json& content,
               const json& metadata = json::object(), Frames buffers = {});

  /// Sends what is gathered for `parent`; bytes of an unfinished character stay.
  void flush(const Request& parent);

  /// The request ends: sends everything, an unfinished character as U+FFFD, and publishes its idle status.
  void finish(const Request& parent);

  /// Sends what is due now; returns when the next text will be due.
  std::optional<Clock::time_point> flush_due();

private:
  struct Piece {
    StreamName name;
    std::string text;
  };
  struct Gathered {
    Request parent;
    std::vector<Piece> pieces;  // neighbours differ in name; in order, while changes may be told
    std::string unfinished[2];  // by StreamName
    std::size_t size = 0;
    Clock::time_point last{};  // when text was last sent; the epoch: never
  };

  void end_locked(Gathered& g);
  void send_locked(Gathered& g);
  bool may_change_locked();
  void append_locked(Gathered& g, StreamName name, std::string_view text);
  void run();

  Emit emit_;
  std::function<Clock::time_point()> now_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<const Message*, Gathered> gathered_;
  Clock::time_point changes_until_{};  // the time that the changes told so far take, of all requests
  bool stopping_ = false;
  bool waiting_idle_ = false;  // the thread sleeps without a deadline
  std::thread thread_;
};

}  // namespace caller::kernel
