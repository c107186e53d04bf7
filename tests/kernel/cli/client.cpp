// A program as a user writes it: it calls tasks of a library that it knows by name only, and waits, or does not.
#include <iostream>

#include <caller/task/all.hpp>

using namespace caller::task;

/// `task_client LIBRARY add X Y` | `… words TEXT` | `… fail WHY` | `… start TASK`, where settings say. Prints the
/// invocation's id, and the result.
int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const App app;
  app.load(argv[1]);
  const std::string what = argv[2];
  try {
    if (what == "add") {
      const auto call = app.find_task<int(int, int)>("demo.add")(std::stoi(argv[3]), std::stoi(argv[4]));
      std::cout << call.id() << std::endl;
      std::cout << call.result() << std::endl;
    } else if (what == "words") {
      const auto call = app.find_task<std::map<std::string, int>(std::string)>("demo.words")(argv[3]);
      std::cout << call.id() << '\n';
      for (const auto& [word, n] : call.result()) std::cout << word << ' ' << n << '\n';
    } else if (what == "fail") {
      const auto call = app.find_task<void(std::string)>("demo.fail")(argv[3]);
      std::cout << call.id() << std::endl;
      call.result();
    } else {
      const auto call = app.find_task<void()>(argv[3])();
      std::cout << call.id() << '\n';
    }
  } catch (const std::exception& e) {
    std::cerr << e.what() << '\n';
    return 1;
  }
  return 0;
}
