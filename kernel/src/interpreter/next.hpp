// The function of libc behind one of ours that everything in the process sees first.
#pragma once

#include <dlfcn.h>

#include <atomic>

namespace caller::kernel {

/// Found without a guard, and to be found when the library is loaded: a copy of the process, made while another thread
/// was looking for it, would wait for that thread for ever.
template <class F>
class Next {
public:
  constexpr explicit Next(const char* name, const char* version = nullptr) : name_(name), version_(version) {}
  F* operator*() noexcept {
    F* f = found_.load(std::memory_order_relaxed);
    if (!f) {
      void* p = version_ ? dlvsym(RTLD_NEXT, name_, version_) : nullptr;
      if (!p) p = dlsym(RTLD_NEXT, name_);
      found_.store(f = reinterpret_cast<F*>(p), std::memory_order_relaxed);
    }
    return f;
  }

private:
  const char* name_;
  const char* version_;
  std::atomic<F*> found_{nullptr};
};

}  // namespace caller::kernel
