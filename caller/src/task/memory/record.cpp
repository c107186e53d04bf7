// Records: how they come and go, and where they are found.
#include "record.hpp"

#include <limits>
#include <new>

namespace caller::task {

namespace memory {

Record* Record::make(const detail::LocalDraft& d) {
  const std::array<std::string_view, kTexts> texts{d.id,    d.call_id,          d.task_id,    d.parent_id,
                                                   d.queue, d.registration_key, d.running_key};
  std::size_t size = 0;
  for (const std::string_view text : texts) size += text.size();
  if (size > std::numeric_limits<std::uint32_t>::max())
    throw StateBackendError("the names and keys of an invocation are too long");
  char* const block = static_cast<char*>(::operator new(sizeof(Record) + size + d.args.size()));
  auto* const r = ::new (block) Record;
  char* const begin = block + sizeof(Record);
  char* at = begin;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    at += texts[i].copy(at, texts[i].size());
    r->ends_[i] = static_cast<std::uint32_t>(at - begin);
  }
  d.args.copy(at, d.args.size());
  r->args_size_ = d.args.size();
  r->texts_ = begin;
  r->hash = Table::hash(d.id);
  r->priority = d.priority;
  r->reroute = d.reroute;
  return r;
}

void Table::grow() {
  std::vector<Record*> places(2 * places_.size());
  for (Record* r : places_)
    while (r) {
      Record*& first = places[r->hash & (places.size() - 1)];
      r = std::exchange(r->next, std::exchange(first, r));
    }
  places_ = std::move(places);
}

}  // namespace memory

namespace detail {

void LocalCall::destroy(LocalCall* call) noexcept {
  auto* const r = static_cast<memory::Record*>(call);
  r->~Record();
  ::operator delete(static_cast<void*>(r));
}

LocalRef::LocalRef(LocalCall& call) noexcept : call_(&call) { call.ref(); }
LocalRef::LocalRef(const LocalRef& o) noexcept : call_(o.call_) {
  if (call_) call_->ref();
}
void LocalRef::leave() noexcept { call_->unref(); }

}  // namespace detail

}  // namespace caller::task
