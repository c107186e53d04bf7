#include <caller/kernel/display.hpp>

#include <caller/kernel/display_host.hpp>

#include <atomic>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <system_error>

namespace caller {
namespace kernel {

DisplayHost::~DisplayHost() = default;

namespace {
std::atomic<DisplayHost*> installed{nullptr};
}

void set_display_host(DisplayHost* host) noexcept { installed.store(host); }
DisplayHost* display_host() noexcept { return installed.load(); }

namespace detail {

void publish_display(const MimeBundle& data, const MimeBundle& metadata, const std::string& id, bool update) {
  if (auto* h = display_host()) h->display(data, metadata, id, update);
}
void publish_result(const MimeBundle& data, const MimeBundle& metadata) {
  if (auto* h = display_host()) h->result(data, metadata);
}

void publish_forms(const void* x, BundleOf data, BundleOf metadata, PrintOf other, const std::string* display,
                   bool update) {
  MimeBundle forms = data(x);
  if (!forms.count("text/plain")) other(forms["text/plain"], x);
  const MimeBundle more = metadata ? metadata(x) : MimeBundle();
  if (display)
    publish_display(forms, more, *display, update);
  else
    publish_result(forms, more);
}

void publish_text_result(const std::string& text) {
  if (auto* h = display_host()) h->result({{"text/plain", text}}, {});
}
void publish_text_display(const std::string& text, const std::string& id, bool update) {
  if (auto* h = display_host()) h->display({{"text/plain", text}}, {}, id, update);
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

MimeBundle picture(const std::string& type, const std::string& name, const std::string& bytes) {
  return {{type, base64(bytes)}, {"text/plain", "<" + name + " image, " + std::to_string(bytes.size()) + " bytes>"}};
}

MimeBundle size_of(const std::string& type, int width, int height) {
  if (width <= 0 && height <= 0) return {};
  std::string text;
  if (width > 0) text += "\"width\": " + std::to_string(width);
  if (height > 0) text += (text.empty() ? "" : ", ") + ("\"height\": " + std::to_string(height));
  return {{type, "{" + text + "}"}};
}
}  // namespace
}  // namespace detail
}  // namespace kernel

MimeBundle mime_bundle_repr(const html& x) { return {{"text/html", x.text}, {"text/plain", x.text}}; }
MimeBundle mime_bundle_repr(const markdown& x) { return {{"text/markdown", x.text}, {"text/plain", x.text}}; }
MimeBundle mime_bundle_repr(const latex& x) { return {{"text/latex", x.text}, {"text/plain", x.text}}; }
MimeBundle mime_bundle_repr(const svg& x) { return {{"image/svg+xml", x.text}, {"text/plain", "<SVG image>"}}; }
MimeBundle mime_bundle_repr(const png& x) { return kernel::detail::picture("image/png", "PNG", x.bytes); }
MimeBundle mime_bundle_repr(const jpeg& x) { return kernel::detail::picture("image/jpeg", "JPEG", x.bytes); }
MimeBundle mime_bundle_repr(const gif& x) { return kernel::detail::picture("image/gif", "GIF", x.bytes); }
MimeBundle mime_metadata_repr(const png& x) { return kernel::detail::size_of("image/png", x.width, x.height); }
MimeBundle mime_metadata_repr(const jpeg& x) { return kernel::detail::size_of("image/jpeg", x.width, x.height); }
MimeBundle mime_metadata_repr(const gif& x) { return kernel::detail::size_of("image/gif", x.width, x.height); }
MimeBundle mime_bundle_repr(const mime& x) {
  MimeBundle out = x.data;
  if (!out.count("text/plain")) {
    std::string types;
    for (const auto& [type, data] : x.data) types += (types.empty() ? "" : ", ") + type;
    out["text/plain"] = "<" + types + ">";
  }
  return out;
}
MimeBundle mime_metadata_repr(const mime& x) { return x.metadata; }

namespace {
std::string read_file(const std::string& name) {
  errno = 0;
  std::ifstream in(name, std::ios::binary);
  std::string out;
  if (in) out.assign(std::istreambuf_iterator<char>(in), {});
  if (!in) throw std::system_error(errno ? errno : EIO, std::generic_category(), "image: " + name);
  return out;
}

std::string picture_type(const std::string& bytes) {
  if (bytes.starts_with("\x89PNG\r\n\x1a\n")) return "image/png";
  if (bytes.starts_with("\xff\xd8\xff")) return "image/jpeg";
  if (bytes.starts_with("GIF87a") || bytes.starts_with("GIF89a")) return "image/gif";
  if (bytes.find('<') != std::string::npos && bytes.substr(0, 4096).find("<svg") != std::string::npos)
    return "image/svg+xml";
  return {};
}
}  // namespace

image::image(const std::string& file, int width, int height) : bytes_(read_file(file)), width_(width), height_(height) {
  type_ = picture_type(bytes_);
  if (type_.empty()) throw std::runtime_error("image: " + file + " is neither PNG, JPEG, GIF nor SVG");
}
MimeBundle mime_bundle_repr(const image& x) {
  if (x.type_ == "image/svg+xml") return mime_bundle_repr(svg{x.bytes_});
  const char* name = x.type_ == "image/png" ? "PNG" : x.type_ == "image/gif" ? "GIF" : "JPEG";
  return kernel::detail::picture(x.type_, name, x.bytes_);
}
MimeBundle mime_metadata_repr(const image& x) { return kernel::detail::size_of(x.type_, x.width_, x.height_); }

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

}  // namespace caller
