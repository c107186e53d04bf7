// Time zones, from the system's database of them (TZif, RFC 8536). Internal to this folder.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace caller::task::detail {

using Seconds = std::chrono::sys_seconds;
using LocalSeconds = std::chrono::local_seconds;

/// Immutable. Thread-safety: any thread.
class Zone {
public:
  /// `Europe/Paris`; `UTC` needs no database. Read once for the process. Errors: ConfigError: there is none of that
  /// name, or its file is broken.
  static std::shared_ptr<const Zone> named(const std::string& name);
  /// Errors: ConfigError.
  static Zone parse(std::string_view bytes, const std::string& name);

  std::chrono::seconds offset_at(Seconds t) const;
  LocalSeconds to_local(Seconds t) const { return LocalSeconds((t + offset_at(t)).time_since_epoch()); }

  /// The offset, if it is the same all the time between.
  std::optional<std::chrono::seconds> steady(Seconds from, Seconds to) const;

  /// When the clocks on the wall show a time.
  struct Instants {
    bool skipped = false;  ///< they do not; `first` is when they jump over it
    Seconds first{};
    std::optional<Seconds> second{};  ///< they do once more
  };
  Instants at(LocalSeconds local) const;

private:
  struct Change {
    Seconds at;
    std::chrono::seconds offset;
  };
  struct Day {  // of a year, on which a rule changes the clocks
    char kind = 'M';
    int month = 0, week = 0, number = 0;
    std::chrono::seconds time{7200};
  };
  struct Rule {  // for the time behind the last change of the list
    std::chrono::seconds standard{0}, summer{0};
    std::optional<std::pair<Day, Day>> days;
  };
  static Rule parse_rule(std::string_view text, const std::string& name);
  static LocalSeconds day_of(const Day& day, int year);
  void add_rule_changes(int year, std::vector<Change>& out) const;
  std::vector<Change> changes_between(Seconds from, Seconds to) const;

  std::chrono::seconds first_offset_{0};
  std::vector<Change> changes_;
  std::optional<Rule> rule_;
};

}  // namespace caller::task::detail
