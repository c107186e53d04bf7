// The scheduler: which node runs next in which epoch, and what all of them have emitted.
//
// An *instance* is a root epoch or one item of a map: a copy of its region's counters, and a cell for each of its
// signals. An edge is *resolved* when its signal has a value or is known to stay silent; a node is ready when all its
// edges are resolved. Was a required one silent, the node ends without running, and its own signals are silent. So
// optional edges need no counting of their own, and the cost of an epoch is that of its edges.
//
// Not thread-safe: runners with several threads hold a lock around every call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <caller/tube/event.hpp>
#include <caller/tube/value.hpp>

#include "graph.hpp"

namespace caller::tube::detail {

struct Cell {
  enum class State : std::uint8_t { pending, present, silent };
  Value value;
  std::uint64_t id = 0;
  std::uint64_t stamp = 0;
  State state = State::pending;
};

/// How it stands with a node in an instance.
struct Place {
  std::uint32_t waits = 0;  ///< edges that are not resolved
  bool dead = false;        ///< something it requires is silent
  bool ended = false;
  bool awaited = false;  ///< ready, and its values are made by another process
};

/// Nodes of inner regions whose end an outer instance waits for: gathers, users of an asset, stateful nodes below two
/// maps.
struct Watch {
  std::uint32_t node;
  std::uint32_t inner;                ///< the number of the inner region on the way to it
  bool gathers = false;               ///< the node is a gather directly inside: its signal is resolved here
  bool chains = false;                ///< stateful: the next instance's first item waits
  std::vector<std::uint32_t> closes;  ///< nodes of this region that wait
  std::uint32_t outer = kNone;        ///< the same watch in the region around this one, if there is one
};

/// What instances of a region start from, for one set of enabled nodes.
struct RegionPlan {
  struct Outer {
    std::uint32_t place;  ///< of the node that waits
    std::uint32_t from;   ///< a signal, or for orders a node
    bool required;
    bool order;
  };
  struct InputEdge {
    std::uint32_t place, input;
  };
  std::vector<Place> places;           ///< with the edges from inside
  std::vector<Cell::State> cells;      ///< silent for what cannot happen
  std::vector<std::uint32_t> initial;  ///< nodes that no edge from inside leads to
  std::vector<Outer> outer;            ///< edges from around
  std::vector<InputEdge> inputs;       ///< required process inputs that may be absent
  std::vector<std::uint32_t> gated;    ///< places of stateful nodes
  std::vector<Watch> watches;
  std::uint32_t alive = 0;
};

/// What every node touches comes first, the rest is for maps, inputs and assets.
struct Instance {
  std::uint32_t region = 0;
  std::uint32_t index = 0;
  std::uint64_t number = 0;
  Instance* root = nullptr;
  std::vector<Place> places;  ///< by place
  std::vector<Cell> cells;
  // of a root epoch
  std::exception_ptr error;
  std::uint32_t busy = 0;  ///< nodes that run now
  bool ended_stream = false;
  bool closed = false;
  std::uint32_t open = 0;  ///< nodes that have not ended, and inner instances that are not closed

  Instance* parent = nullptr;
  Instance* before = nullptr;  ///< the item before this one; of a root epoch, the epoch before it while that is running
  Instance* after = nullptr;
  std::vector<std::vector<Instance*>> inner;
  std::vector<std::uint32_t>
      left;  ///< by watch: how many items have not ended that node, plus one before the map has run
  std::vector<std::uint8_t> chained;  ///< by watch: done here and in every instance before
  std::vector<List> buffers;          ///< by watch: what a gather has collected
  // of a root epoch
  std::vector<std::optional<Value>> inputs;
  std::vector<Value> assets;  ///< of scope process, by asset
};

struct Ready {
  Instance* instance;
  std::uint32_t node;
};

/// Which nodes can run at all: enabled, and nothing they require can be silent for ever.
std::vector<std::uint8_t> alive_nodes(const Graph& graph, const std::vector<std::uint8_t>& enabled);

/// Ticks for time stamps, cheaper than a look at the clock.
std::uint64_t ticks() noexcept;

class Core {
public:
  explicit Core(std::shared_ptr<const Graph> graph);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  const Graph& graph() const noexcept { return *graph_; }
  bool enabled(std::uint32_t node) const noexcept { return enabled_[node]; }
  /// Takes effect with the next epoch.
  void enable(std::uint32_t node, bool on);

  /// A new root epoch; its sources are ready. `overlapping`: the one before may still run.
  Instance* begin(std::vector<std::optional<Value>> inputs);
  /// The next node to run, what was ready first first; false if nothing is ready now. It is busy until finish() or
  /// drop().
  bool next(Ready& ready);
  bool has_ready() const noexcept { return !queue_.empty() || shelved_ > 0; }
  /// From now on several workers take turns. What one has made ready is its own, and it takes the oldest epoch's nodes
  /// first; who has none takes the newest of another. So an epoch is gone through in one processor's cache, epochs come
  /// to an end one after the other, and not all of them reach their small nodes, where a lock counts, at the same time.
  /// Nothing may be ready.
  void share_among(std::size_t workers) { shelves_.resize(workers); }
  /// Until the next call, that worker turns the core. Only after share_among().
  void turned_by(std::size_t worker) noexcept { turner_ = worker; }
  /// The node has returned: its values become events. `out` is emptied.
  void finish(const Ready& ready, std::span<Value> out);
  /// Runs a map or gather.
  void run_special(const Ready& ready);
  /// A node of an epoch that was given up has returned.
  void drop(const Ready& ready);
  /// Gives the epoch up: nothing of it is ready any more. It closes when the nodes that run have been dropped, and
  /// every epoch before it has closed.
  void abandon(Instance* root, std::exception_ptr error);
  bool is_special(std::uint32_t node) const noexcept {
    const NodeType::Special s = graph_->nodes[node].special;
    return s == NodeType::Special::map || s == NodeType::Special::gather;
  }
  /// Gives the memory of a closed epoch back.
  void release(Instance* root);

  const Value* argument(const Source& source, const Instance* instance, const NodePlan& node) const noexcept;
  const Cell& cell(const Instance* instance, std::uint32_t signal) const noexcept;
  Epoch epoch_of(const Instance* instance) const;
  std::optional<Value> result(const Instance* root) const;
  void snapshot(const Instance* root, EventStore& store) const;
  Event event_of(const Instance* instance, std::uint32_t signal, const Cell& cell) const;
  std::chrono::system_clock::time_point time_of(std::uint64_t stamp) const;
  std::uint64_t next_number() const noexcept { return next_number_; }
  /// The next epoch gets that number: of a process that joins others. No epoch may run.
  void count_from(std::uint64_t number) noexcept { next_number_ = number; }

  /// Called with every event; null if nobody listens.
  std::function<void(const Instance*, std::uint32_t signal, const Cell&)> on_event;
  /// Called when a root epoch has nothing left to run.
  std::function<void(Instance*)> on_closed;
  /// A node ended without running, as something it requires is silent.
  std::function<void(const Ready&)> on_skipped;
  /// The signal an asset keeps was emitted.
  std::function<void(std::uint32_t signal, const Value&)> on_kept;
  /// Assets of scope runner, by asset.
  std::vector<Value> assets;

private:
  /// A node that is ready, with the age of its epoch.
  struct Aged {
    std::uint64_t epoch, turn;
    Ready ready;
    /// Whether it comes after the other.
    bool operator<(const Aged& other) const noexcept {
      return epoch != other.epoch ? epoch > other.epoch : turn > other.turn;
    }
  };

  void plan();
  void push(const Ready& ready) {
    if (shelves_.empty())
      queue_.push_back(ready);
    else
      shelve(ready);
  }
  void shelve(const Ready& ready);
  bool pop(Ready& ready);
  bool pop_shelved(Ready& ready);
  Instance* make(std::uint32_t region);
  void add_inner(Instance* outer, std::uint32_t map, List items);
  void map_ended(Instance* i, std::uint32_t map, std::size_t items);
  void publish(Instance* i, std::uint32_t signal, Value value, std::uint64_t stamp);
  void resolve_all(Instance* i, std::uint32_t signal, bool present);
  void resolve_inner(Instance* i, std::uint32_t node, bool required, bool present);
  void resolve(Instance* i, std::uint32_t node, bool dead) {
    const std::uint32_t place = where_[node].place;
    if (dead) i->places[place].dead = true;
    if (--i->places[place].waits == 0 && !i->root->error) push({i, node});
  }
  void end_node(Instance* i, std::uint32_t node);
  void watch_item_ended(Instance* outer, std::uint32_t watch, std::uint32_t items);
  void watch_done(Instance* i, std::uint32_t watch);
  bool chained_before(const Instance* i, std::uint32_t node) const noexcept;
  void chain(Instance* i, std::uint32_t watch);
  void chain_inside(Instance* i, std::uint32_t watch);
  void close(Instance* i);
  void close_abandoned(Instance* root);
  void release_first_items(Instance* i);
  void recycle(Instance* i);
  void gather(const Ready& ready);
  std::uint32_t watch_of(std::uint32_t region, std::uint32_t node) const noexcept;

  /// Of a node's plan what every edge to it needs: plans of thousands of nodes do not fit a cache.
  struct Where {
    std::uint32_t region, place;
  };

  std::shared_ptr<const Graph> graph_;
  std::vector<Where> where_;
  std::vector<std::uint8_t> enabled_, alive_;
  std::vector<RegionPlan> plans_;
  std::vector<std::vector<Instance*>> free_;  // by region
  std::vector<std::unique_ptr<Instance>> all_;
  std::vector<Ready> queue_;  // a ring would do; the front is consumed by index
  std::size_t head_ = 0;
  /// Instead of the queue, one for each worker.
  struct alignas(64) Shelf {
    std::vector<Aged> heap;
  };
  std::vector<Shelf> shelves_;
  std::size_t turner_ = 0, shelved_ = 0;
  std::uint64_t turn_ = 0;
  std::vector<List> buffers_;   // of gathers in no map, by node
  Instance* newest_ = nullptr;  // the root epoch begun last, while it runs
  std::uint64_t next_number_ = 0;
  std::uint64_t next_event_ = 0;
  std::uint32_t running_ = 0;
  std::uint64_t tick_zero_;
  std::chrono::system_clock::time_point time_zero_;
  bool planned_ = false;
};

}  // namespace caller::tube::detail
