// What the kernel does for widgets of cells.
#pragma once

#include <string>

#include <caller/export.hpp>

namespace caller::kernel {

/// The type of data that stands for a view of a widget.
inline constexpr const char* kWidgetView = "application/vnd.jupyter.widget-view+json";

/// Registers the comm targets by which pages find widgets. Called once there is a CommHost.
/// Thread-safety: any thread. Errors: none. Source: ipywidgets register_comm_target.
CALLER_API void serve_widgets();

/// A view of the widget of this id is published. Pages with ipywidgets 6 do not look at such data and are told here;
/// true then. Thread-safety: any thread. Errors: none. Source: ipywidgets 6, Widget._ipython_display_.
CALLER_API bool widget_shown(const std::string& id);

}  // namespace caller::kernel
