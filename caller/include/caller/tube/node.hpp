// Nodes: what a registered type looks like to the tube, and how one is called.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

#include <caller/coro.hpp>
#include <caller/export.hpp>
#include <caller/tube/epoch.hpp>
#include <caller/tube/event.hpp>
#include <caller/tube/value.hpp>

namespace caller::tube {

/// What a node or asset may know of the runner around it; a parameter of this type (`const RunnerContext&`) receives
/// it. Source: noob RunnerContext.
struct RunnerContext {
  std::string runner;   ///< the class of the runner, like `SynchronousRunner`
  std::string tube_id;  ///< of the tube it runs
  Map input;            ///< the tube-scoped inputs
};

/// All positional arguments beyond the named slots; a last parameter of this type takes them. Source: `*args` in noob.
struct Args {
  List values;  ///< in their order
};
/// All keyword arguments that are no named slot, each optional; a parameter of this type takes them. Source: `**kwargs`
/// in noob.
struct Kwargs {
  Map values;  ///< by name
};

/// An input of a node: a parameter that an edge, a param of the specification or a default fills.
struct Slot {
  std::string name;                       ///< as specifications name it
  std::string type;                       ///< the C++ type, for messages
  bool optional = false;                  ///< the node also runs when the edge's signal is silent
  bool reference = false;                 ///< takes a shared object: an asset
  std::optional<Value> fallback;          ///< what stands here when nothing fills the slot
  void (*check)(const Value&) = nullptr;  ///< throws if the slot cannot take the value
};

/// An output of a node.
struct Signal {
  std::string name;  ///< as specifications name it
  std::string type;  ///< the C++ type, for messages
  /// What of it is an object of a type of its own, which crosses processes only with a codec; null: nothing, or not
  /// known.
  const std::type_info* object = nullptr;
};

namespace detail {
/// What a runner tells about a call in progress, asked for only by nodes that want to know.
class CALLER_API CallInfo {
public:
  virtual ~CallInfo();
  virtual Epoch epoch() const = 0;
  virtual EventMap events() const = 0;
  virtual const RunnerContext& context() const = 0;
  /// The names of the slots, the declared ones first, then keywords of a pack.
  virtual std::span<const std::string> slot_names() const = 0;
};
}  // namespace detail

/// One call of a node: its arguments, and where its values go.
///
/// Thread-safety: used by the one thread that runs the call. Errors: none unless stated.
/// Source: the arguments and the return value of noob's Node.process.
class Call {
public:
  /// For runners.
  Call(std::span<const Value* const> slots, std::span<const Value* const> positional, std::span<Value> out,
       const detail::CallInfo& info) noexcept
      : slots_(slots), positional_(positional), out_(out), info_(info) {}

  /// The argument of a slot, counted as the type declares them; null if it is absent.
  const Value* arg(std::size_t slot) const noexcept { return slots_[slot]; }
  /// of all declared slots, null where absent
  std::span<const Value* const> args() const noexcept { return slots_; }
  /// Positional arguments beyond the declared slots.
  std::span<const Value* const> positional() const noexcept { return positional_; }
  /// the declared ones first, then keywords
  std::span<const std::string> slot_names() const { return info_.slot_names(); }

  /// Emits `value` as the signal of that number. A signal that is not emitted is silent.
  void emit(std::size_t signal, Value value) noexcept { out_[signal] = std::move(value); }
  /// how many there are
  std::size_t signals() const noexcept { return out_.size(); }
  /// for those who emit all at once
  std::span<Value> out() noexcept { return out_; }
  /// Says that this source has ended; nothing it emitted in this call counts.
  void end_stream() noexcept { ended_ = true; }
  /// end_stream() was called
  bool stream_ended() const noexcept { return ended_; }

  /// the epoch of this call
  Epoch epoch() const { return info_.epoch(); }
  /// The events behind the arguments; costs a look-up.
  EventMap events() const { return info_.events(); }
  /// what the node may know of its runner
  const RunnerContext& context() const { return info_.context(); }

private:
  std::span<const Value* const> slots_, positional_;
  std::span<Value> out_;
  const detail::CallInfo& info_;
  bool ended_ = false;
};

/// A node at work, made by a runner from its type and its params. Derive from it for what functions and classes cannot
/// say.
///
/// Thread-safety: a stateful node is called by one thread at a time, in the order of epochs; a stateless one by
/// several. Cancel-safety: process_async() may be cancelled at its suspension points. Errors: what init() and process()
/// throw ends the call of the runner, as a NodeError in the case of process(). Source: noob Node.
class CALLER_API Node {
public:
  virtual ~Node();
  /// Opens what the node holds; called before its first call. Does nothing here.
  virtual void init(const RunnerContext& context);
  /// Closes it; called once for each init. Does nothing here.
  virtual void deinit(const RunnerContext& context);
  /// Takes the arguments of `call` and emits.
  virtual void process(Call& call) = 0;
  /// Whether process_async() is to be awaited instead of process().
  virtual bool is_coroutine() const noexcept { return false; }
  /// The same as a coroutine, for types that say so by is_coroutine(). Here it is process().
  virtual Coro<void> process_async(Call& call);

protected:
  /// Runs process_async() to its end, turning the loop of this thread's Caller meanwhile if there is one.
  void run_to_end(Call& call);
};

/// The params of a node or asset: by name, already looked up in the inputs.
using Params = Map;

struct NodeSpec;

/// What is registered under a name: slots, signals, and how to make a node. Source: noob NodeInfo.
struct NodeType {
  /// What the runner itself must know of a type.
  enum class Special : std::uint8_t { none, map, gather, ret, tube };
  std::string name;                 ///< as specifications name it
  std::string description;          ///< for people
  std::vector<Slot> slots;          ///< its inputs
  std::vector<Slot> params;         ///< what params may name; for functions the slots themselves
  std::vector<Signal> signals;      ///< its outputs
  bool stateful = false;            ///< must see epochs in their order
  bool source = false;              ///< makes its values itself: no slots
  bool coroutine = false;           ///< process_async() is awaited
  bool takes_args = false;          ///< any number of positional arguments
  bool takes_kwargs = false;        ///< any keyword
  bool any_params = false;          ///< params are looked at by the type itself
  bool params_are_slots = false;    ///< a function's: a param fills a slot
  Special special = Special::none;  ///< none for registered types
  std::function<std::unique_ptr<Node>(const Params&)> make;  ///< makes a node from the params
  /// For types whose slots and signals depend on the specification; null for others.
  std::function<void(const NodeSpec&, std::vector<Slot>& slots, std::vector<Signal>& signals)> shape;
  std::shared_ptr<void> module;  ///< keeps the plugin loaded that the functions above are in
};

/// An asset at work: the object nodes share, and what happens at the ends of its scope. Source: noob Asset.
class CALLER_API AssetInstance {
public:
  virtual ~AssetInstance();
  /// Makes the object. Called at the beginning of the asset's scope.
  virtual Value open(const RunnerContext& context) = 0;
  /// The scope ends; the object dies with its last holder.
  virtual void close(const Value& object) noexcept;
};

/// What is registered as an asset under a name.
struct AssetType {
  std::string name;                                                   ///< as specifications name it
  std::string description;                                            ///< for people
  std::string type;                                                   ///< the C++ type of the object
  std::vector<Slot> params;                                           ///< what params may name
  std::function<std::unique_ptr<AssetInstance>(const Params&)> make;  ///< makes an asset from the params
  std::shared_ptr<void> module;                                       ///< keeps the plugin loaded that `make` is in
};

}  // namespace caller::tube
