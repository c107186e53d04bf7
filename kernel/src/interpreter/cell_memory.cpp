#include "cell_memory.hpp"

#include <llvm/ExecutionEngine/JITLink/JITLink.h>
#include <llvm/ExecutionEngine/Orc/Shared/AllocationActions.h>

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "cell_layout.hpp"

namespace caller::kernel {

using llvm::orc::MemLifetime;
using llvm::orc::MemProt;

namespace {

std::size_t page_size() {
  static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}
std::size_t whole_pages(std::size_t n) { return (n + page_size() - 1) / page_size() * page_size(); }

bool has(MemProt rights, MemProt one) { return (static_cast<unsigned>(rights) & static_cast<unsigned>(one)) != 0; }
int rights_of(MemProt p) {
  return (has(p, MemProt::Read) ? PROT_READ : 0) | (has(p, MemProt::Write) ? PROT_WRITE : 0) |
         (has(p, MemProt::Exec) ? PROT_EXEC : 0);
}

llvm::Error no_memory(std::size_t size) {
  return llvm::make_error<llvm::StringError>("there is no memory for " + std::to_string(size) + " bytes of a cell",
                                             std::error_code(ENOMEM, std::generic_category()));
}

char* map_apart(std::size_t size) {
  void* lost = MAP_FAILED;  // kept until another place is found
  for (;;) {
    void* const p = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const bool again =
        p != MAP_FAILED && lost == MAP_FAILED && holds_lost_address(reinterpret_cast<std::uintptr_t>(p), size);
    if (again) {
      lost = p;
      continue;
    }
    if (lost != MAP_FAILED) ::munmap(lost, size);
    return p == MAP_FAILED ? nullptr : static_cast<char*>(p);
  }
}

}  // namespace

/// What stays of an allocation, until it is given back.
struct CellMemory::Piece {
  std::vector<Range> ranges;
  std::vector<llvm::orc::shared::WrapperFunctionCall> actions;
};

class CellMemory::InFlight final : public InFlightAlloc {
public:
  InFlight(CellMemory& memory, llvm::jitlink::LinkGraph& graph) : memory_(memory), graph_(graph) {}

  struct Part {
    Range range;
    MemProt rights;
  };
  std::vector<Part> parts;
  std::vector<Range> passing;  // needed until it is finished only

  void finalize(OnFinalizedFunction on_finalized) override {
    for (const Part& part : parts)
      if (const int rights = rights_of(part.rights); rights != (PROT_READ | PROT_WRITE))
        if (::mprotect(part.range.begin, part.range.size, rights) != 0)
          return on_finalized(llvm::errorCodeToError(std::error_code(errno, std::generic_category())));
    auto actions = llvm::orc::shared::runFinalizeActions(graph_.allocActions());
    if (!actions) return on_finalized(actions.takeError());
    memory_.give_back(std::exchange(passing, {}));
    auto piece = std::make_unique<Piece>();
    for (const Part& part : std::exchange(parts, {})) piece->ranges.push_back(part.range);
    piece->actions = std::move(*actions);
    on_finalized(FinalizedAlloc(llvm::orc::ExecutorAddr::fromPtr(piece.release())));
  }

  void abandon(OnAbandonedFunction on_abandoned) override {
    std::vector<Range> all = std::exchange(passing, {});
    for (const Part& part : std::exchange(parts, {})) all.push_back(part.range);
    memory_.give_back(all);
    on_abandoned(llvm::Error::success());
  }

private:
  CellMemory& memory_;
  llvm::jitlink::LinkGraph& graph_;
};

CellMemory::CellMemory() {
  void* const p = ::mmap(nullptr, kCellReservation, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return;  // a limit on addresses: then each cell has mappings of its own
  const auto begin = reinterpret_cast<std::uintptr_t>(p);
  const CellLayout layout = cell_layout(begin);
  const std::size_t below = layout.begin - begin, above = kCellReservation - kCellSpace - below;
  reserved_ = static_cast<char*>(p) + below;
  if (below) ::munmap(p, below);
  if (above) ::munmap(reserved_ + kCellSpace, above);
  const auto arena = [&](std::uintptr_t at, std::size_t size) {
    char* const first = reserved_ + (at - layout.begin);
    return Arena{first, first + size, first, {}};
  };
  code_ = arena(layout.code, kCellCode);
  constants_ = arena(layout.constants, kCellConstants);
  variables_ = arena(layout.variables, kCellVariables);
}

CellMemory::~CellMemory() {
  if (reserved_) ::munmap(reserved_, kCellSpace);
}

CellMemory::Arena& CellMemory::arena_for(MemProt rights) {
  if (has(rights, MemProt::Exec)) return code_;
  return has(rights, MemProt::Write) ? variables_ : constants_;
}

char* CellMemory::take(Arena& arena, std::size_t size) {
  char* begin = nullptr;
  for (auto it = arena.free.begin(); it != arena.free.end(); ++it) {
    if (it->second < size) continue;
    begin = it->first;
    const std::size_t left = it->second - size;
    arena.free.erase(it);
    if (left) arena.free.emplace(begin + size, left);
    break;
  }
  if (!begin) {
    if (static_cast<std::size_t>(arena.end - arena.next) < size) return nullptr;
    begin = std::exchange(arena.next, arena.next + size);
  }
  if (::mprotect(begin, size, PROT_READ | PROT_WRITE) == 0) return begin;
  arena.free.emplace(begin, size);
  return nullptr;
}

void CellMemory::give_back(const std::vector<Range>& ranges) {
  const std::lock_guard lock(mutex_);
  for (const Range& r : ranges) {
    Arena* arena = nullptr;
    for (Arena* a : {&code_, &constants_, &variables_})
      if (r.begin >= a->begin && r.begin < a->end) arena = a;
    if (!arena) {
      ::munmap(r.begin, r.size);
      continue;
    }
    ::madvise(r.begin, r.size, MADV_DONTNEED);
    ::mprotect(r.begin, r.size, PROT_NONE);
    auto [it, fresh] = arena->free.emplace(r.begin, r.size);
    if (const auto after = std::next(it); after != arena->free.end() && it->first + it->second == after->first) {
      it->second += after->second;
      arena->free.erase(after);
    }
    if (it != arena->free.begin())
      if (const auto before = std::prev(it); before->first + before->second == it->first) {
        before->second += it->second;
        arena->free.erase(it);
      }
  }
}

void CellMemory::allocate(const llvm::jitlink::JITLinkDylib*, llvm::jitlink::LinkGraph& graph,
                          OnAllocatedFunction on_allocated) {
  llvm::jitlink::BasicLayout layout(graph);
  auto sizes = layout.getContiguousPageBasedLayoutSizes(page_size());  // also refuses what must be aligned beyond pages
  if (!sizes) return on_allocated(sizes.takeError());
  auto out = std::make_unique<InFlight>(*this, graph);
  const auto size_of = [](const llvm::jitlink::BasicLayout::Segment& s) {
    return whole_pages(s.ContentSize + static_cast<std::size_t>(s.ZeroFillSize));
  };
  const auto place = [&](const llvm::orc::AllocGroup& group, llvm::jitlink::BasicLayout::Segment& segment, char* at) {
    segment.WorkingMem = at;
    segment.Addr = llvm::orc::ExecutorAddr::fromPtr(at);
    const Range range{at, size_of(segment)};
    if (group.getMemLifetime() == MemLifetime::Finalize)
      out->passing.push_back(range);
    else
      out->parts.push_back({range, group.getMemProt()});
  };
  bool apart = false;
  {
    const std::lock_guard lock(mutex_);
    for (auto& [group, segment] : layout.segments()) {
      if (size_of(segment) == 0) continue;
      char* const at = take(arena_for(group.getMemProt()), size_of(segment));
      if (!at) {
        apart = true;
        break;
      }
      place(group, segment, at);
    }
  }
  if (apart) {  // too big for what is left: all of it in a place of its own
    out->abandon([](llvm::Error e) { llvm::consumeError(std::move(e)); });
    std::size_t total = 0;
    for (auto& [group, segment] : layout.segments()) total += size_of(segment);
    char* at = map_apart(total);
    if (!at) return on_allocated(no_memory(total));
    for (auto& [group, segment] : layout.segments()) {
      if (size_of(segment) == 0) continue;
      place(group, segment, at);
      at += size_of(segment);
    }
  }
  if (auto e = layout.apply()) {
    out->abandon([](llvm::Error inner) { llvm::consumeError(std::move(inner)); });
    return on_allocated(std::move(e));
  }
  on_allocated(std::move(out));
}

void CellMemory::deallocate(std::vector<FinalizedAlloc> pieces, OnDeallocatedFunction on_deallocated) {
  llvm::Error all = llvm::Error::success();
  for (auto it = pieces.rbegin(); it != pieces.rend(); ++it) {
    const std::unique_ptr<Piece> piece(it->release().toPtr<Piece*>());
    all = llvm::joinErrors(std::move(all), llvm::orc::shared::runDeallocActions(piece->actions));
    give_back(piece->ranges);
  }
  on_deallocated(std::move(all));
}

}  // namespace caller::kernel
