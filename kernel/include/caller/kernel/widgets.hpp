// Controls on the page whose values C++ reads and sets: the jupyter.widget protocol of ipywidgets.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include <caller/export.hpp>
#include <caller/kernel/values.hpp>
#include <caller/pending.hpp>

namespace caller::widgets {

/// A control. Shown like any value, any number of times; all views are one control.
///
/// A handle: copies are the same control, which lives until it is closed, with or without handles. What a page changes
/// arrives while the cell awaits or is done, on the Caller of the shell; callbacks run there, and what they print
/// belongs to the page's message.
///
/// Thread-safety: any thread, also on one control; callbacks run one after the other where changes come one after the
/// other.
/// Cancel-safety: an interrupt ends a callback; the control stays.
/// Errors: std::invalid_argument for a value that is none of the control's. A closed control keeps its last value.
/// Source: ipywidgets Widget; pages with ipywidgets 6, 7 and 8 are served.
class CALLER_API Widget {
public:
  const std::string& id() const noexcept;  ///< of its comm
  bool is_open() const noexcept;           ///< neither side has closed it
  /// Removes it from all pages; what waits for it is cancelled.
  void close() const;

  /// Any attribute of the model, such as `set("button_style", R"("danger")")`, as JSON.
  /// Errors: std::invalid_argument for what is no JSON or nested deeper than 500 levels; get: for a name that is not
  /// there.
  void set(const std::string& name, const std::string& json) const;
  /// An attribute of the model, as JSON; see set().
  std::string get(const std::string& name) const;

  /// A property of the style sheet, such as `layout("width", "20em")`, in the names of ipywidgets' Layout.
  void layout(const std::string& name, const std::string& value) const;
  void description(const std::string& text) const;  ///< the text beside it
  void disable(bool on = true) const;               ///< greys it out, or not

  friend bool operator==(const Widget&, const Widget&) = default;

  /// For the library.
  struct State;

protected:
  /// For the library.
  explicit Widget(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
  /// For the library.
  std::shared_ptr<State> state_;
};
CALLER_API MimeBundle mime_bundle_repr(const Widget& x);

/// A control with a value.
///
/// Thread-safety, Cancel-safety, Errors: as Widget.
/// Source: ipywidgets ValueWidget; differs: typed, and changes can be awaited.
template <class T>
class ValueWidget : public Widget {
public:
  T value() const;  ///< what it shows now
  /// Numbers are brought into the range of the control. Errors: std::invalid_argument for a number that is none, or a
  /// name that is not one of the options.
  void set_value(const T& value) const;
  /// Adds a function that is called after every change, by the page or by set_value.
  void on_change(std::function<void(const T&)> handler) const;
  /// The next change: `double x = co_await slider.changed();`. Cancelled when the control is closed.
  Pending<T> changed() const;

protected:
  /// For the controls.
  using Widget::Widget;
};
extern template class CALLER_API ValueWidget<long long>;
extern template class CALLER_API ValueWidget<double>;
extern template class CALLER_API ValueWidget<bool>;
extern template class CALLER_API ValueWidget<std::string>;

/// The options of the controls. Thread-safety: plain data. Errors: none. Source: ipywidgets.
struct IntSliderOptions {
  long long value = 0;            ///< at first
  long long min = 0;              ///< the least
  long long max = 100;            ///< the most
  long long step = 1;             ///< how far a key or a pull goes at least
  std::string description = {};   ///< the text beside it
  bool continuous_update = true;  ///< changes arrive while the slider is held, else when it is let go
};
/// Of a FloatSlider; as IntSliderOptions.
struct FloatSliderOptions {
  double value = 0;               ///< at first
  double min = 0;                 ///< the least
  double max = 10;                ///< the most
  double step = 0.1;              ///< how far a key or a pull goes at least
  std::string description = {};   ///< the text beside it
  bool continuous_update = true;  ///< changes arrive while the slider is held
};
/// Of an IntProgress.
struct IntProgressOptions {
  long long value = 0;           ///< at first
  long long min = 0;             ///< the least
  long long max = 100;           ///< the most
  std::string description = {};  ///< the text beside it
  std::string bar_style = {};    ///< success, info, warning, danger, or empty
};
/// Of a Text.
struct TextOptions {
  std::string value = {};         ///< what stands in it at first
  std::string description = {};   ///< the text beside it
  std::string placeholder = {};   ///< shown while it is empty
  bool continuous_update = true;  ///< changes arrive while it is typed
};
/// Of a Checkbox.
struct CheckboxOptions {
  bool value = false;            ///< checked or not at first
  std::string description = {};  ///< the text beside it
};
/// Of a Dropdown.
struct DropdownOptions {
  std::vector<std::string> options = {};  ///< what can be chosen
  std::string value = {};                 ///< empty: the first option
  std::string description = {};           ///< the text beside it
};
/// Of a Button.
struct ButtonOptions {
  std::string description = {};   ///< the text on it
  std::string button_style = {};  ///< primary, success, info, warning, danger, or empty
  std::string tooltip = {};       ///< shown under the pointer
  std::string icon = {};          ///< a name of Font Awesome's, without `fa-`
};

/// The controls. Errors of the constructors: std::invalid_argument when min is above max, a step is not positive, or a
/// value is none of the options. Thread-safety: as Widget. Source: the ipywidgets of these names.
class CALLER_API IntSlider : public ValueWidget<long long> {
public:
  /// Shown when it is displayed; so are the others.
  explicit IntSlider(const IntSliderOptions& options = {});
};
/// A slider for real numbers.
class CALLER_API FloatSlider : public ValueWidget<double> {
public:
  /// As the other controls.
  explicit FloatSlider(const FloatSliderOptions& options = {});
};
/// A bar that the program moves.
class CALLER_API IntProgress : public ValueWidget<long long> {
public:
  /// As the other controls.
  explicit IntProgress(const IntProgressOptions& options = {});
};
/// A line of text to type in.
class CALLER_API Text : public ValueWidget<std::string> {
public:
  /// As the other controls.
  explicit Text(const TextOptions& options = {});
  /// Called when the page's user presses Enter in it.
  void on_submit(std::function<void(const std::string&)> handler) const;
};
/// A box to tick.
class CALLER_API Checkbox : public ValueWidget<bool> {
public:
  /// As the other controls.
  explicit Checkbox(const CheckboxOptions& options = {});
};
/// The value is the text of the option that is chosen.
class CALLER_API Dropdown : public ValueWidget<std::string> {
public:
  /// As the other controls. With no value it takes the first of the options.
  explicit Dropdown(const DropdownOptions& options = {});
};
/// Plain text that the program sets.
class CALLER_API Label : public ValueWidget<std::string> {
public:
  /// As the other controls.
  explicit Label(const std::string& value = {});
};
/// HTML that the program sets.
class CALLER_API HTML : public ValueWidget<std::string> {
public:
  /// As the other controls.
  explicit HTML(const std::string& value = {});
};
/// A button.
class CALLER_API Button : public Widget {
public:
  /// As the other controls.
  explicit Button(const ButtonOptions& options = {});
  /// Called at each click, on the Caller of the shell.
  void on_click(std::function<void()> handler) const;
  /// The next click: `co_await button.clicked();`.
  Pending<void> clicked() const;
};

/// Others beside or below one another.
class CALLER_API Box : public Widget {
public:
  void children(const std::vector<Widget>& all) const;  ///< replaces what is in it

protected:
  /// For the boxes.
  Box(const char* kind, const std::vector<Widget>& all);
};
/// Beside one another.
class CALLER_API HBox : public Box {
public:
  /// With these in it.
  explicit HBox(const std::vector<Widget>& all = {}) : Box("HBox", all) {}
};
/// Below one another.
class CALLER_API VBox : public Box {
public:
  /// With these in it.
  explicit VBox(const std::vector<Widget>& all = {}) : Box("VBox", all) {}
};

/// A place for output: `{ auto here = output.capture(); std::cout << …; caller::display(…); }`.
///
/// While a capture lives, all that the running cell or callback shows goes there, also what its other threads show.
///
/// Thread-safety, Errors: as Widget. Source: ipywidgets Output.
class CALLER_API Output : public Widget {
public:
  Output();

  /// While it lives, what the running code shows goes to the Output.
  class CALLER_API Capture {
  public:
    ~Capture();
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;

  private:
    friend class Output;
    explicit Capture(std::shared_ptr<State> state);
    std::shared_ptr<State> state_;
    std::string before_;
  };
  /// Begins to take what is shown.
  [[nodiscard]] Capture capture() const { return Capture(state_); }
  /// Takes away what it shows; `wait`: only when something new comes.
  void clear(bool wait = false) const;
};

}  // namespace caller::widgets
