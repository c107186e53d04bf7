#include <caller/tube/error.hpp>

namespace caller::tube {

namespace {

class Category final : public std::error_category {
public:
  const char* name() const noexcept override { return "caller.tube"; }
  std::string message(int code) const override {
    switch (static_cast<Errc>(code)) {
      case Errc::invalid_specification:
        return "the specification is invalid";
      case Errc::not_found:
        return "not found";
      case Errc::input_missing:
        return "a required input is missing";
      case Errc::running:
        return "the tube is running";
      case Errc::node_failed:
        return "a node failed";
      case Errc::wrong_type:
        return "wrong type";
      case Errc::out_of_range:
        return "out of range";
      case Errc::no_such_key:
        return "no such key";
      case Errc::no_result:
        return "no result";
      case Errc::end_of_stream:
        return "a source has ended";
      case Errc::already_registered:
        return "already registered";
      case Errc::plugin:
        return "the plugin cannot be loaded";
      case Errc::process_lost:
        return "a process ended";
    }
    return "unknown error " + std::to_string(code);
  }
};

std::string spec_text(const Place& place, const std::string& key, const std::string& message) {
  std::string text = place.str();
  if (!text.empty()) text += ": ";
  if (!key.empty()) text += key + ": ";
  return text + message;
}

}  // namespace

const std::error_category& error_category() noexcept {
  static const Category category;
  return category;
}

Error::Error(Errc code, std::string text) : std::system_error(make_error_code(code)), text_(std::move(text)) {}
Error::~Error() = default;

std::string Place::str() const {
  std::string text = file;
  if (line > 0) {
    if (text.empty()) text = "<text>";
    text += ":" + std::to_string(line) + ":" + std::to_string(column);
  }
  return text;
}

SpecError::SpecError(Place place, std::string key, const std::string& message)
    : Error(Errc::invalid_specification, spec_text(place, key, message)),
      place_(std::move(place)),
      key_(std::move(key)),
      message_(message) {}
SpecError::~SpecError() = default;

InputMissingError::InputMissingError(const std::string& context) : Error(Errc::input_missing, context) {}
InputMissingError::~InputMissingError() = default;

TubeRunningError::TubeRunningError(const std::string& context) : Error(Errc::running, context) {}
TubeRunningError::~TubeRunningError() = default;

EndOfStream::EndOfStream(const std::string& context) : Error(Errc::end_of_stream, context) {}
EndOfStream::~EndOfStream() = default;

NodeError::NodeError(std::string node, std::string epoch, std::string cause, const std::string& context)
    : Error(Errc::node_failed, context), node_(std::move(node)), epoch_(std::move(epoch)), cause_(std::move(cause)) {}
NodeError::~NodeError() = default;

}  // namespace caller::tube
