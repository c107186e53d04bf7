// Channel<T>: values from any thread to one coroutine, in order.
#pragma once

#include <coroutine>
#include <cstddef>
#include <optional>
#include <utility>

#include <caller/detail/channel.hpp>
#include <caller/pending.hpp>

namespace caller {

/// How a Channel is made.
struct ChannelOptions {
  std::size_t capacity = 0;  ///< how many values may be in it; zero: any number
};

namespace detail {

template <class T>
struct ReceiveAwaiter : ChannelWait {
  using caller_awaitable = void;
  explicit ReceiveAwaiter(ChannelState<T>& c) noexcept : ChannelWait(c) {}
  bool await_ready() const noexcept {
    if (!channel.may_go_on() || channel.stride == 0) return false;
    --channel.stride;
    return true;
  }
  bool await_suspend(std::coroutine_handle<> h) {
    return !static_cast<ChannelState<T>&>(channel).next_stride() && suspend(h);
  }
  std::optional<T> await_resume() {
    if (handle) resumed();
    throw_if_cancelled(*this);
    return static_cast<ChannelState<T>&>(channel).take();
  }
};

template <class T>
struct SendAwaiter : ChannelSend {
  using caller_awaitable = void;
  using State = ChannelState<T>;
  typename State::Stored value;

  SendAwaiter(State& c, T&& v)
      : ChannelSend(c,
                    [](ChannelSend& s) {
                      auto& self = static_cast<SendAwaiter&>(s);
                      const auto how = static_cast<State&>(self.channel).push(self.value);
                      self.sent = how != State::Push::closed;
                      self.must_wake = how == State::Push::must_wake;
                    }),
        value(State::store(std::move(v))) {}
  bool await_ready() { return !cancellation_due() && attempt(); }
  bool await_suspend(std::coroutine_handle<> h) { return suspend(h); }
  bool await_resume() {
    handle = {};
    throw_if_cancelled(*this);
    return sent;
  }
};

}  // namespace detail

/// What Channel::receive gives to `co_await`.
template <class T>
class [[nodiscard]] ChannelReceive {
public:
  using caller_awaitable = void;
  /// For Channel::receive.
  explicit ChannelReceive(detail::ChannelState<T>& state) noexcept : state_(state) {}
  detail::ReceiveAwaiter<T> operator co_await() const noexcept { return detail::ReceiveAwaiter<T>(state_); }

private:
  detail::ChannelState<T>& state_;
};

/// What Channel::async_send gives to `co_await`, once.
template <class T>
class [[nodiscard]] ChannelSending {
public:
  using caller_awaitable = void;
  /// For Channel::send.
  ChannelSending(detail::ChannelState<T>& state, T&& value) : state_(state), value_(std::move(value)) {}
  ChannelSending(const ChannelSending&) = delete;
  ChannelSending& operator=(const ChannelSending&) = delete;
  detail::SendAwaiter<T> operator co_await() && { return detail::SendAwaiter<T>(state_, std::move(value_)); }

private:
  detail::ChannelState<T>& state_;
  T value_;
};

/// A queue of values from any number of senders to one receiver at a time.
///
/// Values are received in the order in which they were sent; each sender's own order is part of that. A Channel is a
/// cheap shared handle: copies share the queue, and what is in it is destroyed with the last of them. A handle that was
/// moved from is empty (`operator bool` is false), and only assignment and destruction are allowed. Keep a handle
/// alive while a call on it runs or is awaited.
///
/// Whoever receives may change, on the same or another Caller or thread, one after the other; a second one while the
/// first still waits gets Error(Errc::receiver_exists).
///
/// T is an object type that can be moved and whose destructor does not throw. Up to 64 bytes that move without throwing
/// are kept in the queue itself, other values in a block each.
///
/// Thread-safety: senders and close(): any thread. Receiving: one at a time. One handle object: as an int.
/// Cancel-safety: no value is lost, see each function.
/// Errors: std::bad_alloc (the constructor, and sending); see each function.
/// Source: Go channels; anyio memory object streams; TooManyCooks tmc::channel. Differs: sending never blocks a thread;
/// one receiver; without a capacity there is no back-pressure, and no rendezvous of sender and receiver with any.
template <class T>
class Channel {
public:
  using value_type = T;

  /// A channel without a limit. Errors: std::bad_alloc. Source: anyio.create_memory_object_stream(math.inf).
  Channel() : Channel(ChannelOptions{}) {}
  /// Units: capacity in values. Errors: std::bad_alloc. Source: anyio.create_memory_object_stream(n); Go make(chan T,
  /// n).
  explicit Channel(ChannelOptions options) : state_(new detail::ChannelState<T>(options.capacity)) {}
  Channel(const Channel& other) noexcept : state_(other.state_) {
    if (state_) state_->ref();
  }
  Channel(Channel&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
  Channel& operator=(Channel other) noexcept {
    std::swap(state_, other.state_);
    return *this;
  }
  ~Channel() {
    if (state_) state_->unref();
  }

  /// False for a handle that was moved from. Thread-safety: as an int. Errors: none. Source: ours.
  explicit operator bool() const noexcept { return state_ != nullptr; }
  /// The same channel. Thread-safety: as an int. Errors: none. Source: Go, comparison of channels.
  friend bool operator==(const Channel& a, const Channel& b) noexcept { return a.state_ == b.state_; }

  /// Puts a value at the end and never blocks. True: it is in the channel. False: the channel is closed, or has a
  /// capacity and is full (or others wait in async_send); the value is destroyed.
  ///
  /// Without a capacity it takes no lock, and one atomic step unless the receiver sleeps, which the first value wakes.
  /// Once in a block of some dozens of values, senders yield until the one among them that adds the next has done so.
  /// Thread-safety: any thread, also one without a Caller.
  /// Errors: std::bad_alloc, and what moving T throws: nothing was sent then.
  /// Source: anyio send_nowait; Go `select` with a default; differs: false instead of WouldBlock.
  bool send(T value) const { return state_->send(std::move(value)); }

  /// `co_await ch.async_send(v)`: the same, but waits while the channel is full. True: sent; false: closed, possibly
  /// while it waited. Senders that wait are let in in the order in which they came; send() does not overtake them.
  /// Without a capacity it never waits.
  ///
  /// Thread-safety: from coroutines of any Caller; each resumes on its own.
  /// Cancel-safety: a sender that is cancelled while it waits has sent nothing, and its value is destroyed; once its
  /// value is in the channel it returns true, and the next co_await throws. So of a Pending around it (an item of
  /// Caller::wait) that was cancelled one does not know whether it sent.
  /// Errors: PendingCancelled; NoRunningCaller; std::bad_alloc; what moving T throws.
  /// Source: anyio send; Go `ch <- v`; differs: a closed channel gives false instead of an error.
  ChannelSending<T> async_send(T value) const { return ChannelSending<T>(*state_, std::move(value)); }

  /// `co_await ch.receive()`: the oldest value, which leaves the channel; waits for one. Nothing: the channel is closed
  /// and all that was sent has been received.
  ///
  /// After 256 values that were there already, the rest of its Caller's queue has a turn first.
  /// Thread-safety: one receiver at a time, a coroutine of any Caller; it resumes on its own.
  /// Cancel-safety: a receiver that is cancelled while it waits has taken nothing, also if a value had come already:
  /// the value stays for the next one. Errors: Error(receiver_exists) when another waits; PendingCancelled;
  /// NoRunningCaller; what moving T throws: then the value stays where it is. Source: anyio receive; Go `v, ok :=
  /// <-ch`; differs: nothing instead of EndOfStream.
  ChannelReceive<T> receive() const noexcept { return ChannelReceive<T>(*state_); }

  /// The oldest value, if there is one. Never blocks (a send that has begun, but not ended, is waited for).
  /// Thread-safety: the receiver's, on any thread. Errors: Error(receiver_exists); what moving T throws, see receive().
  /// Source: anyio receive_nowait; differs: nothing instead of WouldBlock and EndOfStream.
  std::optional<T> try_receive() const {
    state_->check_alone("Channel::try_receive");
    if (!state_->ready() && !state_->empty()) state_->await_slot();
    return state_->take();
  }

  /// receive() for functions: blocks the thread. On a Caller's own thread its loop goes on turning meanwhile.
  /// Thread-safety: the receiver's, on any thread. Cancel-safety: as receive(). Units: timeout in any std::chrono
  /// duration; none: for ever; zero: look once. Errors: TimedOut; Error(receiver_exists); PendingCancelled when the
  /// calling work is cancelled; what moving T throws, see receive(). Source: Go `v, ok := <-ch`.
  std::optional<T> receive_wait(std::optional<Duration> timeout = {}) const {
    state_->block(timeout);
    return state_->take();
  }

  /// Ends the channel: from now on nothing can be sent, and senders that wait get false. What is in it is still
  /// received, then nothing, for ever. False: it was closed before.
  /// Thread-safety: any thread. Errors: none.
  /// Source: Go close; differs: closing twice and sending afterwards are no errors.
  bool close() const noexcept { return state_->close(); }

  /// close() was called; values may still be in it. Thread-safety: any thread. Errors: none.
  bool closed() const noexcept { return state_->closed(); }

  /// As constructed; zero: any number. Thread-safety: any thread. Errors: none. Source: Go cap.
  std::size_t capacity() const noexcept { return state_->bounds ? state_->bounds->capacity : 0; }

private:
  detail::ChannelState<T>* state_;
};

}  // namespace caller
