#include "kernelspec.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "protocol/words.hpp"
#include "support/temporary_folder.hpp"

namespace fs = std::filesystem;
using namespace caller::kernel::cli;
using caller::kernel::split_words;

namespace {

/// A directory of its own with logos and a program, and the environment of a user who lives in it.
struct Place {
  const caller::test::TemporaryFolder folder;
  const fs::path root = folder.path;
  Environment environment{{{"HOME", (root / "home").string()}, {"VIRTUAL_ENV", (root / "venv").string()}}};

  Place() {
    fs::create_directories(root / "resources");
    for (const char* logo : {"logo-32x32.png", "logo-64x64.png", "logo-svg.svg"}) {
      std::ofstream(root / "resources" / logo) << logo;
    }
    std::ofstream(root / "caller") << "#!/bin/sh\n";
    ::chmod((root / "caller").c_str(), 0755);
  }

  InstallOptions options() const {
    InstallOptions out;
    out.program = root / "caller";
    out.resources = root / "resources";
    return out;
  }
  fs::path user_kernels() const { return root / "home/.local/share/jupyter/kernels"; }
};

std::string read(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::size_t entries(const fs::path& directory) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(directory)) ++count;
  return count;
}

}  // namespace

TEST_CASE("the user's data directory follows JUPYTER_DATA_DIR, then XDG_DATA_HOME, then HOME") {
  CHECK(user_data_dir({{{"JUPYTER_DATA_DIR", "/a"}, {"XDG_DATA_HOME", "/b"}, {"HOME", "/c"}}}) == "/a");
  CHECK(user_data_dir({{{"JUPYTER_DATA_DIR", ""}, {"XDG_DATA_HOME", "/b"}, {"HOME", "/c"}}}) == "/b/jupyter");
  CHECK(user_data_dir({{{"HOME", "/c"}}}) == "/c/.local/share/jupyter");
  CHECK_THROWS_AS(user_data_dir({}), KernelspecError);
}

TEST_CASE("the search path is JUPYTER_PATH, the user, the environment, the system") {
  const Environment environment{{{"JUPYTER_PATH", "/x/::/y"}, {"HOME", "/c"}, {"VIRTUAL_ENV", "/v"}}};
  const std::vector<fs::path> expected = {
      "/x", "/y", "/c/.local/share/jupyter", "/v/share/jupyter", "/usr/local/share/jupyter", "/usr/share/jupyter"};
  CHECK(search_path(environment) == expected);
}

TEST_CASE("JUPYTER_PREFER_ENV_PATH puts the environment before the user") {
  const Environment environment{{{"JUPYTER_PREFER_ENV_PATH", "yes"}, {"HOME", "/c"}, {"VIRTUAL_ENV", "/v"}}};
  CHECK(search_path(environment).front() == "/v/share/jupyter");
}

TEST_CASE("names are letters, digits, dots, underscores and dashes, in lower case as Jupyter keeps them") {
  CHECK(checked_name("Caller-2.0_x") == "caller-2.0_x");
  for (const char* bad : {"", ".", "..", "a/b", "../x", "a b", "ä", "a\n", "$x"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(checked_name(bad), KernelspecError);
  }
}

TEST_CASE("an assignment needs a name and an equals sign, and the value may hold anything") {
  CHECK(parse_assignment("A_1=b=c d") == std::pair<std::string, std::string>("A_1", "b=c d"));
  CHECK(parse_assignment("A=") == std::pair<std::string, std::string>("A", ""));
  for (const char* bad : {"A", "=b", "1A=b", "A B=c", "a-b=c"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(parse_assignment(bad), KernelspecError);
  }
}

TEST_CASE("words are split and unquoted as a shell does it") {
  CHECK(split_words("  -O2   -DX='a b' \"-I/c d\" e\\ f '' ") ==
        std::vector<std::string>{"-O2", "-DX=a b", "-I/c d", "e f", ""});
  CHECK(split_words("").empty());
  CHECK_THROWS_AS(split_words("-D'x"), std::invalid_argument);
}

TEST_CASE("an installed kernelspec holds what Jupyter needs and nothing else lies beside it") {
  const Place place;
  auto options = place.options();
  options.environment = {{"OMP_NUM_THREADS", "2"}};
  options.cxxflags = "-O3";
  const fs::path directory = install(options, place.environment);
  CHECK(directory == place.user_kernels() / "caller");
  CHECK(entries(directory) == 4);
  CHECK(entries(place.user_kernels()) == 1);
  const std::string json = read(directory / "kernel.json");
  CHECK(json == kernel_json(options));
  for (const char* part : {"\"interrupt_mode\": \"message\"", "\"display_name\": \"C++20 (Caller)\"",
                           "\"language\": \"c++\"", "\"kernel_protocol_version\": \"5.5\"", "\"{connection_file}\"",
                           "\"OMP_NUM_THREADS\": \"2\"", "--cxxflags=-O3"}) {
    CAPTURE(part);
    CHECK(json.find(part) != std::string::npos);
  }
  struct stat status{};
  REQUIRE(::stat(directory.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0755);
}

TEST_CASE("installing again replaces the older kernelspec completely") {
  const Place place;
  auto options = place.options();
  const fs::path directory = install(options, place.environment);
  std::ofstream(directory / "left-over") << "x";
  options.display_name = "Second";
  CHECK(install(options, place.environment) == directory);
  CHECK_FALSE(fs::exists(directory / "left-over"));
  CHECK(read(directory / "kernel.json").find("Second") != std::string::npos);
  CHECK(entries(place.user_kernels()) == 1);
}

TEST_CASE("a failed installation leaves nothing behind, not even the directories it made") {
  const Place place;
  auto options = place.options();
  options.resources = place.root / "nowhere";
  CHECK_THROWS_AS(install(options, place.environment), KernelspecError);
  CHECK_FALSE(fs::exists(place.root / "home"));
}

TEST_CASE("a failed installation keeps the older kernelspec as it was") {
  const Place place;
  auto options = place.options();
  const fs::path directory = install(options, place.environment);
  const std::string before = read(directory / "kernel.json");
  fs::remove(place.root / "resources/logo-svg.svg");
  options.display_name = "Second";
  CHECK_THROWS_AS(install(options, place.environment), KernelspecError);
  CHECK(read(directory / "kernel.json") == before);
  CHECK(entries(directory) == 4);
  CHECK(entries(place.user_kernels()) == 1);
}

TEST_CASE("a prefix that is a file is named in the error") {
  const Place place;
  auto options = place.options();
  options.location = {Scope::prefix, place.root / "caller"};
  CHECK_THROWS_WITH_AS(install(options, place.environment), doctest::Contains((place.root / "caller").string().c_str()),
                       KernelspecError);
}

TEST_CASE("a program that cannot run is not installed") {
  const Place place;
  auto options = place.options();
  options.program = place.root / "resources/logo-svg.svg";
  CHECK_THROWS_AS(install(options, place.environment), KernelspecError);
}

TEST_CASE("sys-prefix is the active Python environment") {
  const Place place;
  auto options = place.options();
  options.location.scope = Scope::sys_prefix;
  CHECK(install(options, place.environment) == place.root / "venv/share/jupyter/kernels/caller");
}

TEST_CASE("the list shows this program's kernelspecs only, and says which have lost their program") {
  const Place place;
  auto options = place.options();
  install(options, place.environment);
  options.name = "Other";
  options.location.scope = Scope::sys_prefix;
  install(options, place.environment);
  fs::create_directories(place.user_kernels() / "python9");
  std::ofstream(place.user_kernels() / "python9/kernel.json") << R"({"argv": ["python9"], "display_name": "P"})";
  fs::create_directories(place.user_kernels() / "broken");
  std::ofstream(place.user_kernels() / "broken/kernel.json") << "{";
  auto found = list(place.environment);
  REQUIRE(found.size() == 2);
  CHECK(found[0].name == "caller");
  CHECK(found[1].name == "other");
  CHECK(found[1].runnable);
  fs::remove(place.root / "caller");
  CHECK_FALSE(list(place.environment)[0].runnable);
}

TEST_CASE("uninstall removes its own kernelspec and refuses another program's") {
  const Place place;
  const fs::path directory = install(place.options(), place.environment);
  CHECK(uninstall({}, "CALLER", place.environment) == directory);
  CHECK_FALSE(fs::exists(directory));
  CHECK_THROWS_AS(uninstall({}, "caller", place.environment), KernelspecError);
  fs::create_directories(directory);
  std::ofstream(directory / "kernel.json") << R"({"argv": ["python9"]})";
  CHECK_THROWS_AS(uninstall({}, "caller", place.environment), KernelspecError);
  CHECK(fs::exists(directory / "kernel.json"));
  CHECK_THROWS_AS(uninstall({}, "..", place.environment), KernelspecError);
}
