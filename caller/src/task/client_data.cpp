#include "client_data.hpp"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <nlohmann/json.hpp>

#include "app.hpp"

namespace caller::task {

namespace detail {

namespace {

// A store that answers that question is there; what it refuses once more is not for want of it.
constexpr const char* kAnyKey = "is it there";
constexpr int kRefusals = 3;
constexpr std::chrono::milliseconds kPause{200};
constexpr const char* kAskedAgain = "large arguments or a result are asked of the store again: ";

struct Place {
  std::size_t at;
  std::string hash;
};
struct Head {
  std::vector<Place> places;
  std::string_view rest;
};

[[noreturn]] void refuse() {
  throw SerializationError(
      "the stored arguments or result cannot be read: parts are kept apart, and their list is damaged");
}

Head head_of(std::string_view bytes) {
  const std::size_t line = bytes.find('\n');
  if (!is_packed(bytes) || line == std::string_view::npos) refuse();
  const auto list = nlohmann::json::parse(bytes.substr(1, line - 1), nullptr, false);
  if (!list.is_array()) refuse();
  Head head{{}, bytes.substr(line + 1)};
  std::size_t before = 0;
  for (const auto& one : list) {
    if (!one.is_array() || one.size() != 2 || !one[0].is_number_unsigned() || !one[1].is_string()) refuse();
    const auto at = one[0].get<std::size_t>();
    if (at < before || at > head.rest.size()) refuse();
    head.places.push_back({before = at, one[1].get<std::string>()});
  }
  return head;
}

std::string whole(const Head& head, const std::vector<std::string>& parts) {
  std::size_t size = head.rest.size(), at = 0;
  for (const auto& part : parts) size += part.size();
  std::string out;
  out.reserve(size);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    out += head.rest.substr(at, head.places[i].at - at);
    out += parts[i];
    at = head.places[i].at;
  }
  out += head.rest.substr(at);
  return out;
}

std::string found(std::optional<std::string> content, const std::string& hash) {
  if (!content) throw UnreadableError("the data " + hash + " is not in the store any more");
  return std::move(*content);
}

}  // namespace

Packed pack(std::string bytes, const std::vector<Span>& parts) {
  if (parts.empty()) return {std::move(bytes), {}};
  Packed out;
  auto list = nlohmann::json::array();
  std::string rest;
  std::size_t at = 0;
  for (const Span& part : parts) {
    rest.append(bytes, at, part.begin - at);
    at = part.end;
    std::string content = bytes.substr(part.begin, part.end - part.begin);
    std::string hash = sha256_of(content);
    list.push_back({rest.size(), hash});
    out.data.emplace_back(std::move(hash), std::move(content));
  }
  rest.append(bytes, at);
  out.bytes = kPacked + list.dump() + "\n" + rest;
  return out;
}

std::vector<std::string> data_of(std::string_view bytes) {
  std::vector<std::string> out;
  if (is_packed(bytes))
    for (auto& place : head_of(bytes).places) out.push_back(std::move(place.hash));
  return out;
}

bool ClientData::is_large(std::size_t size) const noexcept {
  const std::size_t least = app_.options.client_data.min_size;
  return least != 0 && size >= least;
}

std::string ClientData::packed_args(const TaskDefinition& definition, const CallBytes& call,
                                    std::vector<std::pair<std::string, std::string>>& data) const {
  if (!is_large(call.args.size())) return call.args;
  const auto& stay = definition.options.disable_cache_args;
  const auto stays = [&](const std::string& name) {
    return std::any_of(stay.begin(), stay.end(), [&](const std::string& s) { return s == "*" || s == name; });
  };
  std::vector<Span> parts;
  for (std::size_t i = 0; i < call.places.size(); ++i) {
    const auto [begin, end] = call.places[i];
    if (is_large(end - begin) && !stays(definition.parameters[i])) parts.push_back({begin, end});
    warn(definition.id + ": the argument " + definition.parameters[i], end - begin);
  }
  Packed packed = pack(call.args, parts);
  data.insert(data.end(), std::make_move_iterator(packed.data.begin()), std::make_move_iterator(packed.data.end()));
  return std::move(packed.bytes);
}

namespace {
/// In the handler of what the store has refused, for the `refused`th time after this.
void ask_again_or_throw(const AppCore& app, int& refused) {
  const std::exception_ptr why = std::current_exception();
  if (!store_is_away(why) || ++refused == kRefusals) throw;
  app.log(kAskedAgain + ExceptionRecord::of(why).message);
}
}  // namespace

/// What `ask` gives, which asks the store something, once that is there.
template <class F>
std::string ClientData::insist(F ask) const {
  for (int refused = 0;;) {
    try {
      return ask();
    } catch (const StateBackendError&) {
      ask_again_or_throw(app_, refused);
    }
    for (;;) {
      const Pending<void> pause;
      WaitOptions how;
      how.timeout = kPause;
      how.protect = true;
      (void)pause.wait_done(how);
      const Pending<std::optional<std::string>> there = store_of(app_).value(kAnyKey);
      there.wait_done();
      if (!there.exception()) break;
    }
  }
}

template <class F>
Coro<std::string> ClientData::async_insist(F ask) const {
  for (int refused = 0;;) {
    try {
      Coro<std::string> asking = ask();
      std::string out = co_await std::move(asking);
      co_return out;
    } catch (const StateBackendError&) {
      ask_again_or_throw(app_, refused);
    }
    for (;;) {
      co_await sleep_for(kPause);
      const Pending<std::optional<std::string>> there = store_of(app_).value(kAnyKey);
      (void)co_await there.async_wait_done();
      if (!there.exception()) break;
    }
  }
}

std::string ClientData::args_for_task(std::string_view stored) {
  return insist([&] { return unpack(std::string(stored)); });
}
Coro<std::string> ClientData::async_args_for_task(std::string stored) {
  Coro<std::string> insisting = async_insist([&] { return async_unpack(stored); });
  std::string out = co_await std::move(insisting);
  co_return out;
}

Packed ClientData::whole_result(std::string bytes) const {
  warn("a result", bytes.size());
  const std::vector<Span> all(1, Span{0, bytes.size()});
  return pack(std::move(bytes), all);
}
std::string ClientData::put_result(const Packed& packed) const {
  const auto& [hash, content] = packed.data.front();
  store_of(app_).put_data(hash, content).wait();
  return packed.bytes;
}
Coro<std::string> ClientData::async_put_result(const Packed& packed) const {
  const auto& [hash, content] = packed.data.front();
  const Pending<void> put = store_of(app_).put_data(hash, content);
  co_await put;
  co_return packed.bytes;
}

std::string ClientData::packed_result(std::string bytes) const {
  if (!is_large(bytes.size())) return bytes;
  const Packed packed = whole_result(std::move(bytes));
  return insist([&] { return put_result(packed); });
}
Coro<std::string> ClientData::async_packed_result(std::string bytes) const {
  if (!is_large(bytes.size())) co_return bytes;
  const Packed packed = whole_result(std::move(bytes));
  Coro<std::string> insisting = async_insist([&] { return async_put_result(packed); });
  std::string out = co_await std::move(insisting);
  co_return out;
}

void ClientData::warn(const std::string& what, std::size_t size) const {
  const std::size_t most = app_.options.client_data.warn_size;
  if (most != 0 && size > most) app_.log(what + " has " + std::to_string(size) + " bytes");
}

std::string ClientData::unpack(std::string bytes) {
  if (!is_packed(bytes)) return bytes;
  const Head head = head_of(bytes);
  std::vector<std::string> parts(head.places.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string& hash = head.places[i].hash;
    if (find(hash, parts[i])) continue;
    parts[i] = found(store_of(app_).data(hash).wait(), hash);
    keep(hash, parts[i]);
  }
  return whole(head, parts);
}

Coro<std::string> ClientData::async_unpack(std::string bytes) {
  if (!is_packed(bytes)) co_return bytes;
  const Head head = head_of(bytes);
  std::vector<std::string> parts(head.places.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string& hash = head.places[i].hash;
    if (find(hash, parts[i])) continue;
    const Pending<std::optional<std::string>> asked = store_of(app_).data(hash);
    std::optional<std::string> content = co_await asked;
    parts[i] = found(std::move(content), hash);
    keep(hash, parts[i]);
  }
  co_return whole(head, parts);
}

bool ClientData::find(const std::string& hash, std::string& content) {
  const std::lock_guard lock(mutex_);
  const auto it = by_hash_.find(hash);
  if (it == by_hash_.end()) return false;
  kept_.splice(kept_.begin(), kept_, it->second);
  content = it->second->content;
  return true;
}

void ClientData::keep(const std::string& hash, const std::string& content) {
  if (content.size() > app_.options.client_data.local_cache) return;
  const std::lock_guard lock(mutex_);
  if (by_hash_.contains(hash)) return;
  kept_.push_front({hash, content});
  by_hash_.emplace(kept_.front().hash, kept_.begin());
  for (size_ += content.size(); size_ > app_.options.client_data.local_cache;) {
    size_ -= kept_.back().content.size();
    by_hash_.erase(kept_.back().hash);
    kept_.pop_back();
  }
}

}  // namespace detail

bool ClientDataStore::is_reference(std::string_view stored) noexcept { return detail::is_packed(stored); }

std::vector<StoredPiece> ClientDataStore::pieces(std::string_view stored) {
  std::vector<StoredPiece> out;
  const auto add = [&](std::string_view bytes, bool apart) {
    if (apart || !bytes.empty()) out.push_back({std::string(bytes), apart});
  };
  if (!detail::is_packed(stored)) {
    add(stored, false);
    return out;
  }
  const detail::Head head = detail::head_of(stored);
  std::size_t at = 0;
  for (const auto& [place, hash] : head.places) {
    add(head.rest.substr(at, place - at), false);
    add(hash, true);
    at = place;
  }
  add(head.rest.substr(at), false);
  return out;
}

std::string ClientDataStore::resolve(std::string stored) const { return app_->data.unpack(std::move(stored)); }

}  // namespace caller::task
