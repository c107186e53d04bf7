// A redis-server of the test's own: in a directory that goes with it, on a socket there, or on a port of the loopback.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

extern char** environ;

class RedisServer {
public:
  /// `more`: of its command line. Errors: std::runtime_error; it is no reason to skip a test.
  explicit RedisServer(std::vector<std::string> more = {}) : more_(std::move(more)) {
    // In memory where that is possible: how long a disk takes is no part of any test.
    std::string name = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : std::filesystem::temp_directory_path().string();
    name += "/caller-redis-XXXXXX";
    if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary directory for redis-server");
    directory_ = name;
    start();
  }
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;
  ~RedisServer() {
    kill();
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  std::string url() const { return "unix://" + directory_ + "/redis.sock"; }
  std::string socket() const { return directory_ + "/redis.sock"; }
  pid_t pid() const { return pid_; }

  /// As by a power cut of the process: nothing is written any more.
  void kill() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    if (log_ >= 0) ::close(log_);
    pid_ = -1;
    log_ = -1;
  }
  /// When it returns, the server answers.
  void start() {
    // It goes with the thread that starts it, whatever ends that.
    std::vector<std::string> words{
        "setpriv", "--pdeathsig", "KILL",     "redis-server", "--port", "0",      "--unixsocket",
        socket(),  "--dir",       directory_, "--logfile",    "",       "--save", ""};
    words.insert(words.end(), more_.begin(), more_.end());
    std::vector<char*> argv;
    for (auto& w : words) argv.push_back(w.data());
    argv.push_back(nullptr);
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("no pipe for redis-server");
    posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawn_file_actions_adddup2(&files, ends[1], STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&files, ends[1], STDERR_FILENO);
    const int failed = ::posix_spawnp(&pid_, "setpriv", &files, nullptr, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&files);
    ::close(ends[1]);
    log_ = ends[0];
    if (failed) {
      pid_ = -1;
      throw std::runtime_error("setpriv does not start");
    }
    std::string said;
    while (said.find("eady to accept connections at") == std::string::npos) {
      std::array<char, 512> chunk;
      const auto n = ::read(log_, chunk.data(), chunk.size());
      if (n <= 0)
        throw std::runtime_error("redis-server, one of the packages in cmake/bootstrap.sh, does not start: " + said);
      said.append(chunk.data(), static_cast<std::size_t>(n));
    }
  }

  /// Sends one command past everybody, and gives the answer as its bytes.
  std::string command(const std::vector<std::string>& words) const {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un place{};
    place.sun_family = AF_UNIX;
    socket().copy(place.sun_path, sizeof place.sun_path - 1);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&place), sizeof place) != 0)
      throw std::runtime_error("redis-server does not answer");
    std::string bytes = "*" + std::to_string(words.size()) + "\r\n";
    for (const auto& w : words) bytes += "$" + std::to_string(w.size()) + "\r\n" + w + "\r\n";
    bytes += "*1\r\n$4\r\nQUIT\r\n";  // so that the end of the answer is seen
    if (::write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      throw std::runtime_error("redis-server takes nothing");
    std::string answer;
    std::array<char, 65536> chunk;
    for (ssize_t n; (n = ::read(fd, chunk.data(), chunk.size())) > 0;)
      answer.append(chunk.data(), static_cast<std::size_t>(n));
    ::close(fd);
    return answer.substr(0, answer.rfind("+OK"));
  }

private:
  std::vector<std::string> more_;
  std::string directory_;
  pid_t pid_ = -1;
  int log_ = -1;
};
