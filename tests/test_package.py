import inspect
import subprocess
import sys

import pytest

import ihtjax


@pytest.mark.parametrize("name", ihtjax.__all__)
def test_public_names_can_be_imported_and_are_documented(name):
    thing = getattr(ihtjax, name)
    assert not inspect.ismodule(thing) and inspect.getdoc(thing)


def test_all_is_sorted_and_listed():
    assert ihtjax.__all__ == sorted(ihtjax.__all__) and dir(ihtjax) == ihtjax.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ihtjax.nothing  # noqa: B018


def test_import_and_help_touch_no_heavy_module():
    code = "import sys, ihtjax, ihtjax.cli\ntry: ihtjax.cli.main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'jax', 'pandas', 'pyarrow', 'matplotlib', 'numpy'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_using_the_package_changes_no_configuration(tmp_path):
    code = """
import jax, sys
before = dict(jax.config.values)
import ihtjax
for name in ihtjax.__all__: getattr(ihtjax, name)
config = ihtjax.SweepConfig(levels=(3,), trials=2, steps=5, step_size=0.5, precision="float64")
ihtjax.sweep(config, sys.argv[1])
assert dict(jax.config.values) == before
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=True)
