"""Takes a program out of a guide, so that what it shows is compiled. Usage: extract_code.py GUIDE NAME OUTPUT

The program is the block of C++ whose first line is `// NAME`.
"""

import pathlib
import re
import sys


def main(guide, name, output):
    text = pathlib.Path(guide).read_text(encoding="utf-8")
    found = re.findall(rf"^```cpp\n(// {re.escape(name)}\n.*?)^```", text, re.DOTALL | re.MULTILINE)
    if len(found) != 1:
        sys.exit(f"{guide} has {len(found)} blocks of C++ that begin with `// {name}`")
    target = pathlib.Path(output)
    if not target.exists() or target.read_text(encoding="utf-8") != found[0]:
        target.write_text(found[0], encoding="utf-8")


main(*sys.argv[1:])
