"""Takes docs/notebook.png: cells that run at the same time, in the classic Notebook in a headless Chromium.

Usage: CALLER_PROGRAM=build/ci/bin/caller docs/screenshot.py [FILE.png]   (needs the packages of ./test full)
"""

import base64
import json
import os
import pathlib
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("CALLER_SOURCE", str(SOURCE))
sys.path.insert(0, str(SOURCE / "tests" / "kernel" / "python"))

import support  # noqa: E402  (moves Jupyter's folders, so it comes first)
from test_browser import ClassicNotebook, start_server  # noqa: E402
from webdriver import Browser  # noqa: E402

CELLS = [
    """// task
for (int i : caller::progress(std::views::iota(0, 500), "waiting for a sensor"))
  co_await caller::sleep_for(200ms);""",
    """// thread name=primes
bool is_prime(long n) {
  for (long d = 2; d * d <= n; ++d) if (n % d == 0) return false;
  return true;
}
long primes = 0;
for (long n : caller::progress(std::views::iota(2L, 50'000L), "counting primes"))
  primes += is_prime(n), std::this_thread::sleep_for(2ms);
primes""",
    """std::vector<double> t, wave;
for (double x = 0; x < 12; x += 0.05)
  t.push_back(x), wave.push_back(std::exp(-x / 5) * std::sin(3 * x));
caller::plot(t, wave, "meanwhile").size(560, 170)""",
    """co_await caller::Caller().to_thread([] { return std::accumulate(wave.begin(), wave.end(), 0.0); })""",
]
# Only the cells: no menus, no room around them.
BARE = """
for (const part of ['#header', '.end_space', '#notebook_panel > .pull-right'])
  for (const e of document.querySelectorAll(part)) e.style.display = 'none';
document.querySelector('#site').style.setProperty('height', '100vh', 'important');
document.querySelector('#site').style.overflow = document.querySelector('#notebook').style.overflow = 'hidden';
document.querySelector('#notebook-container').style.cssText = 'width: 940px; padding: 6px; box-shadow: none';
document.querySelector('#notebook').scrollTop = 0;
Jupyter.notebook.select(0); document.activeElement.blur();
"""


def main(target=SOURCE / "docs" / "notebook.png"):
    support.install_kernelspec()
    folder = support.HOME / "notebooks"
    folder.mkdir()
    spec = {"name": "caller", "display_name": "C++20 (Caller)", "language": "c++"}
    cells = [{"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": text} for text in CELLS]
    (folder / "picture.ipynb").write_text(json.dumps({"cells": cells, "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 4}))
    server, address = start_server(folder)
    try:
        browser = Browser()
        try:
            browser.open(f"{address}/notebooks/picture.ipynb")
            browser.wait(ClassicNotebook.READY)
            browser.script("Jupyter.notebook.execute_all_cells();")
            browser.wait("document.querySelector('#notebook').innerText.includes('Out[4]')", 120)
            browser.wait("[...document.querySelectorAll('.input_prompt')].filter(e => e.innerText.includes('[*]')).length == 2")
            browser.wait("/counting primes\\s+[1-9]/.test(document.querySelector('#notebook').innerText)")
            browser.script(BARE)
            picture = browser._call("GET", f"/session/{browser.session}/element/{browser.element('#notebook-container')}/screenshot")
            pathlib.Path(target).write_bytes(base64.b64decode(picture))
        finally:
            browser.close()
    finally:
        server.kill()
        server.wait()
    size = pathlib.Path(target).stat().st_size
    print(f"{target}: {size >> 10} KiB")
    return 0 if size < 150_000 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
