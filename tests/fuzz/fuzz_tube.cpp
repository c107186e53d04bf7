// Specifications of tubes: read and built, or refused by an error with a place; what was built has an order.
#include <cstdint>
#include <cstdlib>
#include <string>

#include <caller/tube/all.hpp>

using namespace caller::tube;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const TubeSpec spec = TubeSpec::from_text(text, "file");
    Map inputs;
    for (const auto& input : spec.input)
      if (input.scope == InputScope::tube && input.required) inputs.set(input.id, Value(1));
    const Tube tube = Tube::from_spec(spec, inputs);
    std::size_t placed = 0;
    for (const auto& layer : tube.generations()) placed += layer.size();
    if (placed != tube.nodes().size()) std::abort();
    for (const auto& edge : tube.edges())
      if (edge.target_node.empty()) std::abort();
  } catch (const Error& e) {
    if (std::string(e.what()).empty()) std::abort();
  }
  return 0;
}
