// What a process of nodes hears and says: messages of the runner and of peers, the barrier, errors and warnings.
#include <chrono>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

#include "worker.hpp"

namespace caller::tube::detail {

void Worker::send(std::string bytes) { commands_.send(taken(bytes), zmq::send_flags::none); }
void Worker::send_warnings() {
  std::vector<std::string> texts;
  {
    const std::lock_guard lock(warnings_mutex_);
    texts.swap(warnings_);
  }
  for (std::string& text : texts) send(message(Message::warning, Map{{"text", std::move(text)}}));
}
void Worker::answer(const char* what, Map content) {
  send_warnings();
  content.set("done", what);
  send(message(Message::status, content));
}
void Worker::report(const RecordHead& where, const std::exception_ptr& error) {
  flush();
  List items;
  for (std::size_t i = 1; i < where.key.size(); ++i) items.push_back(static_cast<std::uint32_t>(where.key[i]));
  send(message(Message::error, Map{{"epoch", where.epoch}, {"items", items}, {"error", told(error)}}));
}

void Worker::drain() {
  last_look_ = std::chrono::steady_clock::now();
  zmq::message_t m;
  // Commands first: a grant, then what belongs to it.
  for (zmq::socket_t* socket : {&commands_, &events_}) {
    while (!stopping_ && socket->recv(m, zmq::recv_flags::dontwait)) {
      try {
        handle(view(m));
      } catch (const std::exception& e) {  // of nobody who belongs here
        warn(std::string("a message to a process of nodes is passed over: ") + e.what());
      }
    }
    if (replica_ && !stopping_) (void)apply_pending();  // values of epochs that have begun need not be held
  }
}

void Worker::handle(std::string_view bytes) {
  ByteReader reader(bytes);
  const auto kind = static_cast<Message>(reader.byte());
  if (!replica_ && kind != Message::stop) return;
  switch (kind) {
    case Message::stop:
      stopping_ = true;
      break;
    case Message::event:
      handle_events(reader);
      break;
    case Message::ping: {
      const std::uint64_t round = reader.varint();
      heard(round, static_cast<std::uint32_t>(reader.varint()));
      break;
    }
    case Message::announce:
      announce(content_of(reader));
      break;
    case Message::process:
      grant(read_grant(reader));
      break;
    case Message::enable:
    case Message::start:
    case Message::deinit:
      pending_.push_back({kind, {}, content_of(reader)});
      break;
    case Message::epoch_ended:
      give_up(content_of(reader));
      break;
    case Message::query:
      answer("query", Map{{"received", replica_->received},
                          {"messages", messages_},
                          {"sent", sent_},
                          {"open_most", open_most_},
                          {"held_most", replica_->held_most}});
      break;
    default:
      ByteReader::malformed("an unknown message");
  }
}

void Worker::handle_events(ByteReader& reader) {
  ++messages_;
  RecordHead head;
  std::string_view values;
  while (!reader.empty()) {
    read_record(reader, head, values);
    // A peer's message has all that it emitted; what is of no use here is passed over.
    if (head.node >= needed_.size() || !needed_[head.node]) continue;
    if (head.epoch >= granted_ && !layout_.uses_inputs[self_]) {
      // A peer has begun an epoch, so there is one: of single ones nobody else says so.
      grant({head.epoch, 1, {}});
      (void)apply_pending();
    }
    replica_->arrived(head, values);
    replica_->advance();
  }
}

void Worker::announce(const Map& content) {
  round_ = content.at("round").to<std::uint64_t>();
  const List endpoints = content.at("endpoints").items();
  for (const std::uint32_t p : layout_.peers[self_]) {
    const std::string& endpoint = endpoints.at(p).as<std::string>();
    if (!peers_[p] || peers_[p]->endpoint != endpoint) {
      peers_[p].reset();
      Peer& peer = peers_[p].emplace(Peer{endpoint, make_socket(context_, zmq::socket_type::push)});
      connect(peer.socket, meeting_, endpoint);
    }
    std::string ping(1, static_cast<char>(Message::ping));
    write_varint(ping, round_);
    write_varint(ping, self_);
    peers_[p]->socket.send(taken(ping), zmq::send_flags::none);
  }
  round_open_ = true;
  heard(round_, self_);
}

/// The barrier: a node is ready when every peer was heard on the way its values will come.
void Worker::heard(std::uint64_t round, std::uint32_t from) {
  heard_.emplace(round, from);
  if (!round_open_) return;
  for (const std::uint32_t p : layout_.sources[self_])
    if (!heard_.contains({round_, p})) return;
  round_open_ = false;
  heard_.erase(heard_.begin(), heard_.upper_bound({round_, static_cast<std::uint32_t>(processes_)}));
  answer("announce", Map{{"round", round_}});
}

void Worker::give_up(const Map& content) {
  static const std::exception_ptr reason = std::make_exception_ptr(std::runtime_error("the epoch was given up"));
  // A list of single ones, or all before one.
  if (const Value* before = content.find("before")) {
    over_before_ = before->to<std::uint64_t>();
    (void)replica_->give_up_before(over_before_, reason);
  } else {
    for (const Value& v : content.at("epochs").items()) {
      const auto number = v.to<std::uint64_t>();
      if (!replica_->give_up(number, reason) && number >= runner_->next_epoch()) given_up_.insert(number);
    }
  }
  reap();
}

}  // namespace caller::tube::detail
