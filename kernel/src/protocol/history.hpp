// The input history of all sessions, in one SQLite file per user.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace caller::kernel {

/// One stored input.
struct HistoryEntry {
  int session = 0;
  int line = 0;
  std::string input;
  std::string output;  ///< empty when the cell showed nothing
};

/// Inputs and results by session and line. Each open object has a session of its own; others see it at once.
///
/// Never fails: where the file cannot be opened or written, the history of this process lives in memory, and the log
/// says so once.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: IPython's HistoryManager; differs: the number of a session is never reused, a pattern is matched in UTF-8.
class History {
public:
  /// `path` empty: in memory.
  explicit History(const std::string& path);
  ~History();
  History(const History&) = delete;
  History& operator=(const History&) = delete;

  /// A new session number; a subshell takes one of its own.
  int begin_session();
  int session() const noexcept { return session_; }
  bool persistent() const noexcept { return persistent_; }

  /// The highest number there is, also of other kernels.
  int newest_session();

  void store(int session, int line, const std::string& input);
  void store_output(int session, int line, const std::string& output);

  /// The last `n` entries, oldest first. `session` is excluded entirely when 0 < exclude_session.
  std::vector<HistoryEntry> tail(int n);

  /// Lines [start, stop) of a session; 0 is this one, negative ones count back from it; stop < 0 means to the end.
  std::vector<HistoryEntry> range(int session, int start, int stop);

  /// The last `n` entries (all when n ≤ 0) whose input matches a glob pattern, oldest first; `unique` keeps the newest
  /// of equal inputs.
  std::vector<HistoryEntry> search(const std::string& pattern, int n, bool unique);

private:
  struct Database;
  std::mutex mutex_;
  std::unique_ptr<Database> db_;
  int session_ = 0;
  bool persistent_ = false;
};

/// Where the history of this user lives: `$JUPYTER_DATA_DIR`, `$XDG_DATA_HOME/jupyter` or `~/.local/share/jupyter`,
/// there `caller/history.sqlite`. Creates the folder; empty when there is no home.
///
/// Thread-safety: any thread.
/// Errors: none.
/// Source: jupyter_core `jupyter_data_dir`.
std::string default_history_path();

}  // namespace caller::kernel
