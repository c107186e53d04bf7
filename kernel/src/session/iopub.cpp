#include "session/iopub.hpp"

#include <algorithm>
#include <utility>

#include "protocol/own_thread.hpp"
#include "protocol/utf8.hpp"

namespace caller::kernel {

IopubWriter::IopubWriter(Emit emit, std::function<Clock::time_point()> now)
    : emit_(std::move(emit)), now_(std::move(now)) {}

IopubWriter::~IopubWriter() { stop(); }

void IopubWriter::start() {
  thread_ = own_thread("caller-iopub", [this] { run(); });
}

void IopubWriter::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (auto& [key, g] : gathered_) send_locked(g);
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool IopubWriter::may_change_locked() {
  const auto now = now_();
  const auto until = std::max(changes_until_, now) + kChange;
  if (until > now + kChangesAhead) return false;
  changes_until_ = until;
  return true;
}

void IopubWriter::append_locked(Gathered& g, StreamName name, std::string_view text) {
  std::string& unfinished = g.unfinished[static_cast<int>(name)];
  std::string whole = std::move(unfinished);
  unfinished.clear();
  whole += text;
  const std::size_t tail = unfinished_tail(whole);
  unfinished.assign(whole, whole.size() - tail, tail);
  whole.erase(whole.size() - tail);
  if (whole.empty()) return;
  whole = to_valid_utf8(std::move(whole));
  g.size += whole.size();
  const std::size_t count = g.pieces.size();
  if (count > 0 && g.pieces.back().name == name)
    g.pieces.back().text += whole;
  else if (count < 2 || may_change_locked())
    g.pieces.push_back({name, std::move(whole)});
  else
    g.pieces[count - 2].text += whole;  // the latest of its own stream
}

// Nothing comes any more.
void IopubWriter::end_locked(Gathered& g) {
  for (const StreamName name : {StreamName::out, StreamName::err}) {
    std::string& rest = g.unfinished[static_cast<int>(name)];
    if (rest.empty()) continue;
    rest.clear();
    append_locked(g, name, "\xEF\xBF\xBD");
  }
}

void IopubWriter::send_locked(Gathered& g) {
  if (g.pieces.empty()) return;
  auto pieces = std::exchange(g.pieces, {});
  g.size = 0;
  g.last = now_();
  for (Piece& piece : pieces)
    emit_("stream", g.parent,
          {{"name", piece.name == StreamName::out ? "stdout" : "stderr"}, {"text", std::move(piece.text)}},
          json::object(), {});
}

void IopubWriter::stream(const Request& parent, StreamName name, std::string_view text) {
  if (text.empty()) return;
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    Gathered& g = gathered_[parent.get()];
    g.parent = parent;
    append_locked(g, name, text);
    const auto since = g.last == Clock::time_point{} ? kInterval : now_() - g.last;
    if (since >= kInterval || g.size >= kMost || (g.size >= kSize && since >= kBurst))
      send_locked(g);
    else
      wake = waiting_idle_;
  }
  if (wake) changed_.notify_one();
}

void IopubWriter::publish(const std::string& type, const Request& parent, const json& content, const json& metadata,
                          Frames buffers) {
  const std::lock_guard lock(mutex_);
  if (const auto it = gathered_.find(parent.get()); it != gathered_.end()) send_locked(it->second);
  emit_(type, parent, content, metadata, std::move(buffers));
}

void IopubWriter::flush(const Request& parent) {
  const std::lock_guard lock(mutex_);
  if (const auto it = gathered_.find(parent.get()); it != gathered_.end()) send_locked(it->second);
}

void IopubWriter::finish(const Request& parent) {
  const std::lock_guard lock(mutex_);
  if (const auto it = gathered_.find(parent.get()); it != gathered_.end()) {
    end_locked(it->second);
    send_locked(it->second);
    gathered_.erase(it);
  }
  emit_("status", parent, {{"execution_state", "idle"}}, json::object(), {});
}

std::optional<IopubWriter::Clock::time_point> IopubWriter::flush_due() {
  const std::lock_guard lock(mutex_);
  const auto now = now_();
  std::optional<Clock::time_point> next;
  for (auto it = gathered_.begin(); it != gathered_.end();) {
    Gathered& g = it->second;
    const auto due = g.last + kInterval;
    if (due <= now) {
      // Half a character waits for the rest while anybody might write it.
      const bool quiet = g.pieces.empty() && g.unfinished[0].empty() && g.unfinished[1].empty();
      const bool last = g.parent.use_count() == 1;
      if (last) end_locked(g);
      send_locked(g);
      if (quiet || last) {
        it = gathered_.erase(it);  // quiet for a whole interval: the next text leaves at once anyway
        continue;
      }
    }
    if (!g.pieces.empty() || due > now) next = next ? std::min(*next, g.last + kInterval) : g.last + kInterval;
    ++it;
  }
  waiting_idle_ = !next;
  return next;
}

void IopubWriter::run() {
  for (;;) {
    const auto next = flush_due();
    std::unique_lock lock(mutex_);
    if (stopping_) return;
    if (next) {
      changed_.wait_until(lock, *next, [this] { return stopping_; });
    } else if (waiting_idle_) {
      changed_.wait(lock, [this] {
        return stopping_ ||
               std::any_of(gathered_.begin(), gathered_.end(), [](const auto& e) { return !e.second.pieces.empty(); });
      });
      waiting_idle_ = false;
    }
  }
}

}  // namespace caller::kernel
