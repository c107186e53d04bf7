#include "pool.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <system_error>

namespace caller::task::detail {

using caller::detail::Child;
using caller::detail::Descriptor;

void Link::send(std::string frame) {
  const std::lock_guard lock(mutex_);
  if (gone_) return;
  const bool waiting = !out_.empty();
  if (waiting)
    out_ += frame;
  else
    out_ = std::move(frame);
  flush();
  if (!waiting && !out_.empty() && wake_) wake_();
}

void Link::flush() noexcept {
  std::size_t sent = 0;
  while (sent < out_.size()) {
    const ssize_t n = ::send(channel_, out_.data() + sent, out_.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) sent = out_.size();  // it has gone, which is told of otherwise
    if (n <= 0) break;
    sent += static_cast<std::size_t>(n);
  }
  out_.erase(0, sent);
}

Pool::Pool(std::shared_ptr<Store> store, Events events)
    : store_(std::move(store)), events_(std::move(events)), woken_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!woken_) throw std::system_error(errno, std::generic_category(), "eventfd");
  thread_ = std::thread([this] { serve(); });
}

Pool::~Pool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake();
  thread_.join();
}

void Pool::wake() const noexcept {
  const std::uint64_t one = 1;
  (void)!::write(woken_.get(), &one, sizeof one);
}

LinkPtr Pool::start(const std::vector<std::string>& command) {
  auto link = std::make_shared<Link>(Child::start(command));
  link->server_ = std::make_unique<StoreServer>(store_, [weak = link->weak_from_this()](std::string frame) {
    if (const auto there = weak.lock()) there->send(std::move(frame));
  });
  link->wake_ = [fd = woken_.get()] {
    const std::uint64_t one = 1;
    (void)!::write(fd, &one, sizeof one);
  };
  {
    const std::lock_guard lock(mutex_);
    fresh_.push_back(link);
  }
  wake();
  return link;
}

bool Pool::read(const LinkPtr& link) {
  constexpr std::size_t kChunk = 64 * 1024;
  for (;;) {
    const ssize_t n = ::recv(link->channel_, link->in_.room(kChunk), kChunk, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 && errno == EAGAIN;
    link->in_.got(static_cast<std::size_t>(n));
    try {
      while (const auto frame = link->in_.next()) {
        const auto [kind, bytes] = *frame;
        if (kind == Frame::request || kind == Frame::forget || kind == Frame::listen || kind == Frame::unlisten)
          link->server_->receive(kind, Unpacker(bytes));
        else
          events_.said(link, kind, bytes);
      }
    } catch (const std::exception& e) {
      link->nonsense_ = e.what();
      return false;
    }
    if (static_cast<std::size_t>(n) < kChunk) return true;
  }
}

void Pool::serve() {
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);  // signals are for the program's own threads
  struct Watched {
    LinkPtr link;
    bool open = true;
  };
  std::vector<Watched> links;
  std::vector<pollfd> fds;
  for (;;) {
    fds.assign(1, {woken_.get(), POLLIN, 0});
    for (const auto& w : links) {
      bool waiting = false;
      if (w.open) {
        const std::lock_guard lock(w.link->mutex_);
        waiting = !w.link->out_.empty();
      }
      fds.push_back({w.open ? w.link->channel_ : -1, static_cast<short>(waiting ? POLLIN | POLLOUT : POLLIN), 0});
      fds.push_back({w.link->child_.watch(), POLLIN, 0});
    }
    (void)::poll(fds.data(), fds.size(), -1);
    for (std::size_t i = 0; i < links.size(); ++i) {
      Watched& w = links[i];
      const short channel = fds[1 + 2 * i].revents;
      const bool ended = fds[2 + 2 * i].revents && w.link->child_.ended();
      if (channel & POLLOUT) {
        const std::lock_guard lock(w.link->mutex_);
        w.link->flush();
      }
      if (w.open && ((channel & ~POLLOUT) || ended)) {
        w.open = read(w.link);
        if (!w.open) w.link->kill();  // whoever does not listen to us any more is of no use
      }
      if (!ended) continue;
      {
        const std::lock_guard lock(w.link->mutex_);
        w.link->gone_ = true;
        w.link->out_.clear();
      }
      w.link->server_.reset();
      events_.ended(w.link);
      w.link.reset();
    }
    std::erase_if(links, [](const Watched& w) { return !w.link; });
    std::uint64_t ignored;
    (void)!::read(woken_.get(), &ignored, sizeof ignored);
    const std::lock_guard lock(mutex_);
    if (stopping_) {
      for (const auto& w : links) {  // nobody wakes us any more
        const std::lock_guard inner(w.link->mutex_);
        w.link->gone_ = true;
      }
      break;
    }
    for (auto& link : fresh_) links.push_back({std::move(link), true});
    fresh_.clear();
  }
}

}  // namespace caller::task::detail
