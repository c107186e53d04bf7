// Large arguments and results, kept once by the hash of their content.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <caller/export.hpp>
#include <caller/task/app_handle.hpp>

namespace caller::task {

/// Which arguments and results are kept apart from their invocations. Equal ones are stored once, however many
/// invocations name them, and are dropped when the last of these has been purged.
/// Units: bytes. Source: pynenc ConfigClientDataStore.
struct ClientDataOptions {
  std::size_t min_size = 16 * 1024;      ///< an argument or result from this size on; 0: none is
  std::size_t warn_size = 10'000'000;    ///< a larger one is logged; 0: none is
  std::size_t local_cache = 64'000'000;  ///< of what was read, kept in this process; 0: nothing
};

/// A piece of what is stored of arguments or a result.
struct StoredPiece {
  std::string bytes;   ///< as they are; of a part that is kept apart, its hash: see Store::data()
  bool apart = false;  ///< whether it is one
};

/// What an application's invocations have stored, made whole. Source: pynenc BaseClientDataStore; differs: a reference
/// begins with a byte that no serialised value begins with, so no text of a user's is taken for one.
class CALLER_API ClientDataStore {
public:
  /// For App::client_data_store.
  explicit ClientDataStore(detail::AppHandle app) : app_(std::move(app)) {}
  /// Are these arguments (or is this result) stored with parts that are kept apart?
  /// Thread-safety: any thread. Errors: none. Source: pynenc is_reference.
  static bool is_reference(std::string_view stored) noexcept;
  /// What they consist of, in its order, for who has a store and no application: with each part in its place they are
  /// the bytes that were given. What is no reference is one piece.
  /// Thread-safety: any thread. Errors: SerializationError for what makes no sense. Source: –
  static std::vector<StoredPiece> pieces(std::string_view stored);
  /// The bytes that were given: of InvocationRecord::args or ::result. Waits for the store.
  /// Thread-safety: any thread. Errors: StateBackendError when a part is missing; SerializationError for what makes no
  /// sense. Source: pynenc resolve.
  std::string resolve(std::string stored) const;

private:
  detail::AppHandle app_;
};

}  // namespace caller::task
