#include <caller/kernel/embed.hpp>

#include <filesystem>

// A kernel starts, finds its prelude, and knows a variable of this program.
int main() {
  int answer = 41;
  const auto file = std::filesystem::temp_directory_path() / "caller-consumer-kernel.json";
  caller::EmbeddedKernel kernel = caller::embed_kernel({.connection_file = file});
  kernel.expose("answer", answer);
  kernel.declare("answer += 1;");
  kernel.stop();
  return answer == 42 ? 0 : 1;
}
