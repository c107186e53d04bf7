// What a fault leaves of the C streams. Internal to this folder.
#pragma once

namespace caller::kernel::faults {

/// A fault in the middle of `fwrite` leaves the stream locked by this thread, and every other thread would wait for it
/// for ever: gives back what the calling thread holds of the three standard ones.
/// Thread-safety: any thread. Errors: none. Source: –
void release_streams() noexcept;

}  // namespace caller::kernel::faults
