"""Executes every code block of a page, top to bottom, in one folder and with one kernel. Usage: run_blocks.py PAGE.md

| block | what is done with it |
| --- | --- |
| any language, first line `// name.cpp` or `# name.yaml` | it becomes that file |
| `console` | each line `$ command` is run by bash; what stands below is all that it prints. `$ enable …` holds from there on |
| `cpp` otherwise | a cell; a `text` block right below is what it shows. One that begins with `// task` is not waited for |
| `text` right below a cell | what it shows |

`…` in an output stands for anything. A comment `<!-- test: NAME -->` right above a block says which CTest executes it instead.
Any other block is an error, and so is a link to a file, or a heading, that is not there. Programs find the installed package, by
pkg-config and CMake, and `caller` in PATH; bash's builtin of that name is as a reader has it, until the page switches it off. CALLER_PREFIX
says where the package is installed, CALLER_BUILD where the tests are listed.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests" / "kernel" / "python"))
FENCE = re.compile(r"^(?:<!-- test: (?P<test>\S+) -->\n+)?```(?P<language>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"\A(?://|#) ([\w./-]+\.\w+)\n")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
SECONDS = 240
LATER = object()


def pattern(text):
    """What an output must be, with `…` for anything."""
    return re.compile(".*?".join(re.escape(part) for part in text.strip("\n").split("…")), re.DOTALL)


class Page:
    def __init__(self, path, folder, environment):
        self.text = path.read_text(encoding="utf-8")
        self.folder = folder
        self.environment = environment
        self.kernel = self.client = None
        self.started = []
        self.builtins = ""  # what the page has switched off in bash
        self.later = []  # cells that run as tasks: the cell, where it stands, what it must show

    def place(self, match):
        return f"line {self.text.count(chr(10), 0, match.start()) + 1}"

    def run(self):
        shown = None  # what the cell above has shown
        for match in FENCE.finditer(self.text):
            language, text, place = match["language"], match["text"], self.place(match)
            if match["test"]:
                known = subprocess.run(["ctest", "--test-dir", os.environ["CALLER_BUILD"], "-N"], capture_output=True, text=True, check=True).stdout
                assert re.search(rf": {re.escape(match['test'])}$", known, re.MULTILINE), f"{place}: there is no test {match['test']}"
            elif language == "text":
                assert shown is not None, f"{place}: nothing has printed this"
                if shown is LATER:
                    self.later[-1][2] = text
                else:
                    assert pattern(text).fullmatch(shown.strip("\n")), f"{place}: the cell shows\n{shown}"
            elif name := NAME.match(text):
                path = self.folder / name[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            elif language == "console":
                self.console(text, place)
            elif language == "cpp":
                shown = self.cell(text, place)
                continue
            else:
                raise AssertionError(f"{place}: nothing executes a block of the language \"{language}\" without a name in its first line")
            shown = None
        for cell, place, text in self.later:
            shown = self.shown(cell.wait(), place, text)
            assert text is None or pattern(text).fullmatch(shown.strip("\n")), f"{place}: the cell shows\n{shown}"

    def console(self, text, place):
        assert text.startswith("$ "), f"{place}: a console block begins with a command, after `$ `"
        for command, expected in re.findall(r"^\$ (.*(?:\\\n.*)*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
            with open(self.folder / ".output", "w+b") as output:
                process = subprocess.Popen(
                    ["bash", "-c", self.builtins + command], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                    stdout=output, stderr=output, start_new_session=True,
                )  # fmt: skip
                self.started.append(process.pid)
                code = process.wait(SECONDS)
                output.seek(0)
                printed = output.read().decode(errors="replace")
            if command.startswith("enable "):
                self.builtins += command + "\n"
            assert pattern(expected).fullmatch(printed.strip("\n")), f"{place}: {command}\n(exit code {code}) prints\n{printed}"
            assert code == 0 or expected.strip(), f"{place}: {command} ends with {code}"

    def cell(self, code, place):
        import support

        if self.kernel is None:
            self.kernel = support.Kernel()
            self.client = self.kernel.client()
        self.client.run(f"%cd {self.folder}")
        if code.startswith("// task\n"):
            self.later.append([self.client.execute(code), place, None])
            return LATER
        expects = re.compile(r"\s*```text\n").match(self.text, self.text.index(code) + len(code) + 3)
        return self.shown(self.client.run(code, timeout=60), place, expects)

    @staticmethod
    def shown(cell, place, expects):
        """What is seen below a cell. One that fails must be followed by what it says."""
        import support

        parts = []
        for message in cell.iopub:
            content = message["content"]
            if message["msg_type"] == "stream":
                parts.append(content["text"])
            elif message["msg_type"] in ("execute_result", "display_data"):
                parts.append(content["data"]["text/plain"] + "\n")
            elif message["msg_type"] == "error":
                parts.append(support.plain(content["traceback"]) + "\n")
        text = support.plain("".join(parts))
        assert cell.reply["status"] == "ok" or expects, f"{place}: the cell fails\n{text}"
        return text

    def close(self):
        if self.kernel is not None:
            self.kernel.stop()
        for group in self.started:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                pass


def headings(path):
    """Where links into a page can lead, as GitHub names its headings."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(text)}


def broken_links(path, text):
    broken = []
    for file, place in LINK.findall(FENCE.sub("", text)):
        target = path.parent / file if file else path
        if not target.exists() or place and place not in headings(target):
            broken.append(f"{file}#{place}" if place else file)
    return broken


def main(path):
    import support  # moves HOME and Jupyter's folders away

    path = pathlib.Path(path).resolve()
    prefix = os.environ["CALLER_PREFIX"]
    (libraries,) = {p.parent for p in pathlib.Path(prefix).glob("**/pkgconfig/caller-runtime.pc")}
    environment = {
        **os.environ,
        "PATH": f"{prefix}/bin:{os.environ['PATH']}",
        "PKG_CONFIG_PATH": str(libraries),
        "LD_LIBRARY_PATH": str(libraries.parent),
        "CMAKE_PREFIX_PATH": prefix,
        "LC_ALL": "C.UTF-8",
    }
    folder = support.HOME / "page"
    folder.mkdir()
    page = Page(path, folder, environment)
    missing = broken_links(path, page.text)
    assert not missing, f"links that lead nowhere: {missing}"
    fences = len(re.findall(r"^ *```", page.text, re.MULTILINE))
    assert fences == 2 * len(FENCE.findall(page.text)), "a fence is indented or not closed"
    try:
        page.run()
    finally:
        page.close()
    print(f"{path.name}: {fences // 2} blocks")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except AssertionError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
