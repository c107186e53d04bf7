#include <caller/kernel/display.hpp>

#include <caller/kernel/display_host.hpp>

#include <atomic>
#include <chrono>
#include <cmath>
#include <stdexcept>

namespace caller {
namespace kernel {

DisplayHost::~DisplayHost() = default;

namespace {
std::atomic<DisplayHost*> installed{nullptr};
}

void set_display_host(DisplayHost* host) noexcept { installed.store(host); }
DisplayHost* display_host() noexcept { return installed.load(); }

namespace detail {

void publish_display(const MimeBundle& data, const std::string& id, bool update) {
  if (auto* h = display_host()) h->display(data, id, update);
}
void publish_result(const MimeBundle& data) {
  if (auto* h = display_host()) h->result(data);
}

void publish_text_result(const std::string& text) {
  if (auto* h = display_host()) h->result({{"text/plain", text}});
}
void publish_text_display(const std::string& text, const std::string& id, bool update) {
  if (auto* h = display_host()) h->display({{"text/plain", text}}, id, update);
}

namespace {
std::string base64(const std::string& in) {
  static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((in.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < in.size(); i += 3) {
    unsigned v = static_cast<unsigned char>(in[i]) << 16u;
    if (i + 1 < in.size()) v |= static_cast<unsigned>(static_cast<unsigned char>(in[i + 1])) << 8u;
    if (i + 2 < in.size()) v |= static_cast<unsigned char>(in[i + 2]);
    out += digits[v >> 18u];
    out += digits[(v >> 12u) & 63u];
    out += i + 1 < in.size() ? digits[(v >> 6u) & 63u] : '=';
    out += i + 2 < in.size() ? digits[v & 63u] : '=';
  }
  return out;
}
std::string bytes(const std::string& data) { return std::to_string(data.size()) + " bytes"; }
}  // namespace
}  // namespace detail
}  // namespace kernel

MimeBundle mime_bundle_repr(const html& x) { return {{"text/html", x.text}, {"text/plain", x.text}}; }
MimeBundle mime_bundle_repr(const markdown& x) { return {{"text/markdown", x.text}, {"text/plain", x.text}}; }
MimeBundle mime_bundle_repr(const latex& x) { return {{"text/latex", x.text}, {"text/plain", x.text}}; }
MimeBundle mime_bundle_repr(const svg& x) { return {{"image/svg+xml", x.text}, {"text/plain", "<SVG image>"}}; }
MimeBundle mime_bundle_repr(const png& x) {
  return {{"image/png", kernel::detail::base64(x.bytes)},
          {"text/plain", "<PNG image, " + kernel::detail::bytes(x.bytes) + ">"}};
}
MimeBundle mime_bundle_repr(const jpeg& x) {
  return {{"image/jpeg", kernel::detail::base64(x.bytes)},
          {"text/plain", "<JPEG image, " + kernel::detail::bytes(x.bytes) + ">"}};
}
MimeBundle mime_bundle_repr(const json& x) { return {{"application/json", x.text}, {"text/plain", x.text}}; }
MimeBundle mime_bundle_repr(const vegalite& x) {
  return {{"application/vnd.vegalite.v5+json", x.text}, {"text/plain", "<Vega-Lite chart>"}};
}
MimeBundle mime_bundle_repr(const mermaid& x) {
  return {{"text/vnd.mermaid", x.text}, {"text/markdown", "```mermaid\n" + x.text + "\n```"}, {"text/plain", x.text}};
}

void clear_output(bool wait) {
  if (auto* h = kernel::display_host()) h->clear_output(wait);
}

std::string input(const std::string& prompt, bool password) {
  if (auto* h = kernel::display_host()) return h->input(prompt, password);
  throw std::runtime_error("input: nobody is there to answer");
}

namespace {
long long now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}
std::string next_progress_id() {
  static std::atomic<unsigned> n{0};
  return "caller-progress-" + std::to_string(now_ms()) + "-" + std::to_string(++n);
}
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '&')
      out += "&amp;";
    else
      out += c;
  }
  return out;
}
}  // namespace

progress::progress(double total, std::string label) : total_(total), label_(std::move(label)), id_(next_progress_id()) {
  last_ = now_ms();
  kernel::detail::publish_display(
      {{"text/plain", label_ + " 0%"}, {"text/html", "<progress value=\"0\"></progress> " + escaped(label_)}}, id_,
      false);
  show(true);
}

progress::~progress() {
  try {
    show(true);
  } catch (...) {  // the bar is not worth a terminated kernel
  }
}

void progress::set(double value) {
  value_ = value;
  show(false);
}

void progress::label(std::string text) {
  label_ = std::move(text);
  show(false);
}

void progress::show(bool now) {
  const auto t = now_ms();
  if (!now && t - last_ < 100) return;
  last_ = t;
  std::string text, bar = "<progress";
  if (total_ > 0) {
    const int percent = static_cast<int>(std::lround(100 * value_ / total_));
    text = std::to_string(percent) + "%";
    bar += " max=\"100\" value=\"" + std::to_string(percent) + "\"";
  } else {
    text = std::to_string(static_cast<long long>(value_));
  }
  bar += "></progress> " + text + " " + escaped(label_);
  kernel::detail::publish_display({{"text/plain", (label_.empty() ? "" : label_ + " ") + text}, {"text/html", bar}},
                                  id_, true);
}

}  // namespace caller
