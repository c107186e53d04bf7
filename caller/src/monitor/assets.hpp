// The files of the page. Internal to this folder.
#pragma once

#include <map>
#include <string>

namespace caller::monitor {

struct Asset {
  std::string content_type, body;
};
/// By name, `index.html` among them. Only what a page consists of, read once: no name of a request ever meets the disk.
using Assets = std::map<std::string, Asset, std::less<>>;

/// `folder` empty: `share/caller/monitor` beside the library, or beside the program if the library is part of it.
/// Errors: std::runtime_error, naming where it was looked for.
Assets load_assets(const std::string& folder);

}  // namespace caller::monitor
