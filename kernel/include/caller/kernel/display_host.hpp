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
  virtual void result(const MimeBundle& data, const MimeBundle& metadata) = 0;
  virtual void display(const MimeBundle& data, const MimeBundle& metadata, const std::string& display_id,
                       bool update) = 0;
  virtual void clear_output(bool wait) = 0;
  virtual std::string input(const std::string& prompt, bool password) = 0;
};

/// Installs the host; null removes it (then output is dropped and input throws). It must outlive its use.
/// Thread-safety: any thread. Errors: none. Source: –
CALLER_API void set_display_host(DisplayHost* host) noexcept;
CALLER_API DisplayHost* display_host() noexcept;

}  // namespace caller::kernel
