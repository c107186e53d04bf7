// Where the display functions of cells end: the kernel's side.
#pragma once

#include <string>

#include <caller/export.hpp>
#include <caller/kernel/values.hpp>

namespace caller::kernel {

/// Receives what cells show. Which cell a call belongs to is the host's to know, from the running code's context.
///
/// Data of a mime type that ends in `json` is JSON text; all other data is text, images as base64. Metadata is, by mime
/// type, the text of a JSON object.
///
/// Thread-safety: every function may be called from any thread, several at a time.
class CALLER_API DisplayHost {
public:
  virtual ~DisplayHost();
  /// The value of the running cell's last expression.
  virtual void result(const MimeBundle& data, const MimeBundle& metadata) = 0;
  /// Something to be shown; with `update`, in the place of what was shown under this id.
  virtual void display(const MimeBundle& data, const MimeBundle& metadata, const std::string& display_id,
                       bool update) = 0;
  /// Takes away what the cell has shown; `wait`: only when something new is shown.
  virtual void clear_output(bool wait) = 0;
  /// Asks the client and waits for the answer. Errors: std::runtime_error when it may not be asked.
  virtual std::string input(const std::string& prompt, bool password) = 0;
};

/// Installs the host; null removes it (then output is dropped and input throws). It must outlive its use.
/// Thread-safety: any thread. Errors: none. Source: –
CALLER_API void set_display_host(DisplayHost* host) noexcept;
/// The host that is installed; null: none. Thread-safety: any thread. Errors: none. Source: –
CALLER_API DisplayHost* display_host() noexcept;

}  // namespace caller::kernel
