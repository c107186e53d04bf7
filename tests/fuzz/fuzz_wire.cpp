// Frames from anywhere, and rightly signed ones with any content. The input is cut into frames at 0xFF 0x00.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "protocol/wire.hpp"

using namespace caller::kernel;

namespace {

void require(bool good) {
  if (!good) std::abort();
}

Frames cut(std::string_view text) {
  Frames out;
  for (;;) {
    const auto at = text.find(std::string_view("\xff\0", 2));
    out.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return out;
    text.remove_prefix(at + 2);
  }
}

void look_at(const Wire& wire, Message message) {
  require(message.header.is_object() && !message.header.empty());
  require(message.parent_header.is_object() && message.metadata.is_object() && message.content.is_object());
  if (message.fault.empty())
    require(message.header.at("msg_id").is_string() && message.header.at("msg_type").is_string());
  (void)message.id();
  (void)message.type();
  (void)message.subshell();
  for (const char* name : {"code", "cursor_pos", "silent", "a"}) {
    (void)field<std::string>(message.content, name, "");
    (void)field<int>(message.content, name, 0);
    (void)field<bool>(message.content, name, false);
  }
  const json copy = message.content;
  const Request request = std::make_shared<const Message>(std::move(message));
  const Frames answer = wire.encode(request->idents, "x_reply", request, copy, request->metadata);
  require(json::parse(answer[answer.size() - 3], nullptr, false).is_object());  // the parent is echoed
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.empty()) return 0;
  static Wire wire("a key", "user");
  Frames frames = cut(text.substr(1));
  if (text[0] & 1) {  // signed: whatever there is becomes the four parts
    frames.resize(4, "{}");
    Frames full{"ident", "<IDS|MSG>", Signer("a key").sign({frames[0], frames[1], frames[2], frames[3]})};
    full.insert(full.end(), frames.begin(), frames.end());
    frames = std::move(full);
  }
  Wire fresh("a key", "user");  // the one above would drop what it has seen
  auto result = fresh.decode(frames, Channel::shell);
  if (auto* message = std::get_if<Message>(&result)) look_at(wire, std::move(*message));
  Wire open("", "user");
  auto unsigned_result = open.decode(std::move(frames), Channel::control);
  if (auto* message = std::get_if<Message>(&unsigned_result)) look_at(open, std::move(*message));
  return 0;
}
