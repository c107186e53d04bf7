// The errors of tubes: one code each, and a type where there is more to know than a text.
#pragma once

#include <string>
#include <system_error>

#include <caller/export.hpp>

namespace caller::tube {

/// Codes of every failure of the tube module. Zero means success and has no name.
enum class Errc {
  invalid_specification = 1,  ///< a specification that cannot be built; see SpecError
  not_found,                  ///< no specification, type or node of that name
  input_missing,              ///< a required input was not given
  running,                    ///< the runner runs already
  node_failed,                ///< a node threw; see NodeError
  wrong_type,                 ///< a value of another type than was asked for
  out_of_range,               ///< a number that does not fit where it should go
  no_such_key,                ///< a map without that key, a list without that index
  no_result,                  ///< iter() gave up: max_iter_loops calls of process() without a result
  end_of_stream,              ///< a source has ended
  already_registered,         ///< a type of that name is registered
  plugin,                     ///< a plugin cannot be loaded
  process_lost,               ///< a process of the cluster runner ended
};

/// The category of Errc. Thread-safety: any thread. Errors: none.
CALLER_API const std::error_category& error_category() noexcept;
inline std::error_code make_error_code(Errc e) noexcept { return {static_cast<int>(e), error_category()}; }

/// Base of every error of the module; `what()` names the operation and what was found.
class CALLER_API Error : public std::system_error {
public:
  /// `text` is the whole message.
  Error(Errc code, std::string text);
  ~Error() override;
  /// The text alone: the code's own words would only repeat it.
  const char* what() const noexcept override { return text_.c_str(); }

private:
  std::string text_;
};

/// Where something stands in a specification. Lines and columns count from 1; 0 means that it is not known.
struct Place {
  std::string file;  ///< empty: a text without a name
  int line = 0;      ///< from 1
  int column = 0;    ///< from 1
  /// `file:line:column`, as compilers write it.
  CALLER_API std::string str() const;
};

/// A specification is wrong: `what()` says where, which key, and what was expected.
/// Source: noob's pydantic ValidationError; differs: it knows the place.
class CALLER_API SpecError : public Error {
public:
  /// `key` as a path; `message` without place and key.
  SpecError(Place place, std::string key, const std::string& message);
  ~SpecError() override;
  /// where the key stands
  const Place& place() const noexcept { return place_; }
  /// of place()
  const std::string& file() const noexcept { return place_.file; }
  /// of place()
  int line() const noexcept { return place_.line; }
  /// of place()
  int column() const noexcept { return place_.column; }
  /// The offending key as a path, like `nodes.b.depends`.
  const std::string& key() const noexcept { return key_; }
  /// The message without place and key.
  const std::string& message() const noexcept { return message_; }

private:
  Place place_;
  std::string key_, message_;
};

/// A required input was not given. Source: noob InputMissingError.
class CALLER_API InputMissingError : public Error {
public:
  /// `context`: which input of which tube.
  explicit InputMissingError(const std::string& context);
  ~InputMissingError() override;
};

/// The tube runs already. Source: noob TubeRunningError.
class CALLER_API TubeRunningError : public Error {
public:
  /// `context`: what was asked of which tube.
  explicit TubeRunningError(const std::string& context);
  ~TubeRunningError() override;
};

/// A source of the tube has ended: there is no next result. Source: Python's StopIteration out of noob's process().
class CALLER_API EndOfStream : public Error {
public:
  /// `context`: which source of which tube.
  explicit EndOfStream(const std::string& context);
  ~EndOfStream() override;
};

/// A node threw. The original exception is nested (std::rethrow_if_nested); `what()` names node, epoch and inputs.
/// Source: the exception of a node in noob; differs: it says where.
class CALLER_API NodeError : public Error {
public:
  /// `cause`: what the exception said; `context`: the inputs.
  NodeError(std::string node, std::string epoch, std::string cause, const std::string& context);
  ~NodeError() override;
  /// its id
  const std::string& node() const noexcept { return node_; }
  /// as Epoch::str()
  const std::string& epoch() const noexcept { return epoch_; }
  /// What the node's exception said.
  const std::string& cause() const noexcept { return cause_; }

private:
  std::string node_, epoch_, cause_;
};

}  // namespace caller::tube

template <>
struct std::is_error_code_enum<caller::tube::Errc> : std::true_type {};
