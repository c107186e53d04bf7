// Five fields that say when. Internal to this folder.
#pragma once

#include <bitset>
#include <memory>
#include <optional>
#include <string>

#include "zone.hpp"

namespace caller::task::detail {

/// Immutable. Thread-safety: any thread.
///
/// Times are those of the clocks on the wall in the zone. When these are set, what is at given hours happens once: a
/// time that is jumped over at the moment of the jump, one that comes twice the first time. Where the hour begins with
/// `*`, so for what happens all day long, a time that is jumped over is left out, and one that comes twice happens
/// twice.
class CronSchedule {
public:
  /// Errors: ConfigError says which field is wrong, and how; also for what never happens.
  CronSchedule(const std::string& text, const std::string& zone);

  /// The first time after `t`.
  Seconds next(Seconds t) const;
  /// The last one that is later than `after` and not later than `until`.
  std::optional<Seconds> last(Seconds after, Seconds until) const;

private:
  std::optional<Seconds> search(Seconds t) const;
  bool is_day(std::chrono::local_days day) const;

  std::bitset<60> minutes_;
  std::bitset<24> hours_;
  std::bitset<32> days_;
  std::bitset<13> months_;
  std::bitset<7> weekdays_;
  bool any_hour_ = false, any_day_ = false, any_weekday_ = false;
  std::shared_ptr<const Zone> zone_;
};

}  // namespace caller::task::detail
