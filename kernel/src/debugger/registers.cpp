#include "registers.hpp"

#if CALLER_DEBUGGER_SUPPORTED

#include <cstring>
#include <vector>

namespace caller::kernel::debugger {
namespace {

// Where a register lies: in the saved general registers, or in the area of the floating-point unit (its layout is that
// of the instruction fxsave), or in a field of its own.
enum class Home { general, extended, fs_base, gs_base };

struct Register {
  std::string name;
  std::size_t size;
  Home home;
  std::size_t at;  // index of the general register, or offset
  std::string kinds;
  const char* set;
  const char* encoding = "uint";
  const char* format = "hex";
};

const std::vector<Register>& table() {
  static const std::vector<Register> t = [] {
    std::vector<Register> r;
    const struct {
      const char* name;
      int at;
      const char* kinds;
    } general[] = {{"rax", REG_RAX, "ehframe:0;dwarf:0;"},
                   {"rbx", REG_RBX, "ehframe:3;dwarf:3;"},
                   {"rcx", REG_RCX, "ehframe:2;dwarf:2;generic:arg4;"},
                   {"rdx", REG_RDX, "ehframe:1;dwarf:1;generic:arg3;"},
                   {"rsi", REG_RSI, "ehframe:4;dwarf:4;generic:arg2;"},
                   {"rdi", REG_RDI, "ehframe:5;dwarf:5;generic:arg1;"},
                   {"rbp", REG_RBP, "ehframe:6;dwarf:6;generic:fp;"},
                   {"rsp", REG_RSP, "ehframe:7;dwarf:7;generic:sp;"},
                   {"r8", REG_R8, "ehframe:8;dwarf:8;generic:arg5;"},
                   {"r9", REG_R9, "ehframe:9;dwarf:9;generic:arg6;"},
                   {"r10", REG_R10, "ehframe:10;dwarf:10;"},
                   {"r11", REG_R11, "ehframe:11;dwarf:11;"},
                   {"r12", REG_R12, "ehframe:12;dwarf:12;"},
                   {"r13", REG_R13, "ehframe:13;dwarf:13;"},
                   {"r14", REG_R14, "ehframe:14;dwarf:14;"},
                   {"r15", REG_R15, "ehframe:15;dwarf:15;"},
                   {"rip", REG_RIP, "ehframe:16;dwarf:16;generic:pc;"},
                   {"rflags", REG_EFL, "generic:flags;"}};
    for (const auto& g : general)
      r.push_back({g.name, 8, Home::general, static_cast<std::size_t>(g.at), g.kinds, "General Purpose Registers"});
    r.push_back({"fs_base", 8, Home::fs_base, 0, "", "General Purpose Registers"});
    r.push_back({"gs_base", 8, Home::gs_base, 0, "", "General Purpose Registers"});
    const char* fp = "Floating Point Registers";
    r.push_back({"fctrl", 2, Home::extended, 0, "ehframe:65;dwarf:65;", fp});
    r.push_back({"fstat", 2, Home::extended, 2, "ehframe:66;dwarf:66;", fp});
    r.push_back({"mxcsr", 4, Home::extended, 24, "ehframe:64;dwarf:64;", fp});
    for (std::size_t i = 0; i < 8; ++i) {
      const std::string n = std::to_string(33 + i);
      r.push_back({"st" + std::to_string(i), 10, Home::extended, 32 + 16 * i, "ehframe:" + n + ";dwarf:" + n + ";", fp,
                   "vector", "vector-uint8"});
    }
    for (std::size_t i = 0; i < 16; ++i) {
      const std::string n = std::to_string(17 + i);
      r.push_back({"xmm" + std::to_string(i), 16, Home::extended, 160 + 16 * i, "ehframe:" + n + ";dwarf:" + n + ";",
                   fp, "vector", "vector-uint8"});
    }
    return r;
  }();
  return t;
}

}  // namespace

std::optional<std::string> register_info(std::size_t number) {
  if (number >= table().size()) return std::nullopt;
  std::size_t offset = 0;
  for (std::size_t i = 0; i < number; ++i) offset += table()[i].size;
  const Register& r = table()[number];
  return "name:" + r.name + ";bitsize:" + std::to_string(8 * r.size) + ";offset:" + std::to_string(offset) +
         ";encoding:" + r.encoding + ";format:" + r.format + ";set:" + r.set + ";" + r.kinds;
}

std::optional<std::string> read_register(const Stop& stop, std::size_t number) {
  if (number >= table().size()) return std::nullopt;
  const Register& r = table()[number];
  std::string out(r.size, '\0');
  switch (r.home) {
    case Home::general:
      std::memcpy(out.data(), &stop.context.uc_mcontext.gregs[r.at], r.size);
      break;
    case Home::extended:
      if (r.at + r.size <= stop.extended_size) std::memcpy(out.data(), stop.extended + r.at, r.size);
      break;
    case Home::fs_base:
      std::memcpy(out.data(), &stop.fs_base, r.size);
      break;
    case Home::gs_base:
      std::memcpy(out.data(), &stop.gs_base, r.size);
      break;
  }
  return out;
}

bool write_register(Stop& stop, std::size_t number, std::string_view bytes) {
  if (number >= table().size()) return false;
  const Register& r = table()[number];
  if (bytes.size() != r.size) return false;
  if (r.home == Home::general)
    std::memcpy(&stop.context.uc_mcontext.gregs[r.at], bytes.data(), r.size);
  else if (r.home == Home::extended && r.at + r.size <= stop.extended_size)
    std::memcpy(stop.extended + r.at, bytes.data(), r.size);
  else
    return false;  // the thread's own storage hangs on these bases
  return true;
}

std::string read_all_registers(const Stop& stop) {
  std::string out;
  for (std::size_t i = 0; i < table().size(); ++i) out += *read_register(stop, i);
  return out;
}

bool write_all_registers(Stop& stop, std::string_view bytes) {
  for (std::size_t i = 0, at = 0; i < table().size(); ++i) {
    const std::size_t size = table()[i].size;
    if (at + size > bytes.size()) return false;
    const Home home = table()[i].home;
    if (home == Home::general || home == Home::extended) write_register(stop, i, bytes.substr(at, size));
    at += size;
  }
  return true;
}

}  // namespace caller::kernel::debugger

#endif
