"""The rules for the source: which module may import which, what may block, how long a file may be.

Each rule returns the set of its violations. `OPEN` lists the known ones. The list can only shrink: an entry that
is no longer a violation fails a test too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import rxupload

PACKAGE = Path(rxupload.__file__).parent
PUBLIC_ROOMS = {"uploadtask", "resumable", "fleet", "receiver", "testing", "operators"}
FOR_OPERATORS = {
    "_addresses",
    "_arguments",
    "_derived",
    "_digests",
    "_errors",
    "_events",
    "_kernel",
    "_notebook",
    "_rates",
    "_responses",
    "_schedulers",
    "operators",
}

# Names of other libraries that begin with an underscore and could also be ours: attributes, and methods that a
# subclass overrides.
FOREIGN_ATTRIBUTES = {"_loop", "_thread", "_is_disposed", "_content", "_pool", "_transport"}
FOREIGN_METHODS = {"_subscribe_core", "_init_transport", "_init_proxy_transport"}

# These end by their own deadlines.
DEADLINES = {
    "_batch/batch.py: running.is_on_its_way.wait(time.monotonic() + _HEAD_START)",  # of the next upload
    "_task/callback_queue.py: is_over.wait(time.monotonic() + _LOOK_SECONDS)",  # a loop that closes sends no event
    "_threads.py: wait_for(self._changed, is_needed, time.monotonic() + seconds)",  # of an idle thread
    "testing/connection.py: SystemClock.wait(time.monotonic() + PATIENCE, [(self.sock, 0)])",  # of a test
}

# A lookup blocks on a thread of its own; ending a connection replaces its descriptor with a blank socket.
OF_THE_SYSTEM = {"_wire/names.py: threading.Thread()", "_wire/connection.py: socket.socket()"}

# Known violations, and why they are necessary.
OPEN: dict[str, set[str]] = {}


@dataclass(frozen=True)
class Module:
    """A file of the package.

    Attributes:
        path: Relative to the package, with slashes.
        name: The name by which it is imported.
        room: The file or folder of the package that contains it; "" for `rxupload/__init__.py`.
    """

    path: str
    name: str
    room: str
    text: str
    tree: ast.Module


@dataclass(frozen=True)
class Import:
    """One name that a module imports.

    Attributes:
        module: The module after `from` or `import`.
        name: The name that is imported from it; "" for the module as a whole.
    """

    module: str
    name: str

    @property
    def target(self) -> str:
        """The imported module, which may be the name itself."""
        inner = f"{self.module}.{self.name}"
        return inner if self.name and inner in modules() else self.module

    @property
    def is_ours(self) -> bool:
        return self.module.split(".")[0] == "rxupload"

    @property
    def room(self) -> str:
        return [*self.target.split("."), ""][1]


@cache
def modules() -> dict[str, Module]:
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        relative = file.relative_to(PACKAGE)
        parts = relative.with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        name = ".".join(("rxupload", *parts))
        text = file.read_text(encoding="utf-8")
        found[name] = Module(relative.as_posix(), name, [*parts, ""][0], text, ast.parse(text))
    return found


@cache
def imports(name: str) -> tuple[Import, ...]:
    """All imports of a module: at the top, in functions, and for type checkers."""
    module = modules()[name]
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = name.split(".")
                up = node.level - (module.path.endswith("__init__.py"))
                base = ".".join([*parents[: len(parents) - up], *([base] if base else [])])
            found += [Import(base, alias.name) for alias in node.names]
    return tuple(found)


@pytest.fixture(scope="module", autouse=True)
def no_tree_stays():
    """Drop the syntax trees at the end: each garbage collection would walk over them."""
    yield
    modules.cache_clear()
    imports.cache_clear()


def in_rooms(*rooms: str) -> Iterator[Module]:
    return (module for module in modules().values() if module.room in rooms)


def rooms_imported_by(module: Module) -> set[str]:
    return {each.room for each in imports(module.name) if each.is_ours}


def libraries_imported_by(module: Module) -> set[str]:
    return {each.module.split(".")[0] for each in imports(module.name) if not each.is_ours}


def attributes(tree: ast.AST) -> Iterator[ast.Attribute]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Each call, with the last name of the called expression."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(name) | ast.Attribute(attr=name):
                    yield name, node


def wire_stands_alone() -> set[str]:
    """1. `_wire` imports nothing of ours but `_errors`, `_wait` and its own files, and never reactivex."""
    found = set()
    for module in in_rooms("_wire"):
        found |= {
            f"{module.path}: {room}" for room in rooms_imported_by(module) - {"_errors", "_wait", "_wire"}
        }
        found |= {f"{module.path}: {each}" for each in libraries_imported_by(module) & {"reactivex"}}
    return found


def sources_and_body_know_no_network() -> set[str]:
    """2. `_sources` and `_body` import neither `_transfer`, `_wire` nor httpx."""
    found = set()
    for module in in_rooms("_sources", "_body"):
        imported = rooms_imported_by(module) | libraries_imported_by(module)
        found |= {f"{module.path}: {each}" for each in imported & {"_transfer", "_wire", "httpx", "httpcore"}}
    return found


def only_transport_imports_wire() -> set[str]:
    """3. Only `_transport` imports `_wire`."""
    return {
        module.path
        for module in modules().values()
        if module.room not in ("_wire", "_transport") and "_wire" in rooms_imported_by(module)
    }


def operators_know_no_upload() -> set[str]:
    """4. `operators` imports only what is named here: never an upload, a worker or a batch."""
    return {
        f"{module.path}: {room or 'rxupload'}"
        for module in in_rooms("operators")
        for room in rooms_imported_by(module) - FOR_OPERATORS
    }


def private_modules_import_no_public_room() -> set[str]:
    """5a. Nothing private but `_cli` imports a public room, or `rxupload` itself."""
    return {
        f"{module.path}: {room or 'rxupload'}"
        for module in modules().values()
        if module.room.startswith("_") and module.room not in ("_cli", "__main__")
        for room in rooms_imported_by(module) & (PUBLIC_ROOMS | {""})
    }


def no_circle() -> set[str]:
    """5b. No module imports itself, even through others; and no room does."""
    by_module = {name: {each.target for each in imports(name) if each.is_ours} - {name} for name in modules()}
    by_room: dict[str, set[str]] = {}
    for module in modules().values():
        by_room.setdefault(module.room, set()).update(rooms_imported_by(module) - {module.room})
    return {
        name or "rxupload"
        for graph in (by_module, by_room)
        for name in graph
        if name in reachable(graph, graph[name])
    }


def reachable(graph: dict[str, set[str]], start: set[str]) -> set[str]:
    seen: set[str] = set()
    left = list(start)
    while left:
        name = left.pop()
        if name not in seen:
            seen.add(name)
            left += graph.get(name, ())
    return seen


def cli_takes_public_names() -> set[str]:
    """6. `_cli` takes public names only."""
    return {
        f"{module.path}: {each.target}.{each.name}".removesuffix(".")
        for module in in_rooms("_cli")
        for each in imports(module.name)
        if each.is_ours
        and each.room != "_cli"
        and not (each.room in PUBLIC_ROOMS | {""} and re.match(r"[A-Za-z]|__", each.name))
    }


def no_underscore_of_another_library() -> set[str]:
    """7. An underscore name of another library, or of Python, is used only in `_schedulers.py` and `_signals.py`."""
    ours = {
        node.name for module in modules().values() for node in ast.walk(module.tree) if is_definition(node)
    }
    for module in modules().values():
        ours |= {node.attr for node in attributes(module.tree) if is_assigned_on_self(node)}
        ours |= {
            node.id
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        ours |= {name.split(".")[-1] for name in modules()}
    found = set()
    for module in modules().values():
        if module.path in ("_schedulers.py", "_signals.py"):
            continue
        for node in ast.walk(module.tree):
            match node:
                case ast.Attribute(ast.Name("os"), "_exit"):  # documented, in spite of its name
                    pass
                case ast.Attribute(value, name) if is_private(name):
                    on_self = isinstance(value, ast.Name) and value.id in ("self", "cls")
                    if name not in ours or (name in FOREIGN_ATTRIBUTES and not on_self):
                        found.add(f"{module.path}: {name}")
                case ast.FunctionDef(name) if name in FOREIGN_METHODS:
                    found.add(f"{module.path}: {name}")
        found |= {
            f"{module.path}: {part}"
            for each in imports(module.name)
            if not each.is_ours and each.module != "__future__"
            for part in (*each.module.split("."), each.name)
            if is_private(part)
        }
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def is_definition(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def is_assigned_on_self(node: ast.Attribute) -> bool:
    return isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == "self"


def short_files() -> set[str]:
    """8a. No file has more than 400 lines."""
    return {module.path for module in modules().values() if len(module.text.splitlines()) > 400}


def files_say_what_they_are_for() -> set[str]:
    """8b. The docstring's first paragraph is a sentence."""
    return {
        module.path
        for module in modules().values()
        if not re.match(r"[A-Z`][^\n]{15,}[.:](\n|$)", ast.get_docstring(module.tree) or "")
    }


def one_place_blocks() -> set[str]:
    """9a. Only `_wait` waits for a socket or sleeps, and the servers of `testing`, which are the other side."""
    found = set()
    for module in modules().values():
        if module.room in ("_wait", "testing"):
            continue
        found |= {
            f"{module.path}: {each}" for each in libraries_imported_by(module) & {"select", "selectors"}
        }
        for name, call in calls(module.tree):
            if (name in ("settimeout", "setblocking") and not is_constant_zero(call)) or is_time_sleep(call):
                found.add(f"{module.path}: {name}()")
    return found


def is_constant_zero(call: ast.Call) -> bool:
    return any(
        isinstance(each, ast.Constant) and not each.value and each.value is not None for each in call.args
    )


def is_time_sleep(call: ast.Call) -> bool:
    return ast.unparse(call.func) in ("time.sleep", "sleep")


def nothing_polls() -> set[str]:
    """9b. No wait has a period: it ends by readiness, by a wake-up, or by a deadline."""
    found = set()
    for module in modules().values():
        if module.room == "_wait":
            continue
        for name, call in calls(module.tree):
            if name in ("wait", "wait_for", "take") and any(map(is_period, arguments_of(call))):
                found.add(f"{module.path}: {ast.unparse(call)}")
    return found - DEADLINES


def arguments_of(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(each.value for each in call.keywords if each.value is not None)]


EVENTS = ("READ", "WRITE")  # what a wait is for, not its length


def is_period(argument: ast.expr) -> bool:
    """Whether it contains a number above 0, or a named constant."""
    if isinstance(argument, ast.Lambda):
        return False
    return any(
        (isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value > 0)
        or (
            isinstance(node, ast.Name)
            and re.fullmatch(r"_?[A-Z][A-Z_]+", node.id)
            and node.id not in ("READ", "WRITE")
        )
        for node in ast.walk(argument)
    )


def the_protocol_needs_neither_thread_nor_clock() -> set[str]:
    """10. `_wire` starts no thread and reads only the clock that it is given; only `dial` makes sockets."""
    found = set()
    for module in in_rooms("_wire"):
        for name, call in calls(module.tree):
            what = ast.unparse(call.func)
            makes_socket = what in ("socket.socket", "socket.create_connection", "socket.socketpair")
            if (
                name == "Thread"
                or what.startswith("time.")
                or (makes_socket and module.path != "_wire/dial.py")
            ):
                found.add(f"{module.path}: {what}()")
    return found - OF_THE_SYSTEM


RULES: tuple[Callable[[], set[str]], ...] = (
    wire_stands_alone,
    sources_and_body_know_no_network,
    only_transport_imports_wire,
    operators_know_no_upload,
    private_modules_import_no_public_room,
    no_circle,
    cli_takes_public_names,
    no_underscore_of_another_library,
    short_files,
    files_say_what_they_are_for,
    one_place_blocks,
    nothing_polls,
    the_protocol_needs_neither_thread_nor_clock,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule):
    """The package keeps the rule, except for the entries of OPEN."""
    assert rule() - OPEN.get(rule.__name__, set()) == set(), rule.__doc__


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_open_entries_are_still_violations(rule):
    """An entry of OPEN that is no longer a violation must be removed."""
    assert OPEN.get(rule.__name__, set()) - rule() == set()


def test_open_names_rules():
    """OPEN has only entries for existing rules."""
    assert set(OPEN) <= {rule.__name__ for rule in RULES}
