#include <caller/tube/all.hpp>

// A process a node: the program of the package that runs them is found, too.
int main() {
  caller::tube::Tube tube = caller::tube::Tube::from_any(R"(
tube_id: letters
nodes:
  letters: {type: noob.testing.letter_source}
  out: {type: return, depends: letters.letter}
)");
  caller::tube::ClusterRunner runner(tube);
  const auto results = runner.run(2);
  return results.size() == 2 && results[1].to<std::string>() == "b" ? 0 : 1;
}
