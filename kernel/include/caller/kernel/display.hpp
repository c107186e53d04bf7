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
/// look-up, does the same for them.
///
/// Thread-safety: distinct objects: safe; shared objects: unsafe to assign, safe to read.
/// Errors: none.
/// Source: IPython.display; differs: plain structs.
struct html {
  std::string text;
};
struct markdown {
  std::string text;
};
struct latex {
  std::string text;
};
struct svg {
  std::string text;
};
struct png {
  std::string bytes;
};  ///< the file's bytes; base64 happens on the way out
struct jpeg {
  std::string bytes;
};
struct json {
  std::string text;
};  ///< a JSON document
struct vegalite {
  std::string text;
};  ///< a Vega-Lite specification, JSON
struct mermaid {
  std::string text;
};  ///< a Mermaid diagram's source

CALLER_API MimeBundle mime_bundle_repr(const html& x);
CALLER_API MimeBundle mime_bundle_repr(const markdown& x);
CALLER_API MimeBundle mime_bundle_repr(const latex& x);
CALLER_API MimeBundle mime_bundle_repr(const svg& x);
CALLER_API MimeBundle mime_bundle_repr(const png& x);
CALLER_API MimeBundle mime_bundle_repr(const jpeg& x);
CALLER_API MimeBundle mime_bundle_repr(const json& x);
CALLER_API MimeBundle mime_bundle_repr(const vegalite& x);
CALLER_API MimeBundle mime_bundle_repr(const mermaid& x);

namespace kernel::detail {
CALLER_API void publish_display(const MimeBundle& data, const std::string& display_id, bool update);
CALLER_API void publish_result(const MimeBundle& data);
CALLER_API void publish_text_result(const std::string& text);
CALLER_API void publish_text_display(const std::string& text, const std::string& display_id, bool update);

template <class T>
[[gnu::noinline]] void show(const T& x, const std::string& display_id, bool update) {
  if constexpr (HasBundle<T>) {
    publish_display(bundle(x), display_id, update);
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

/// A bar for long work: `progress bar(n); for (…) { …; bar.step(); }`. Also holds a label.
///
/// Updates are sent at most ten times a second.
/// Thread-safety: distinct objects: safe; shared objects: unsafe.
/// Units: `total` counts steps, 0 means unknown. Errors: none. Source: tqdm, as notebooks use it.
class CALLER_API progress {
public:
  explicit progress(double total, std::string label = {});
  ~progress();
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;
  void step(double n = 1) { set(value_ + n); }
  void set(double value);
  void label(std::string text);

private:
  void show(bool now);
  double total_, value_ = 0;
  long long last_ = 0;
  std::string label_, id_;
};

}  // namespace caller
