// Crawls a site: at most so many pages in flight, the work of reading them on other threads.
//
//   crawl [pages] [in flight]     prints a summary
//   crawl --check                 the same for several sizes, and fails unless every promise was kept
//
// The site is generated, and a fetch is a delay, so that the program needs no network. What to look at is crawl():
//   - `frontier` is an asynchronous generator: it starts the next fetch only when as_completed() asks for one;
//   - as_completed() asks for no more than `max_concurrent` that are not consumed: that is the back-pressure;
//   - links are found by a worker thread (to_thread), so that a slow page does not delay the fetches.
#include <caller/all.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

using namespace std::chrono_literals;
using caller::Caller;
using caller::Coro;
using caller::Pending;

namespace {

// ---- the site ----

/// Pages 0 … count-1; page n links to 2n+1, 2n+2 (so all are reachable from page 0), and back to some seen before.
class Site {
public:
  explicit Site(int count) : count_(count) {}

  /// What a server would send, after a delay. Pages that end in 13 do not exist, and say so.
  Coro<std::string> fetch(int page) {
    const InFlight mark(*this);
    ++fetches_;
    co_await caller::sleep_for((page * 37 % 11) * 100us);
    if (broken(page)) throw std::runtime_error("404 page " + std::to_string(page));
    std::string text;
    for (const int to : {2 * page + 1, 2 * page + 2, page / 2, (page * 7) % count_})
      if (to < count_) text += "<a href=\"/" + std::to_string(to) + "\">";
    text.append(2000, '.');
    co_return text;
  }

  static bool broken(int page) { return page % 100 == 13; }
  int fetches() const { return fetches_; }
  int most_in_flight() const { return most_; }
  int in_flight() const { return now_; }

private:
  struct InFlight {
    Site& site;
    explicit InFlight(Site& s) : site(s) { site.most_ = std::max(site.most_, ++site.now_); }
    ~InFlight() { --site.now_; }
    InFlight(const InFlight&) = delete;
    InFlight& operator=(const InFlight&) = delete;
  };
  // Only touched on the Caller's own thread, hence no atomics.
  int count_, fetches_ = 0, now_ = 0, most_ = 0;
};

/// The pages a text links to: work for a processor, so it runs on a worker.
std::vector<int> links_in(const std::string& text) {
  constexpr std::string_view kMark = "href=\"/";
  std::vector<int> found;
  for (auto at = text.find(kMark); at != std::string::npos; at = text.find(kMark, at + 1))
    found.push_back(std::atoi(text.c_str() + at + kMark.size()));
  return found;
}

// ---- the crawler ----

struct Page {
  int number = 0;
  std::vector<int> links;
};

Coro<Page> visit(Site& site, int number) {
  std::string text = co_await site.fetch(number);
  auto reading = Caller::current().to_thread(links_in, std::move(text));
  std::vector<int> links = co_await std::move(reading);
  co_return Page{number, std::move(links)};
}

struct Result {
  std::multiset<int> visited;  // a page that is in it twice was fetched twice
  int broken = 0;
};

/// What is left to visit. `changed` is there for the generator to wait for.
struct Frontier {
  std::deque<int> waiting{0};
  std::set<int> known{0};
  int unfinished = 1;  // waiting or in flight
  Pending<> changed;

  void tell() { std::exchange(changed, Pending<>()).set_result(); }
  void add(const std::vector<int>& links) {
    for (const int to : links) {
      if (!known.insert(to).second) continue;
      waiting.push_back(to);
      ++unfinished;
    }
  }
};

caller::AsyncGenerator<Pending<Page>> fetches(Site& site, Frontier& frontier) {
  while (frontier.unfinished > 0) {
    if (frontier.waiting.empty()) {
      const Pending<> changed = frontier.changed;
      co_await changed;
      continue;
    }
    const int number = frontier.waiting.front();
    frontier.waiting.pop_front();
    co_yield Caller::current().call_soon(visit, std::ref(site), number);
  }
}

Coro<Result> crawl(Site& site, std::size_t in_flight) {
  Result result;
  Frontier frontier;
  auto stream = Caller::current().as_completed(fetches(site, frontier), {.max_concurrent = in_flight});
  while (auto done = co_await stream.next()) {
    try {
      const Page& page = done->result();
      result.visited.insert(page.number);
      frontier.add(page.links);
    } catch (const std::runtime_error&) {  // a page that does not exist has no links
      ++result.broken;
    }
    --frontier.unfinished;
    frontier.tell();
  }
  co_return result;
}

// ---- the program ----

#define REQUIRE(condition)                                                            \
  do {                                                                                \
    if (!(condition)) throw std::runtime_error(std::string("not so: ") + #condition); \
  } while (false)

void run(int pages, std::size_t in_flight, bool check) {
  Site site(pages);
  Caller loop(caller::manual, {.name = "crawler", .max_workers = 2});
  auto work = loop.call_soon(crawl, std::ref(site), in_flight);
  loop.run_until(work);
  const Result& result = work.result();
  const std::set<int> once(result.visited.begin(), result.visited.end());
  std::printf("%d pages, at most %zu in flight: %zu read, %d broken, %d fetches, %d in flight at most\n", pages,
              in_flight, once.size(), result.broken, site.fetches(), site.most_in_flight());
  if (!check) return;
  REQUIRE(site.in_flight() == 0);
  REQUIRE(site.most_in_flight() <= static_cast<int>(in_flight));
  if (pages > 20 * static_cast<int>(in_flight)) REQUIRE(site.most_in_flight() == static_cast<int>(in_flight));
  REQUIRE(once.size() == result.visited.size());
  REQUIRE(site.fetches() == static_cast<int>(once.size()) + result.broken);
  // Every page, but those that are only reachable through a broken one.
  for (int page = 0; page < pages; ++page) {
    bool reachable = !Site::broken(page);
    for (int above = page; above > 0; above = (above - 1) / 2) reachable = reachable && !Site::broken((above - 1) / 2);
    REQUIRE(!reachable || once.contains(page));
    REQUIRE(!once.contains(page) || !Site::broken(page));
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc > 1 && std::string_view(argv[1]) == "--check") {
      for (const auto& [pages, in_flight] : {std::pair{1, 3}, {10, 1}, {500, 1}, {500, 4}, {2000, 16}})
        run(pages, static_cast<std::size_t>(in_flight), true);
    } else {
      run(argc > 1 ? std::max(1, std::atoi(argv[1])) : 1000, argc > 2 ? std::max(1, std::atoi(argv[2])) : 8, false);
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "crawl: %s\n", e.what());
    return 1;
  }
}
