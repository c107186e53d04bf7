"""Executes a notebook through its own kernel, prints each cell with its output, writes it as HTML.

Usage: run_notebook.py NOTEBOOK.ipynb PAGE.html
"""

import pathlib
import re
import sys

try:
    import nbformat
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError
    from nbconvert import HTMLExporter
except ImportError as error:
    sys.exit(f"run_notebook.py: {sys.executable} cannot import {error.name}; run: apt-get install jupyter-client python3-nbclient python3-nbconvert")

SECONDS_PER_CELL = 120


def text_of(output):
    """What a terminal can show of an output."""
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return "\n".join(output.traceback) or f"{output.ename}: {output.evalue}"
    data = output.get("data", {})
    return data.get("text/plain", f"<{', '.join(data)}>") + "\n"


def show(cell):
    if cell.cell_type == "markdown":
        print("\n" + cell.source)
        return
    if cell.cell_type != "code":
        return
    count = cell.execution_count
    print(f"\nIn [{count}]:")
    print("\n".join("    " + line for line in cell.source.splitlines()))
    text = "".join(text_of(output) for output in cell.outputs)
    if not sys.stdout.isatty():
        text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    if text:
        print(f"Out [{count}]:")
        print("\n".join("    " + line for line in text.rstrip("\n").splitlines()))
    sys.stdout.flush()


def main(source, page):
    source, page = pathlib.Path(source), pathlib.Path(page)
    notebook = nbformat.read(source, as_version=4)
    client = NotebookClient(
        notebook, timeout=SECONDS_PER_CELL, startup_timeout=60, resources={"metadata": {"path": str(source.parent)}}
    )
    failure = None
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            try:
                client.execute_cell(cell, index)
            except (CellExecutionError, DeadKernelError, TimeoutError) as error:
                failure = error
            show(cell)
            if failure is not None:
                break
    page.parent.mkdir(parents=True, exist_ok=True)
    exporter = HTMLExporter()
    # Debian's nbconvert removes from pictures what they are drawn with; what was executed here is trusted anyway.
    exporter.register_filter("clean_html", lambda text: text)
    html, _ = exporter.from_notebook_node(notebook)
    page.write_text(html, encoding="utf-8")
    if failure is not None:
        print(f"\nThe cell above failed ({type(failure).__name__}).", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except NoSuchKernel as error:
        sys.exit(f'run_notebook.py: Jupyter knows no kernel "{error.name}"; run: build/release/bin/caller kernel install --user')
