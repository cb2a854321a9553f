"""What editors and type checkers see of the package."""

import ast
import subprocess
import sys
from pathlib import Path

import ihtjax

ROOT = Path(__file__).parent.parent
PACKAGE = Path(ihtjax.__file__).parent


def check_types(folder, *arguments):
    """mypy with the repository's settings: its exit code and what it prints."""
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", *arguments]
    done = subprocess.run([*command, "--cache-dir", folder / "cache"], capture_output=True, text=True, cwd=ROOT)
    return done.returncode, done.stdout + done.stderr


def test_the_type_checker_has_nothing_to_say_and_sees_public_names(tmp_path):
    code, said = check_types(tmp_path)
    assert code == 0, said
    user = tmp_path / "user.py"
    user.write_text(
        "import ihtjax\n"
        "from ihtjax import SweepConfig, certify, solve\n"
        "ihtjax.nothing\n"
        "SweepConfig(trials='many')\n"
        "solve(abs, 0, 1).theta_zero\n"
        "ihtjax.certify(1)\n"
    )
    code, said = check_types(tmp_path, user)  # from the cache, in a second
    for wrong in (
        'user.py:3: error: Module has no attribute "nothing"',
        'user.py:4: error: Argument "trials" to "SweepConfig" has incompatible type "str"; expected "int"',
        'user.py:5: error: "Solution" has no attribute "theta_zero"',
        'user.py:6: error: Missing positional arguments "gradient", "step_size", "s" in call to "certify"',
    ):
        assert wrong in said, said


def test_what_checkers_import_is_what_is_imported_when_used():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (typed,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {alias.name: node.module for node in typed.body for alias in node.names if alias.name == alias.asname}
    assert seen == {name: f"ihtjax.{home}" for name, home in ihtjax._HOMES.items()}


def test_the_marker_for_type_checkers_is_packaged():
    settings = (ROOT / "pyproject.toml").read_text()
    assert (PACKAGE / "py.typed").exists() and '"py.typed"' in settings
