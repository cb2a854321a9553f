"""The house: imports run one way, from the command line down to the errors."""

import ast
from pathlib import Path

import pytest

import ihtjax

PACKAGE = Path(ihtjax.__file__).parent
# A room imports from itself and from what stands before it.
ROOMS = (
    "errors",
    "interrupts",
    "text",
    "foreign",
    "solvers",
    "problems",
    "exact",
    "sweeps",
    "study",
    "paper",
    "cli",
    "__main__",
)


def imports_of(path: Path) -> set[str]:
    """The rooms that a file imports from, also inside functions; the package itself as "ihtjax"."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "ihtjax":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ihtjax."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("ihtjax.")}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
        return  # the public names, imported when first used
    below = ROOMS[: ROOMS.index(room) + 1]
    assert imports_of(path) <= set(below), f"{room} imports from above"
