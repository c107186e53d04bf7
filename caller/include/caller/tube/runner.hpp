// Runners: how a tube is run. One interface; where and how many at once is what differs.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <caller/coro.hpp>
#include <caller/export.hpp>
#include <caller/generator.hpp>
#include <caller/tube/event.hpp>
#include <caller/tube/node.hpp>
#include <caller/tube/tube.hpp>

namespace caller::tube {

/// What process() returns: the value of the return node, or nothing.
///
/// A scalar `depends` gives its value, a list of them a list, keywords a map, and both a list of the list and the map.
/// Below a map a keyword's value is the list of all items' values.
///
/// Thread-safety: distinct objects: safe; shared objects: unsafe while one changes.
/// Errors: value() and what it is built on throw Error(no_result) if there is none.
/// Source: the return value of noob's process(); differs: below a map always a list, also of one.
class CALLER_API Result {
public:
  Result() noexcept = default;
  /// A result, or none.
  explicit Result(std::optional<Value> value) noexcept : value_(std::move(value)) {}
  /// Whether the return node gave something.
  bool has_value() const noexcept { return value_.has_value(); }
  /// Whether the return node gave something.
  explicit operator bool() const noexcept { return has_value(); }
  /// The value. Errors: Error(no_result).
  const Value& value() const;
  /// The value. Errors: Error(no_result).
  const Value& operator*() const { return value(); }
  /// The value as a T. Errors: Error(no_result); as Value::to.
  template <class T>
  T to() const {
    return value().to<T>();
  }
  /// An entry of the value. Errors: Error(no_result); as Value's.
  template <class K>
  Value operator[](const K& key) const {
    return value()[key];
  }
  /// For people, cut off at about `limit` characters; `nothing` without a value.
  std::string repr(std::size_t limit = 80) const;
  friend bool operator==(const Result& a, const Result& b) { return a.value_ == b.value_; }
  friend bool operator==(const Result& a, const Value& b) { return a.value_ && *a.value_ == b; }

private:
  std::optional<Value> value_;
};

/// What callbacks see.
using Notice = std::variant<Event, MetaEvent>;

namespace detail {
class Frame;
}  // namespace detail

/// A node that is about to run, or runs.
///
/// Thread-safety: used by the thread that runs the node. Errors: none. Source: noob MetaEvent NodeReady.
class CALLER_API Firing {
public:
  /// For runners.
  explicit Firing(detail::Frame& frame) noexcept : frame_(frame) {}
  const std::string& node_id() const noexcept;  ///< its id
  Epoch epoch() const;                          ///< where it runs
  Node& node() const noexcept;                  ///< the node at work
  Call& call() const noexcept;                  ///< its arguments, and where its values go
  /// for runners
  detail::Frame& frame() const noexcept { return frame_; }

private:
  detail::Frame& frame_;
};

/// Runs a tube. The steps of process() are hooks that a derived class may replace, in the order in which they stand
/// here.
///
/// Nodes are made by the first init() and live as long as the runner; init() and deinit() open and close what they
/// hold.
///
/// Thread-safety: unsafe, except stop() where a runner has it; callbacks are called one at a time.
/// Cancel-safety: an exception, also that of an interrupt, leaves the runner usable; the epoch it broke off is lost.
/// Errors: NodeError with the node's own exception nested; InputMissingError; EndOfStream once a source has ended.
/// Source: noob TubeRunner.
class CALLER_API TubeRunner {
public:
  /// Makes no node yet. Errors: none.
  explicit TubeRunner(Tube tube);
  virtual ~TubeRunner();
  TubeRunner(const TubeRunner&) = delete;
  TubeRunner& operator=(const TubeRunner&) = delete;

  /// Opens nodes and assets of scope runner. Does nothing if that was done. Errors: what a node's init throws, the
  /// others closed again.
  virtual void init();
  /// Closes them, in reverse order. Does nothing if they are closed. Errors: none; what deinit of a node throws becomes
  /// a warning.
  virtual void deinit();
  /// Whether init() was called and deinit() was not.
  bool running() const noexcept;

  /// Runs one epoch: every source once, and what follows from it. Calls init() if need be.
  virtual Result process(const Map& inputs = {});
  /// Results, each from as many calls of process() as it takes, at most max_iter_loops; `n` of them, or until a source
  /// ends. Calls init() first and deinit() at the end. Errors: Error(no_result); TubeRunningError if the tube is being
  /// iterated already.
  virtual Generator<Result> iter(std::optional<std::size_t> n = std::nullopt);
  /// Calls process() `n` times, or until a source ends, and returns the results there were. Calls init() first and
  /// deinit() at the end.
  virtual std::vector<Result> run(std::size_t n);
  /// The same until a source ends; nothing is kept.
  virtual void run();

  /// Whether a source has ended: process() has nothing more to give.
  bool exhausted() const noexcept;
  /// From the next epoch on the node's signals are silent, or there again. Errors: Error(not_found).
  virtual void disable_node(std::string_view node);
  /// Ends disable_node(). Errors: Error(not_found).
  virtual void enable_node(std::string_view node);
  /// The ids of the nodes that are not disabled.
  std::vector<std::string> enabled_nodes() const;

  /// Called with every event and meta-event, on the thread where it arises, one at a time. Returns a number for
  /// remove_callback().
  std::size_t add_callback(std::function<void(const Notice&)> callback);
  /// The callback of that number is called no more.
  void remove_callback(std::size_t number);

  /// The events of the last epoch that has ended.
  EventStore store() const;
  /// The number of the next epoch.
  std::uint64_t next_epoch() const noexcept;
  RunnerContext get_context() const;  ///< what nodes may know of it
  const Tube& tube() const noexcept;  ///< what it runs

  /// How often iter() calls process() for one result before it gives up. Units: calls. Only for tubes with a return
  /// node.
  std::size_t max_iter_loops = 100;
  /// For the library.

  struct Impl;

protected:
  /// For messages, and RunnerContext::runner.
  virtual const char* class_name() const noexcept = 0;

  /// Checks process inputs and drops undeclared ones with a warning. Errors: InputMissingError, Error(wrong_type).
  virtual Map validate_input(const Map& inputs);
  /// An epoch is about to begin.
  virtual void before_process();
  /// Whether a node that is ready runs; if not, its signals are silent in this epoch.
  virtual bool filter_ready(Firing& firing);
  /// The node at work behind a firing.
  virtual Node& get_node(Firing& firing);
  /// Collects the arguments of a call.
  virtual void collect_input(Firing& firing);
  /// The arguments are there; the node is about to be called.
  virtual void before_call_node(Firing& firing);
  /// Calls the node.
  virtual void call_node(Firing& firing);
  /// The node has returned.
  virtual void after_call_node(Firing& firing);
  /// Takes over what the node has emitted, and tells callbacks.
  virtual void handle_events(Firing& firing);
  /// The epoch has ended.
  virtual void after_process();
  /// What the return node was given.
  virtual Result collect_return();

  /// For runners.
  Impl& impl() const noexcept { return *impl_; }

private:
  std::unique_ptr<Impl> impl_;
};

/// Runs every node on the calling thread, one after the other; coroutine nodes are run to their end.
/// Source: noob SynchronousRunner.
class CALLER_API SynchronousRunner : public TubeRunner {
public:
  /// See TubeRunner.
  explicit SynchronousRunner(Tube tube);
  ~SynchronousRunner() override;

protected:
  /// For messages.
  const char* class_name() const noexcept override;
};

/// What a ThreadRunner is made with.
struct ThreadOptions {
  std::size_t threads = 0;      ///< 0: as many as the machine has cores
  std::size_t max_pending = 0;  ///< epochs at work at once; 0: sixteen for each thread
};

/// Runs several epochs at once on a pool of Callers. Stateful nodes take the epochs in their order, and results come in
/// that order.
///
/// run() and iter() begin epochs ahead. What an iteration that is left early has begun is not lost: it is what the next
/// call gives. A tube with an asset of scope runner runs one epoch at a time. Callbacks, and in run() the hooks of the
/// result, too, run on the threads of the pool and must not call the runner. The threads stay until the runner is
/// destroyed. Source: noob has none; the seed's TubeRunner page describes the interface.
class CALLER_API ThreadRunner : public TubeRunner {
public:
  /// Starts no thread before init().
  explicit ThreadRunner(Tube tube, ThreadOptions options = {});
  ~ThreadRunner() override;

  void init() override;
  void deinit() override;
  Result process(const Map& inputs = {}) override;
  Generator<Result> iter(std::optional<std::size_t> n = std::nullopt) override;
  std::vector<Result> run(std::size_t n) override;
  void run() override;
  void disable_node(std::string_view node) override;
  /// As TubeRunner: from the next epoch on.
  void enable_node(std::string_view node) override;

protected:
  /// For messages.
  const char* class_name() const noexcept override;

private:
  struct Pool;
  std::unique_ptr<Pool> pool_;
};

/// What an AsyncRunner is made with.
struct AsyncOptions {
  std::size_t max_pending = 128;  ///< nodes at work at once
  /// Plain nodes that take less run on the loop itself, others on workers. A node's first call runs on a worker; 0: all
  /// do.
  std::chrono::microseconds run_inline_below{50};
  /// After an error: whether the nodes at work are cancelled, and how long they are waited for.
  bool cancel_on_error = false;
  std::chrono::milliseconds exception_timeout{10'000};  ///< for nodes at work after an error
};

/// Runs a tube on the Caller of the calling thread: coroutine nodes as tasks, all that is ready at once.
///
/// The functions with `_async` are for coroutines; the others run a loop until they have the result, or turn the one
/// that runs.
///
/// Cancel-safety: process_async() cancels the nodes at work, as far as they can be, and the epoch is lost.
/// Source: noob AsyncRunner; differs: a plain node that is quick runs on the loop.
class CALLER_API AsyncRunner : public TubeRunner {
public:
  /// See TubeRunner.
  explicit AsyncRunner(Tube tube, AsyncOptions options = {});
  ~AsyncRunner() override;

  /// As process(), awaited.
  Coro<Result> process_async(Map inputs = {});
  /// As iter(), awaited.
  AsyncGenerator<Result> iter_async(std::optional<std::size_t> n = std::nullopt);
  /// As run(n), awaited.
  Coro<std::vector<Result>> run_async(std::size_t n);
  Result process(const Map& inputs = {}) override;
  std::vector<Result> run(std::size_t n) override;
  void run() override;

protected:
  /// For messages.
  const char* class_name() const noexcept override;
  /// What call_node() is to coroutine nodes.
  virtual Coro<void> call_node_async(Firing& firing);

private:
  struct Work;
  std::unique_ptr<Work> work_;
};

}  // namespace caller::tube
