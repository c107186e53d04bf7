#include "debugger/cell_directory.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "support/temporary_folder.hpp"

namespace debugger = caller::kernel::debugger;
namespace fs = std::filesystem;

namespace {

/// A folder for temporary files of this test's own.
struct Temporary : caller::test::TemporaryFolder {
  Temporary() { ::setenv("TMPDIR", path.c_str(), 1); }
  ~Temporary() { ::unsetenv("TMPDIR"); }
  std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(path), fs::directory_iterator()));
  }
};

}  // namespace

TEST_CASE("a folder of cells is this user's alone, and goes with its object") {
  const Temporary temporary;
  {
    debugger::CellDirectory directory;
    const std::string path = directory.path();
    CHECK(path.starts_with((temporary.path / "caller-cells-").string()));
    CHECK(path.ends_with("/"));
    CHECK(fs::status(path).permissions() == fs::perms::owner_all);
    CHECK(directory.path() == path);
    directory.remove();
    CHECK_FALSE(fs::exists(path));
    CHECK(directory.path() != path);
  }
  CHECK(temporary.entries() == 0);
}

TEST_CASE("the folder of a killed process is removed, that of a living one and everything else stays") {
  const Temporary temporary;
  std::array<int, 2> pipe{};
  REQUIRE(::pipe(pipe.data()) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    debugger::CellDirectory directory;
    std::ofstream(directory.path() + "1.cpp") << "int x;\n";
    (void)!::write(pipe[1], "r", 1);
    for (;;) ::pause();
  }
  char ready = 0;
  REQUIRE(::read(pipe[0], &ready, 1) == 1);
  debugger::CellDirectory mine;
  (void)mine.path();
  fs::create_directory(temporary.path / "caller-cells-making");  // without a lock yet
  fs::create_directory(temporary.path / "caller-cells-old");     // of a version without locks
  fs::last_write_time(temporary.path / "caller-cells-old", fs::file_time_type::clock::now() - std::chrono::hours(2));
  fs::create_directory(temporary.path / "someone-else");
  fs::create_directory_symlink(temporary.path / "someone-else", temporary.path / "caller-cells-link");

  debugger::remove_left_directories(temporary.path);
  CHECK(temporary.entries() == 5);
  CHECK_FALSE(fs::exists(temporary.path / "caller-cells-old"));

  ::kill(child, SIGKILL);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  debugger::remove_left_directories(temporary.path);
  CHECK(temporary.entries() == 4);
  CHECK(fs::exists(mine.path()));
  CHECK(fs::exists(temporary.path / "someone-else"));
  debugger::remove_left_directories(temporary.path / "nowhere");
}
