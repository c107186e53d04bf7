// What the processes of a cluster say to each other. The first byte of a message says what it is; most carry one CBOR
// map behind it, those that are many carry less.
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <caller/tube/value.hpp>

#include "../cbor.hpp"

namespace caller::tube::detail {

enum class Message : char {
  // from a process of nodes to the runner's
  identify = 'i',  ///< it lives: what it was told to run, as it understands it, and where its peers find it
  status = 's',    ///< an answer: what was asked for is done, or how it stands
  error = 'x',     ///< a node threw
  warning = 'w',
  // from the runner's process
  announce = 'a',     ///< where the peers are; to be answered when all of them were heard
  start = 'o',        ///< nodes are made if need be, and opened
  deinit = 'd',       ///< nodes are closed
  process = 'p',      ///< the credit: so many epochs may run, from that number on, with these inputs
  epoch_ended = 'z',  ///< epochs were given up: nothing of them runs any more
  enable = 'n',       ///< a node is enabled or disabled
  query = 'q',        ///< how does it stand?
  stop = 'e',
  // between processes of nodes, and to the runner's
  event = 'v',  ///< what nodes have emitted, many at once
  ping = 'b',   ///< the way from one to the other is open
};

/// A message that is a map.
std::string message(Message kind, const Map& content);
std::string message(Message kind);
Map content_of(ByteReader& reader);

/// What stands before the values of a node that has run.
struct RecordHead {
  enum class Kind : std::uint8_t {
    values = 1,   ///< a value for each signal
    skipped = 2,  ///< it did not run, as something it requires was silent
    ended = 3,    ///< a source that has ended
  };
  Kind kind = Kind::values;
  std::uint64_t epoch = 0;
  std::uint32_t node = 0;
  /// The indices of the items it ran for, outermost first, behind the node's number: the key of what was emitted.
  std::u32string key;
};
/// Appends a record; `write_values` appends the values.
template <class WriteValues>
void write_record(std::string& out, const RecordHead& head, WriteValues&& write_values) {
  char first[2 + 2 * kMostVarint + 4] = {};  // appended at once, as most records are short
  char* end = first;
  *end++ = static_cast<char>(head.kind);
  end = put_varint(end, head.epoch);
  end = put_varint(end, head.node);
  *end++ = static_cast<char>(head.key.size() - 1);
  if (head.key.size() == 1) {
    out.append(first, static_cast<std::size_t>(end - first) + 4);
  } else {
    out.append(first, static_cast<std::size_t>(end - first));
    for (std::size_t i = 1; i < head.key.size(); ++i) write_varint(out, static_cast<std::uint32_t>(head.key[i]));
    out.append(4, '\0');
  }
  const std::size_t at = out.size() - 4;
  write_values();
  const std::size_t size = out.size() - at - 4;
  if (size > 0xffffffff) throw Error(Errc::out_of_range, "values of more than 4 GiB cannot cross to another process");
  for (int i = 0; i < 4; ++i) out[at + static_cast<std::size_t>(i)] = static_cast<char>(size >> (8 * i));
}
/// Reads the head; `values` are the bytes of the values. The depth is bounded by `max_depth`.
void read_record(ByteReader& reader, RecordHead& head, std::string_view& values);

/// The inputs of epochs: one value for each process input, or none.
std::string process_message(std::uint64_t first, std::uint64_t count, const std::vector<std::optional<Value>>& inputs);
struct Grant {
  std::uint64_t first = 0, count = 0;
  std::vector<std::optional<Value>> inputs;
};
Grant read_grant(ByteReader& reader);

/// An exception as data, with those nested inside, and back. Standard exceptions and those of the module keep their
/// type; of others a RemoteError knows the name.
/// `where`: where the innermost one was thrown, for a RemoteTrace; empty: that is not known.
Value error_value(const std::exception_ptr& error, const std::vector<std::string>& where = {});
std::exception_ptr error_from(const Value& value);

/// Stands in the runner's process for a value that cannot cross and need not.
struct Elsewhere {
  std::string type;
  friend bool operator==(const Elsewhere&, const Elsewhere&) = default;
};
/// Makes it known to the codecs. Thread-safety: any thread.
void add_elsewhere();

}  // namespace caller::tube::detail
