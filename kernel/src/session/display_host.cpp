#include "session/display_host.hpp"

#include <stdexcept>

#include <caller/kernel/widget_host.hpp>

#include "protocol/json_text.hpp"
#include "protocol/utf8.hpp"

namespace caller::kernel {
namespace {

[[noreturn]] void too_deep(const std::string& what) {
  throw std::invalid_argument("display: " + what + " is nested deeper than " + std::to_string(kDeepestJson) +
                              " levels");
}

// A type that ends in `json` holds a document; one that does not parse is shown as the text it is.
::nlohmann::json to_json(const MimeBundle& data) {
  auto out = ::nlohmann::json::object();
  for (const auto& [type, text] : data) {
    if (type.ends_with("json")) {
      if (nested_too_deep(text)) too_deep(type);
      auto document = ::nlohmann::json::parse(text, nullptr, false);
      if (!document.is_discarded()) {
        out[type] = std::move(document);
        continue;
      }
    }
    out[type] = to_valid_utf8(text);
  }
  return out;
}

// What is no object is left out: clients look into the metadata of a type without asking what it is.
::nlohmann::json to_metadata(const MimeBundle& metadata) {
  auto out = ::nlohmann::json::object();
  for (const auto& [type, text] : metadata) {
    if (nested_too_deep(text)) too_deep("the metadata of " + type);
    auto document = ::nlohmann::json::parse(text, nullptr, false);
    if (document.is_object()) out[type] = std::move(document);
  }
  return out;
}

}  // namespace

void SessionDisplay::result(const MimeBundle& data, const MimeBundle& metadata) {
  const WorkPtr work = session_.work_or_newest();
  if (!work) return;
  auto content = to_json(data);
  if (work->capture) {
    work->capture->data = std::move(content);
    work->capture->metadata = to_metadata(metadata);
    work->capture->filled = true;
    return;
  }
  if (work->silent) return;
  if (content.contains(kWidgetView)) return display(data, metadata, {}, false);  // which is how pages know widgets
  if (settle_) settle_();                                                        // what was printed before comes before
  if (const auto it = data.find("text/plain"); it != data.end() && work->history_session != 0)
    session_.history()->store_output(work->history_session, work->number, it->second);
  session_.iopub().publish(
      "execute_result", work->request,
      {{"execution_count", work->number}, {"data", std::move(content)}, {"metadata", to_metadata(metadata)}});
}

void SessionDisplay::display(const MimeBundle& data, const MimeBundle& metadata, const std::string& display_id,
                             bool update) {
  auto transient = ::nlohmann::json::object();
  if (!display_id.empty()) transient["display_id"] = display_id;
  if (settle_) settle_();
  auto content = to_json(data);
  if (const auto view = content.find(kWidgetView); view != content.end() && !update)
    if (widget_shown(field<std::string>(*view, "model_id", ""))) content["text/html"] = "<!-- a widget -->";
  session_.publish(
      update ? "update_display_data" : "display_data",
      {{"data", std::move(content)}, {"metadata", to_metadata(metadata)}, {"transient", std::move(transient)}});
}

void SessionDisplay::clear_output(bool wait) {
  if (settle_) settle_();
  session_.publish("clear_output", {{"wait", wait}});
}

}  // namespace caller::kernel
