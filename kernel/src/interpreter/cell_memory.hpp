// Where the code and data of cells live. Internal to this folder.
//
// A mapping for each piece of each cell would end a session after some twenty thousand cells, as a process may have
// only so many. Here pieces with the same rights lie side by side, so that the system sees one mapping; all of it is
// near enough for the short jumps and addresses that the code is made of, and none of it where unwinding loses it
// (cell_layout.hpp).
#pragma once

#include <llvm/ExecutionEngine/JITLink/JITLinkMemoryManager.h>

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>

namespace caller::kernel {

/// Thread-safety: any thread.
class CellMemory final : public llvm::jitlink::JITLinkMemoryManager {
public:
  CellMemory();
  ~CellMemory() override;

  void allocate(const llvm::jitlink::JITLinkDylib* library, llvm::jitlink::LinkGraph& graph,
                OnAllocatedFunction on_allocated) override;
  void deallocate(std::vector<FinalizedAlloc> pieces, OnDeallocatedFunction on_deallocated) override;

private:
  class InFlight;
  struct Piece;
  struct Range {
    char* begin = nullptr;
    std::size_t size = 0;
  };
  /// Part of the reservation, for pages of one kind.
  struct Arena {
    char* begin = nullptr;
    char* end = nullptr;
    char* next = nullptr;
    std::map<char*, std::size_t> free;  // behind `next` nothing has been used
  };

  Arena& arena_for(llvm::orc::MemProt rights);
  /// Writable pages, or null when there is no room. Whole pages.
  char* take(Arena& arena, std::size_t size);
  void give_back(const std::vector<Range>& ranges);

  std::mutex mutex_;
  char* reserved_ = nullptr;
  Arena code_, constants_, variables_;
};

}  // namespace caller::kernel
