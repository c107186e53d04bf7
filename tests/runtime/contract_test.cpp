// Every backend runs the contract.
#include "backend_contract.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <list>

#include <caller/host.hpp>
#if CALLER_TEST_ASIO
#include <caller/asio.hpp>
#endif
#if CALLER_TEST_UV
#include <uv.h>
#include <caller/uv.hpp>
#endif

namespace caller::test {

/// A descriptor that can be read.
class Readable {
public:
  Readable() : fd_(::eventfd(1, EFD_CLOEXEC)) { REQUIRE(fd_ >= 0); }
  Readable(const Readable&) = delete;
  Readable& operator=(const Readable&) = delete;
  ~Readable() { ::close(fd_); }
  int fd() const { return fd_; }

private:
  int fd_;
};

/// A Caller that turns its own loop. `keep` does not own it, so it ends with `caller`.
struct OwnLoop {
  static constexpr bool kGuest = false;
  std::optional<Caller> caller;
  Caller keep;

  OwnLoop(Backend backend, CallerOptions options)
      : caller(make(backend, std::move(options))), keep(Caller::current()) {}
  static Caller make(Backend backend, CallerOptions options) {
    options.backend = backend;
    return Caller(manual, options);
  }
  void turn_until(const PendingBase& p) {
    if (!p.done()) keep.run_until(p);
  }
};

struct ManualBackend : OwnLoop {
  static constexpr Backend kBackend = Backend::manual;
  static constexpr bool kNestedEvents = true;
  explicit ManualBackend(CallerOptions options = {}) : OwnLoop(kBackend, std::move(options)) {}
  void event(std::function<void()> fn) {  // it has no events but times
    keep.call_later(1us, std::move(fn));
  }
  void finish() {}
};

#if CALLER_TEST_ASIO

/// Events of an io_context.
struct AsioEvents {
  using Descriptor = boost::asio::posix::stream_descriptor;
  struct Event {
    Readable readable;
    Descriptor descriptor;
    explicit Event(const boost::asio::io_context::executor_type& executor) : descriptor(executor, readable.fd()) {}
    ~Event() { descriptor.release(); }
  };
  std::list<Event> events;

  void add(const boost::asio::io_context::executor_type& executor, std::function<void()> fn) {
    const auto e = events.emplace(events.end(), executor);
    e->descriptor.async_wait(Descriptor::wait_read, [this, e, fn = std::move(fn)](const auto& error) {
      if (error) return;
      events.erase(e);
      fn();
    });
  }
};

struct AsioBackend : OwnLoop {
  static constexpr Backend kBackend = Backend::asio;
  static constexpr bool kNestedEvents = true;
  AsioEvents events;
  explicit AsioBackend(CallerOptions options = {}) : OwnLoop(kBackend, std::move(options)) { keep.executor(); }
  void event(std::function<void()> fn) { events.add(keep.executor(), std::move(fn)); }
  void finish() { events.events.clear(); }
};

/// As long as nobody asked for its io_context.
struct LazyAsioBackend : OwnLoop {
  static constexpr Backend kBackend = Backend::asio;
  static constexpr bool kNestedEvents = true;
  AsioEvents events;
  explicit LazyAsioBackend(CallerOptions options = {}) : OwnLoop(kBackend, std::move(options)) {}
  void event(std::function<void()> fn) { events.add(keep.executor(), std::move(fn)); }
  void finish() { events.events.clear(); }
};

struct AsioGuest {
  static constexpr Backend kBackend = Backend::asio;
  static constexpr bool kGuest = true, kNestedEvents = true;
  boost::asio::io_context io;
  AsioEvents events;
  std::optional<Caller> caller;

  explicit AsioGuest(CallerOptions options = {}) {
    options.host = asio_host(io);
    caller.emplace(guest, options);
  }
  void turn_until(const PendingBase& p) {
    const auto working = boost::asio::make_work_guard(io);
    while (!p.done()) {
      if (io.stopped()) io.restart();
      io.run_one_for(100ms);  // the Pending may be done without it
    }
  }
  void event(std::function<void()> fn) { events.add(io.get_executor(), std::move(fn)); }
  void finish() {
    events.events.clear();
    io.restart();
    io.run();  // returns: nothing of the Caller is left in it
  }
};

#endif

#if CALLER_TEST_UV

/// Events of a uv_loop_t; each is closed after it happened.
struct UvEvents {
  struct Event {
    Readable readable;
    uv_poll_t handle{};
    std::function<void()> fn;
  };
  std::list<Event*> open;

  static void close(Event* e) {
    uv_close(reinterpret_cast<uv_handle_t*>(&e->handle), [](uv_handle_t* h) { delete static_cast<Event*>(h->data); });
  }
  void add(uv_loop_t* loop, std::function<void()> fn) {
    auto* e = new Event;
    e->fn = [this, e, fn = std::move(fn)] {
      open.remove(e);
      fn();
    };
    open.push_back(e);
    REQUIRE(uv_poll_init(loop, &e->handle, e->readable.fd()) == 0);
    e->handle.data = e;
    uv_poll_start(&e->handle, UV_READABLE, [](uv_poll_t* h, int, int) {
      auto* self = static_cast<Event*>(h->data);
      const auto call = std::move(self->fn);
      close(self);
      call();
    });
  }
};

struct UvBackend : OwnLoop {
  static constexpr Backend kBackend = Backend::uv;
  static constexpr bool kNestedEvents = true;
  uv_loop_t* loop;
  UvEvents events;
  explicit UvBackend(CallerOptions options = {}) : OwnLoop(kBackend, std::move(options)), loop(uv_loop()) {}
  ~UvBackend() {
    caller.reset();
    finish();
  }
  void event(std::function<void()> fn) { events.add(loop, std::move(fn)); }
  void finish() {  // its loop has closed the handles, without calling anybody
    for (UvEvents::Event* e : events.open) delete e;
    events.open.clear();
  }
};

struct UvGuest {
  static constexpr Backend kBackend = Backend::uv;
  static constexpr bool kGuest = true, kNestedEvents = false;
  uv_loop_t loop{};
  uv_async_t stay{};  // the test's own: other threads' calls are awaited, too
  UvEvents events;
  std::optional<Caller> caller;

  explicit UvGuest(CallerOptions options = {}) {
    REQUIRE(uv_loop_init(&loop) == 0);
    uv_async_init(&loop, &stay, [](uv_async_t*) {});
    options.host = uv_host(&loop);
    caller.emplace(guest, options);
  }
  ~UvGuest() {
    caller.reset();
    finish();
    uv_close(reinterpret_cast<uv_handle_t*>(&stay), nullptr);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);
  }
  void turn_until(const PendingBase& p) {
    p.add_done_callback([this](const PendingBase&) { uv_async_send(&stay); });
    while (!p.done()) uv_run(&loop, UV_RUN_ONCE);
  }
  void event(std::function<void()> fn) { events.add(&loop, std::move(fn)); }
  void finish() {
    for (UvEvents::Event* e : events.open) UvEvents::close(e);
    events.open.clear();
    uv_run(&loop, UV_RUN_NOWAIT);
  }
};

#endif

#if CALLER_TEST_ASIO && CALLER_TEST_UV

/// Both on one thread: Asio waits, and watches libuv. The events are libuv's.
struct UvBesideAsio : UvBackend {
  explicit UvBesideAsio(CallerOptions options = {}) : UvBackend(std::move(options)) { keep.executor(); }
};

#endif

/// A loop of poll(2).
struct FdGuest {
  static constexpr Backend kBackend = Backend::manual;
  static constexpr bool kGuest = true, kNestedEvents = false;
  std::shared_ptr<FdHost> host = std::make_shared<FdHost>();
  struct Event {
    Readable readable;
    std::function<void()> fn;
  };
  std::list<Event> events;
  std::optional<Caller> caller;

  explicit FdGuest(CallerOptions options = {}) {
    options.host = host;
    caller.emplace(guest, options);
  }
  void turn_until(const PendingBase& p) {
    const Readable done;
    std::uint64_t count = 0;
    REQUIRE(::read(done.fd(), &count, sizeof count) == sizeof count);
    p.add_done_callback([fd = ::dup(done.fd())](const PendingBase&) {
      const std::uint64_t one = 1;
      (void)!::write(fd, &one, sizeof one);
      ::close(fd);
    });
    while (!p.done()) {
      std::vector<pollfd> fds{{host->descriptor(), POLLIN, 0}, {done.fd(), POLLIN, 0}};
      for (const Event& e : events) fds.push_back({e.readable.fd(), POLLIN, 0});
      REQUIRE(::poll(fds.data(), fds.size(), host->timeout_ms()) >= 0);
      if (fds[0].revents || (host->deadline() && *host->deadline() <= std::chrono::steady_clock::now())) host->turn();
      if (!events.empty() && fds.size() > 2 && fds[2].revents) {
        auto fn = std::move(events.front().fn);
        events.pop_front();
        fn();
      }
    }
  }
  void event(std::function<void()> fn) { events.emplace_back().fn = std::move(fn); }
  void finish() {
    events.clear();
    CHECK_FALSE(host->busy());
    CHECK_FALSE(host->deadline());
    host->turn();
  }
};

}  // namespace caller::test

using namespace caller::test;

CALLER_BACKEND_CONTRACT(ManualBackend);
CALLER_BACKEND_CONTRACT(FdGuest);
#if CALLER_TEST_ASIO
CALLER_BACKEND_CONTRACT(AsioBackend);
CALLER_BACKEND_CONTRACT(LazyAsioBackend);
CALLER_BACKEND_CONTRACT(AsioGuest);
#endif
#if CALLER_TEST_UV
CALLER_BACKEND_CONTRACT(UvBackend);
CALLER_BACKEND_CONTRACT(UvGuest);
#endif
#if CALLER_TEST_ASIO && CALLER_TEST_UV
CALLER_BACKEND_CONTRACT(UvBesideAsio);
#endif
