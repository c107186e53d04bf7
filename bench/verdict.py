"""The rows of targets.toml, judged by measured figures, and the tables that show them. Used by bench/compare."""

import ast
import operator
import pathlib
import tomllib

OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
FUNCTIONS = {"min": min, "max": max}


def load_rows():
    with open(pathlib.Path(__file__).with_name("targets.toml"), "rb") as file:
        return tomllib.load(file)["row"]


def key(name):
    """`asio/cross_thread/2` as expressions write it: `asio.cross_thread_2`."""
    who, _, operation = name.partition("/")
    return f"{who}.{operation.replace('/', '_')}"


def names_in(expression):
    return [f"{n.value.id}.{n.attr}" for n in ast.walk(ast.parse(expression)) if isinstance(n, ast.Attribute)]


def evaluate(expression, values):
    """The value of an expression, or None when a figure it needs was not measured."""

    def visit(node):
        if isinstance(node, ast.Expression):
            return visit(node.body)
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return float(node.value)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return values[f"{node.value.id}.{node.attr}"]
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            return OPERATORS[type(node.op)](visit(node.left), visit(node.right))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "least":
            measured = [value for value in (evaluate(ast.unparse(argument), values) for argument in node.args) if value is not None]
            if not measured:
                raise KeyError(expression)
            return min(measured)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
            return FUNCTIONS[node.func.id](visit(argument) for argument in node.args)
        raise ValueError(f"targets.toml: not understood: {expression}")

    try:
        return visit(ast.parse(expression, mode="eval"))
    except KeyError:
        return None


def bound(text, value, ours):
    """One bound of a row: what it says, what that is here, and ours in terms of it."""
    ratio = ours / value if ours is not None and value else None
    met = None if ours is None or value is None else ours <= value
    return {"bound": text, "value": value, "ours": ours, "ratio": ratio, "met": met}


def judge(row, values, counts=None):
    """The verdict on a row. `values`: nanoseconds by key; `counts`: by "caller" and "asio", as instructions.py measures them."""
    name = row["name"].replace("/", "_")
    ours = values.get(f"caller.{name}")
    peers = {k.split(".")[0]: v for k, v in values.items() if k.endswith(f".{name}") and not k.startswith(("caller.", "limit."))}
    best = min(peers, key=peers.get, default=None)
    bounds = {kind: bound(row[kind], evaluate(row[kind], values), ours) for kind in ("target", "limit") if kind in row}
    counted = (counts or {}).get("caller", {}).get(name, {})
    for kind in ("instructions", "allocations"):
        if kind in row:
            bounds[kind] = bound(str(row[kind]), row[kind], counted.get(kind))
    # A target that is a share of Asio's time, seen in instructions: no neighbour changes it.
    asio = {f"asio.{k}": v["instructions"] for k, v in (counts or {}).get("asio", {}).items()}
    share = evaluate(row["target"], asio) if counted and names_in(row["target"]) else None
    if share is not None:
        bounds["target in instructions"] = bound(row["target"], share, counted["instructions"])
    gates = [(kind, b["met"]) for kind, b in bounds.items() if kind != "target in instructions"]  # that one informs
    unknown = any(met is None for kind, met in gates if kind in ("target", "limit"))
    met = None if ours is None or unknown else all(met is not False for _, met in gates)
    return {
        "name": row["name"],
        "title": row["title"],
        "ours": ours,
        "peer": {"who": best, "ns": peers[best]} if best else None,
        "instructions": counted.get("instructions"),
        "allocations": counted.get("allocations"),
        "bounds": bounds,
        "met": met,
    }


def time(ns):
    if ns is None:
        return "–"
    if ns >= 9_999.5:
        return f"{ns / 1000:.3g} µs" if ns < 999_500 else f"{ns / 1e6:.3g} ms"
    return f"{ns:.1f}" if ns < 99.95 else f"{ns:.0f}"


def worst(verdict):
    """How far from its bounds on time a row is: 1 and less is met."""
    ratios = [b["ratio"] for kind, b in verdict["bounds"].items() if kind in ("target", "limit") and b["ratio"] is not None]
    return max(ratios, default=None)


def of(bound_of_row):
    """`value (ratio)` of a bound."""
    if not bound_of_row or bound_of_row["value"] is None:
        return "–"
    ratio = bound_of_row["ratio"]
    return time(bound_of_row["value"]) + (f" ({ratio:.2f})" if ratio is not None else "")


def word(met):
    return {True: "met", False: "NOT met", None: "–"}[met]


def text_table(verdicts):
    """For the terminal: one configuration."""
    columns = ["operation", "ours, ns", "best peer", "target (ours of it)", "limit (ours of it)", ""]
    counted = any(v["instructions"] for v in verdicts)
    if counted:
        columns.insert(5, "instructions (of target)")
    lines = [columns]
    for v in verdicts:
        peer = f"{v['peer']['who']} {time(v['peer']['ns'])}" if v["peer"] else "–"
        line = [v["title"].replace("`", ""), time(v["ours"]), peer, of(v["bounds"].get("target")), of(v["bounds"].get("limit"))]
        if counted:
            b = v["bounds"].get("instructions") or v["bounds"].get("target in instructions")
            count = f"{v['instructions']:.0f}" if v["instructions"] else "–"
            line.append(f"{count} ({b['ratio']:.2f})" if v["instructions"] and b and b["ratio"] else count)
        lines.append([*line, word(v["met"])])
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:]))]).rstrip() for line in lines
    )


def markdown_table(configurations):
    """For the README: a column a configuration; peers and bounds are those of the first."""
    (_, first), *_ = configurations
    header = ["operation", "best peer", "target", "limit", *(name for name, _ in configurations), "instructions"]
    lines = [header, ["---"] * len(header)]
    for i, v in enumerate(first):
        peer = f"{v['peer']['who']} {time(v['peer']['ns'])}" if v["peer"] else "–"
        line = [v["title"], peer]
        for kind in ("target", "limit"):
            b = v["bounds"].get(kind)
            line.append(time(b["value"]) if b else "")
        counts = []
        for _, verdicts in configurations:
            w, ratio = verdicts[i], worst(verdicts[i])
            line.append(time(w["ours"]) + ("" if ratio is None else f" ({ratio:.2f})"))
            if w["instructions"] and f"{w['instructions']:.0f}" not in counts:
                counts.append(f"{w['instructions']:.0f}")
        lines.append([*line, " / ".join(counts) or "–"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
