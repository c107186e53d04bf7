#include "remote_store.hpp"

#include <array>

namespace caller::task::detail {

void RemoteStore::receive(Frame kind, Unpacker frame) {
  const auto number = frame.get<std::uint64_t>();
  if (kind == Frame::reply) {
    const bool succeeded = frame.get<bool>();
    std::function<void(bool, Unpacker&)> done;
    {
      const std::lock_guard lock(mutex_);
      const auto it = waiting_.find(number);
      if (it == waiting_.end()) return;
      done = std::move(it->second);
      waiting_.erase(it);
    }
    return done(succeeded, frame);
  }
  Listener listener;
  {
    const std::lock_guard lock(mutex_);
    if (const auto it = listeners_.find(number); it != listeners_.end()) listener = it->second;
  }
  if (kind == Frame::work && listener.work) listener.work();
  if (kind == Frame::cancelled && listener.cancelled) listener.cancelled(frame.get<std::string>());
  if (kind == Frame::value && listener.value) listener.value(frame.get<std::string>());
}

void RemoteStore::forget(std::uint64_t number) {
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.erase(number) == 0) return;
  }
  send_(Packer(Frame::forget).put(number).take());
}

std::shared_ptr<void> RemoteStore::listen(std::string runner, Listener listener) {
  std::uint64_t number;
  const std::optional<std::string> values = listener.value ? std::optional(listener.values) : std::nullopt;
  {
    const std::lock_guard lock(mutex_);
    number = ++last_;
    listeners_.emplace(number, std::move(listener));
  }
  send_(Packer(Frame::listen).put(number).put(runner).put(values).take());
  return std::shared_ptr<void>(nullptr, [self = shared_from_this(), number](void*) {
    {
      const std::lock_guard lock(self->mutex_);
      self->listeners_.erase(number);
    }
    self->send_(Packer(Frame::unlisten).put(number).take());
  });
}

namespace {

using RepliesPtr = std::shared_ptr<StoreServer::Replies>;

template <class R>
void answer_with(const Pending<R>& done, std::uint64_t number, const RepliesPtr& replies) {
  Packer reply(Frame::reply);
  reply.put(number);
  if (const auto error = done.exception())
    reply.put(false).put(ExceptionRecord::of(error).to_json());
  else if constexpr (std::is_void_v<R>)
    reply.put(true);
  else
    reply.put(true).put(done.result());
  replies->send(reply.take());
}

template <auto F, class R, class... A>
void serve(Store& store, Pending<R> (Store::*operation)(A...), Unpacker& frame, std::uint64_t number,
           const RepliesPtr& replies) {
  std::tuple<std::decay_t<A>...> arguments{frame.get<std::decay_t<A>>()...};
  const Pending<R> done = std::apply([&](auto&... a) { return (store.*operation)(std::move(a)...); }, arguments);
  if (done.done()) return answer_with(done, number, replies);
  constexpr bool waits = StoreOperations::is_wait<F>();
  if constexpr (waits) {
    const std::lock_guard lock(replies->mutex);
    replies->waits.emplace(number, done);
  }
  (void)done.add_done_callback([number, replies](const PendingBase& p) {
    if constexpr (waits) {
      const std::lock_guard lock(replies->mutex);
      replies->waits.erase(number);
    }
    if (!p.cancelled()) answer_with(Pending<R>::share(p.state()), number, replies);
  });
}

using Serve = void (*)(Store&, Unpacker&, std::uint64_t, const RepliesPtr&);
template <auto F>
void serve_one(Store& store, Unpacker& frame, std::uint64_t number, const RepliesPtr& replies) {
  serve<F>(store, F, frame, number, replies);
}
template <auto... F>
constexpr std::array<Serve, sizeof...(F)> table(OperationList<F...>) {
  return {&serve_one<F>...};
}
constexpr auto kServe = table(StoreOperations());

}  // namespace

StoreServer::StoreServer(std::shared_ptr<Store> store, std::function<void(std::string)> send)
    : store_(std::move(store)), replies_(std::make_shared<Replies>(std::move(send))) {}

StoreServer::~StoreServer() {
  std::unordered_map<std::uint64_t, PendingBase> waits;
  {
    const std::lock_guard lock(replies_->mutex);
    waits.swap(replies_->waits);
  }
  for (const auto& [number, wait] : waits) (void)wait.cancel();
}

void StoreServer::receive(Frame kind, Unpacker frame) {
  const auto number = frame.get<std::uint64_t>();
  if (kind == Frame::unlisten) {
    listeners_.erase(number);
  } else if (kind == Frame::forget) {
    std::optional<PendingBase> wait;
    {
      const std::lock_guard lock(replies_->mutex);
      if (const auto it = replies_->waits.find(number); it != replies_->waits.end()) wait = it->second;
    }
    if (wait) (void)wait->cancel();
  } else if (kind == Frame::listen) {
    auto runner = frame.get<std::string>();
    Listener listener;
    listener.work = [replies = replies_, number] { replies->send(Packer(Frame::work).put(number).take()); };
    listener.cancelled = [replies = replies_, number](const std::string& id) {
      replies->send(Packer(Frame::cancelled).put(number).put(id).take());
    };
    if (auto values = frame.get<std::optional<std::string>>()) {
      listener.values = std::move(*values);
      listener.value = [replies = replies_, number](const std::string& key) {
        replies->send(Packer(Frame::value).put(number).put(key).take());
      };
    }
    listeners_[number] = store_->listen(std::move(runner), std::move(listener));
  } else {
    const auto operation = frame.get<std::uint8_t>();
    if (operation >= kServe.size()) throw SerializationError("an unknown operation of a store");
    kServe[operation](*store_, frame, number, replies_);
  }
}

}  // namespace caller::task::detail
