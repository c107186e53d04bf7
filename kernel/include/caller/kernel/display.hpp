// Rich output and input of cells.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>

#include <caller/export.hpp>
#include <caller/kernel/values.hpp>

namespace caller {

/// Types whose value is shown as what it holds. `mime_bundle_repr` of your own types, found by argument-dependent
/// look-up, does the same for them; `mime_metadata_repr` gives, by mime type, JSON objects of metadata.
///
/// Thread-safety: distinct objects: safe; shared objects: unsafe to assign, safe to read.
/// Errors: none; shown, JSON that is nested deeper than 500 levels is std::invalid_argument.
/// Source: IPython.display; differs: plain structs.
struct html {
  std::string text;  ///< HTML source
};
/// Markdown, as notebooks render it. Otherwise as html.
struct markdown {
  std::string text;  ///< Markdown source
};
/// A formula or a LaTeX fragment with its delimiters. Otherwise as html.
struct latex {
  std::string text;  ///< LaTeX source
};
/// A picture as SVG. Otherwise as html.
struct svg {
  std::string text;  ///< SVG source
};
/// Pictures: the file's bytes, base64 happens on the way out. Width and height are in pixels of the page; 0 is the
/// file's own size.
struct png {
  std::string bytes;  ///< the file's bytes
  int width = 0;      ///< pixels of the page; 0: the file's own size
  int height = 0;     ///< pixels of the page; 0: the file's own size
};
/// A JPEG picture; as png.
struct jpeg {
  std::string bytes;  ///< the file's bytes
  int width = 0;      ///< pixels of the page; 0: the file's own size
  int height = 0;     ///< pixels of the page; 0: the file's own size
};
/// A GIF picture; as png.
struct gif {
  std::string bytes;  ///< the file's bytes
  int width = 0;      ///< pixels of the page; 0: the file's own size
  int height = 0;     ///< pixels of the page; 0: the file's own size
};
struct json {
  std::string text;  ///< JSON source
};  ///< a JSON document
struct vegalite {
  std::string text;  ///< JSON source
};  ///< a Vega-Lite specification, JSON
struct mermaid {
  std::string text;  ///< Mermaid source
};  ///< a Mermaid diagram's source

CALLER_API MimeBundle mime_bundle_repr(const html& x);
CALLER_API MimeBundle mime_bundle_repr(const markdown& x);
CALLER_API MimeBundle mime_bundle_repr(const latex& x);
CALLER_API MimeBundle mime_bundle_repr(const svg& x);
CALLER_API MimeBundle mime_bundle_repr(const png& x);
CALLER_API MimeBundle mime_bundle_repr(const jpeg& x);
CALLER_API MimeBundle mime_bundle_repr(const gif& x);
CALLER_API MimeBundle mime_metadata_repr(const png& x);
CALLER_API MimeBundle mime_metadata_repr(const jpeg& x);
CALLER_API MimeBundle mime_metadata_repr(const gif& x);
CALLER_API MimeBundle mime_bundle_repr(const json& x);
CALLER_API MimeBundle mime_bundle_repr(const vegalite& x);
CALLER_API MimeBundle mime_bundle_repr(const mermaid& x);

/// Any forms of a value, by mime type: `mime{{{"text/html", "<b>x</b>"}, {"text/plain", "x"}}}`. `metadata` holds, by
/// mime type as well, JSON objects such as `{"width": 300}`.
///
/// Thread-safety: distinct objects: safe; shared objects: unsafe to assign, safe to read.
/// Errors: none; a type that ends in `json` with text that is no JSON is shown as text. Shown, JSON that is nested
/// deeper than 500 levels is std::invalid_argument. Source: IPython raw display.
struct mime {
  MimeBundle data;      ///< a text for each MIME type; pictures in base64
  MimeBundle metadata;  ///< JSON for each MIME type
};
CALLER_API MimeBundle mime_bundle_repr(const mime& x);
CALLER_API MimeBundle mime_metadata_repr(const mime& x);

/// A picture from a file, read when this is made: PNG, JPEG, GIF or SVG, known by its content.
///
/// Units: width and height in pixels of the page; 0 is the file's own size.
/// Thread-safety: distinct objects: safe; shared objects: unsafe to assign, safe to read.
/// Errors: std::system_error naming the file when it cannot be read; std::runtime_error when it is none of these.
/// Source: IPython.display.Image(filename=…), SVG(filename=…).
class CALLER_API image {
public:
  /// Reads the file now. Units: width, height in pixels of the page; 0: the picture's own size.
  explicit image(const std::string& file, int width = 0, int height = 0);
  friend CALLER_API MimeBundle mime_bundle_repr(const image& x);
  friend CALLER_API MimeBundle mime_metadata_repr(const image& x);

private:
  std::string type_, bytes_;
  int width_, height_;
};
CALLER_API MimeBundle mime_bundle_repr(const image& x);
CALLER_API MimeBundle mime_metadata_repr(const image& x);

namespace kernel::detail {
CALLER_API void publish_display(const MimeBundle& data, const MimeBundle& metadata, const std::string& display_id,
                                bool update);
CALLER_API void publish_result(const MimeBundle& data, const MimeBundle& metadata);
using BundleOf = MimeBundle (*)(const void* x);
using PrintOf = void (*)(std::string& out, const void* x);
/// Publishes a value by its functions (`metadata` may be null): as a result, or as a display when there is an id. Cells
/// that work on bundles themselves compile the code of a std::map each.
CALLER_API void publish_forms(const void* x, BundleOf data, BundleOf metadata, PrintOf other,
                              const std::string* display, bool update);
CALLER_API void publish_text_result(const std::string& text);
CALLER_API void publish_text_display(const std::string& text, const std::string& display_id, bool update);

template <class T>
void publish_bundle(const T& x, const std::string* display, bool update) {
  BundleOf metadata = nullptr;
  if constexpr (HasMetadata<T>)
    metadata = [](const void* p) -> MimeBundle { return mime_metadata_repr(*static_cast<const T*>(p)); };
  publish_forms(
      __builtin_addressof(x), [](const void* p) -> MimeBundle { return mime_bundle_repr(*static_cast<const T*>(p)); },
      metadata, [](std::string& out, const void* p) { print_other(out, *static_cast<const T*>(p)); }, display, update);
}

template <class T>
[[gnu::noinline]] void show(const T& x, const std::string& display_id, bool update) {
  if constexpr (HasBundle<T>) {
    publish_bundle(x, &display_id, update);
  } else {  // without the containers of a bundle: compiling them costs more than all the rest
    std::string text;
    print(text, x);
    publish_text_display(text, display_id, update);
  }
}
}  // namespace kernel::detail

/// Shows `x` below the cell that is running, now.
///
/// Thread-safety: any thread; the cell is the one whose context the calling code runs in.
/// Errors: what `mime_bundle_repr` of the type throws. Outside of a kernel it does nothing.
/// Source: IPython.display.display.
template <class T>
void display(const T& x) {
  kernel::detail::show(x, {}, false);
}

/// As display(x), under a name by which update_display replaces it later, also from another cell.
/// Thread-safety: any thread. Errors: as display(x). Source: IPython.display.display(display_id=…).
template <class T>
void display(const T& x, const std::string& id) {
  kernel::detail::show(x, id, false);
}

/// Replaces what display(x, id) showed, wherever it is. Unknown names are ignored by the clients.
/// Thread-safety: any thread. Errors: as display(x). Source: IPython.display.update_display.
template <class T>
void update_display(const T& x, const std::string& id) {
  kernel::detail::show(x, id, true);
}

/// Removes the output of the cell; with `wait` only when the next output arrives, so that nothing flickers.
/// Thread-safety: any thread. Errors: none. Source: IPython.display.clear_output.
CALLER_API void clear_output(bool wait = false);

/// Asks the user for a line; with `password` the client hides what is typed.
///
/// Thread-safety: any thread. Cancel-safety: an interrupt of the cell ends the wait.
/// Errors: InputNotAllowed (a std::runtime_error) when the client does not take input requests.
/// Source: ipykernel raw_input, getpass.
CALLER_API std::string input(const std::string& prompt = {}, bool password = false);

}  // namespace caller
