# shellcheck shell=bash disable=SC2034,SC2154
# What ./run and ./test share: the Debian packages, the build, and how they speak. Sourced, with the project's root in `root`.
#
# Every failure is one sentence that says what is wrong and what to do, and the exit code 2.

PYTHON=/usr/bin/python3 # Debian's own: a python3 earlier in PATH may lack Debian's Jupyter modules
LOGS=$root/build/logs

# Packages are installed without "recommends": what stands here, with what it depends on, is all that is needed.
packages_build=(g++ cmake ninja-build pkg-config python3 cppzmq-dev libzmq3-dev xeus-dev nlohmann-json3-dev libssl-dev uuid-dev
  libcli11-dev libyaml-dev libuv1-dev libsqlite3-dev libhiredis-dev libtomlplusplus-dev libclang-19-dev llvm-19-dev zlib1g-dev libzstd-dev clang-19)
packages_run=(jupyter-client python3-nbclient python3-nbconvert jupyter-nbconvert graphviz)
packages_notebook=(jupyter-notebook jupyter-nbextension-jupyter-js-widgets)
packages_console=(jupyter-console)
packages_test=(curl doctest-dev valgrind redis-server openssl python3-jupyter-kernel-test jupyter-console python3-pexpect lldb-19)
packages_full=(git jupyter-notebook jupyter-nbextension-jupyter-js-widgets chromium chromium-driver libclang-rt-19-dev clang-format-19
  lintian dpkg-dev fakeroot doxygen)

say() { if [ -t 1 ]; then printf '\033[1m==> %s\033[0m\n' "$*"; else printf '==> %s\n' "$*"; fi; }
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 2
}

free_gigabytes() { df --output=avail -BG "$1" | tail -1 | tr -dc '0-9'; }

# need_space DIRECTORY GIGABYTES WHAT
need_space() {
  local free
  free=$(free_gigabytes "$1")
  [ "$free" -ge "$2" ] || die "$3 needs $2 GB of free disk space under $1, where only $free GB are left."
}

check_distribution() {
  local ID="" VERSION_ID="" PRETTY_NAME="an unknown system"
  # shellcheck disable=SC1091
  [ -r /etc/os-release ] && . /etc/os-release
  [ "$ID $VERSION_ID" = "debian 12" ] && return
  die "Caller builds on Debian 12 and this is $PRETTY_NAME; with the packages listed in cmake/bootstrap.sh installed," \
    "CALLER_SKIP_BOOTSTRAP=1 ./${0##*/} tries it all the same."
}

# An installed Boost of 1.74 or later is used whichever it is: Debian's versions exclude each other, so none is ever replaced.
boost_package() {
  local header version
  for header in /usr/include/boost/version.hpp /usr/local/include/boost/version.hpp; do
    [ -r "$header" ] || continue
    version=$(sed -n 's/^#define BOOST_VERSION \([0-9]*\).*/\1/p' "$header")
    [ "${version:-0}" -ge 107400 ] && [ -r "${header%version.hpp}asio.hpp" ] && return
    die "Caller needs Boost 1.74 or later and $header is older; remove that one so that Debian's can be used."
  done
  echo libboost1.81-dev
}

# as_root COMMAND…, with sudo where that is needed and possible
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Explains a failed apt-get from its log.
die_of_apt() {
  local log=$1
  if grep -qE 'Temporary failure resolving|Could not resolve|Could not connect|Cannot initiate the connection|Network is unreachable|Unable to fetch|Failed to fetch|Connection (refused|timed out|failed)' "$log"; then
    die "Debian's package servers cannot be reached; connect to the network (or set apt's proxy) and start again (log: $log)."
  elif grep -qE "No space left|don't have enough free space" "$log"; then
    die "The disk is full; the packages need about 4 GB (log: $log)."
  elif grep -qE 'Could not get lock|is another process using it' "$log"; then
    die "Another package manager is at work; wait until it has finished and start again (log: $log)."
  elif grep -q 'Unable to locate package' "$log"; then
    die "apt does not know $(sed -n 's/.*Unable to locate package //p' "$log" | paste -sd' '); add Debian 12's \"main\" to apt's sources and start again."
  fi
  tail -15 "$log" >&2
  die "The packages could not be installed; the end of apt-get's log stands above, all of it in $log."
}

# bootstrap PACKAGE…: installs what is missing of these; quick when nothing is.
bootstrap() {
  if [ -n "${CALLER_SKIP_BOOTSTRAP:-}" ]; then return; fi
  check_distribution
  local wanted missing boost log=$LOGS/packages.log
  boost=$(boost_package) || exit 2
  wanted=("$@" ${boost:+"$boost"})
  mapfile -t missing < <(comm -23 <(printf '%s\n' "${wanted[@]}" | sort -u) \
    <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "${wanted[@]}" 2>/dev/null | sed -n 's/^.i  *//p' | sort -u))
  [ ${#missing[@]} = 0 ] && return
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "These packages are missing and only root can install them: apt-get install ${missing[*]}"
    [ -t 0 ] || sudo -n true 2>/dev/null || die "sudo asks for a password and there is no terminal; run first: sudo apt-get install ${missing[*]}"
  fi
  need_space /usr 4 "Installing the packages"
  say "Installing ${#missing[@]} Debian packages: ${missing[*]}"
  local apt=(apt-get -q -o DPkg::Lock::Timeout=120)
  as_root "${apt[@]}" update >"$log" 2>&1 || true # an old list may do; if not, the next line says why
  as_root env DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1 </dev/null ||
    die_of_apt "$log"
}

# Compilers to run at once: one per core, and no more than the memory holds (1.5 GB for the largest source).
parallel_level() {
  local cores memory by_memory quota period
  cores=$(nproc)
  if read -r quota period 2>/dev/null </sys/fs/cgroup/cpu.max && [ "$quota" != max ]; then
    quota=$(((quota + period - 1) / period))
    [ "$quota" -lt "$cores" ] && cores=$quota
  fi
  memory=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
  by_memory=$((memory / 1500))
  [ "$by_memory" -lt "$cores" ] && cores=$by_memory
  [ "$cores" -lt 1 ] && cores=1
  echo "$cores"
}

# What the build needs, for those who skip the packages: each thing that is missing or too old, in a sentence.
check_tools() {
  local version tool
  for tool in cmake ninja g++; do
    command -v "$tool" >/dev/null || die "$tool is not installed; on Debian: apt-get install ${packages_build[*]:0:3}"
  done
  version=$(cmake --version | sed -n 's/^cmake version //p')
  [ "$(printf '%s\n' 3.25 "$version" | sort -V | head -1)" = 3.25 ] ||
    die "Caller needs CMake 3.25 or later and $(command -v cmake) is $version; install a newer one, or put it first in PATH."
  version=$(g++ -dumpversion)
  [ "${version%%.*}" -ge 12 ] || die "Caller needs g++ 12 or later and $(command -v g++) is $version; install g++-12 and set CXX=g++-12."
}

# need_module MODULE PACKAGE WHAT
need_module() {
  "$PYTHON" -c "import $1" 2>/dev/null || die "$3 needs the Debian package $2 and $PYTHON cannot import $1; run: apt-get install $2"
}

# logged LOG TITLE COMMAND…: runs it with its output in the log and a line of progress on the terminal.
logged() {
  local log=$1 title=$2 begin=$SECONDS last="" line status=0 pid
  shift 2
  mkdir -p "$LOGS"
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  trap 'kill "$pid" 2>/dev/null; exit 130' INT TERM
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    line=$(tail -n 9 "$log" 2>/dev/null | grep -oE '^\[[0-9]+/[0-9]+\]|^ *[0-9]+/[0-9]+ Test' | tail -n 1 | tr -d ' Test' || true)
    if [ -t 1 ]; then
      printf '\r    %s %s (%d s)\033[K' "$title" "$line" $((SECONDS - begin))
    elif [ $(((SECONDS - begin) / 30)) != "${last:-0}" ]; then
      last=$(((SECONDS - begin) / 30))
      printf '    %s %s (%d s)\n' "$title" "$line" $((SECONDS - begin))
    fi
  done
  wait "$pid" || status=$?
  trap - INT TERM
  [ -t 1 ] && printf '\r\033[K'
  return "$status"
}

# The part of a build's log that matters: the first failure with what the compiler said, else the end.
show_failure() {
  local log=$1
  if grep -qE '^(FAILED:|CMake Error)' "$log"; then
    grep -nE '^(FAILED:|CMake Error)' "$log" | head -1 | cut -d: -f1 | {
      read -r at
      tail -n "+$at" "$log" | grep -vE '^: && |^(/usr/bin/)?(ccache )?/usr/(bin|lib)/[^ ]*(c\+\+|clang)[^ ]* ' | head -40 >&2
    }
  else
    tail -40 "$log" >&2
  fi
}

# build PRESET [TARGET…]: configures (with configure_options), builds (through build_prefix), and says what failed.
configure_options=()
build_prefix=()
build() {
  local preset=$1 log
  shift
  check_tools
  [ -d "$root/build/$preset" ] || need_space "$root" 2 "The build"
  log=$LOGS/$preset-configure.log
  local options=()
  command -v ccache >/dev/null && options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  if ! logged "$log" "configuring $preset" cmake -S "$root" --preset "$preset" "${options[@]}" "${configure_options[@]}"; then
    show_failure "$log"
    die "The configuration \"$preset\" failed; the whole log is $log."
  fi
  grep -E '^-- .*: OFF' "$log" || true
  log=$LOGS/$preset-build.log
  : "${CMAKE_BUILD_PARALLEL_LEVEL:=$(parallel_level)}"
  export CMAKE_BUILD_PARALLEL_LEVEL
  local targets=()
  [ $# -gt 0 ] && targets=(--target "$@")
  if ! logged "$log" "building $preset" "${build_prefix[@]}" cmake --build "$root/build/$preset" "${targets[@]}"; then
    show_failure "$log"
    if grep -qE 'No space left on device' "$log"; then die "The disk is full (log: $log)."; fi
    if grep -qE 'Killed signal terminated|out of memory' "$log"; then
      die "The compiler ran out of memory; CMAKE_BUILD_PARALLEL_LEVEL=1 ./${0##*/} needs the least (log: $log)."
    fi
    die "The build \"$preset\" failed; the lines above are its first failure, the whole log is $log."
  fi
}

mkdir -p "$LOGS" 2>/dev/null || die "Nothing can be written under $root; make that directory writable."
