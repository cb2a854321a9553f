"""The options of a sweep, made from the fields of `SweepConfig`."""

import dataclasses
import types
import typing
from collections.abc import Container, Mapping

import click

from ihtjax.sweeps.config import CERTIFIED, SweepConfig, parse_widths

# Of no matter where only the ends of many starts count.
ABOUT_THE_WAY = ("curve_points", "ht_tol", "audit")


class Widths(click.ParamType):
    name = "widths"

    def convert(self, value, param, ctx):
        return parse_widths(value) if isinstance(value, str) else value


class StepSize(click.ParamType):
    name = "step size"

    def convert(self, value, param, ctx):
        if value == CERTIFIED or isinstance(value, float):
            return value
        try:
            return float(value)
        except ValueError:
            self.fail(f"got {value!r}, expected a positive number or '{CERTIFIED}'", param, ctx)

    def get_metavar(self, param, ctx=None):
        return f"FLOAT|{CERTIFIED}"


SEVERAL_SOLVERS = "several, on the same triples, by giving it again"
# A second solver where one is expected is refused, not passed over.
REPEATED = ("target", "always", "solver")


def config_options(
    sweep: bool,
    needed: Mapping[str, tuple[str, str]] = types.MappingProxyType({}),
    without: Container[str] = (),
):
    """Give a command the options of `SweepConfig`; those about one trial only, unless ``sweep``.

    ``needed`` maps those that a command can't do without to how their values and help read there; ``without`` names
    those on which nothing hangs there.
    """

    def decorate(command):
        for field in reversed(dataclasses.fields(SweepConfig)):
            if field.name in without or (not sweep and field.metadata.get("sweep_only")):
                continue
            flag = "--" + field.name.replace("_", "-")
            if field.type is bool:
                flag = f"{flag}/--no-{field.name.replace('_', '-')}"
            metavar, help = needed.get(field.name, (field.metadata.get("metavar"), field.metadata["help"]))
            if field.name == "solver" and sweep:
                help += f"; {SEVERAL_SOLVERS}"
            command = click.option(
                flag,
                type=_click_type(field),
                multiple=field.name in REPEATED,
                default=field.default,
                show_default=field.default is not None,
                metavar=metavar,
                help=help,
            )(command)
        return command

    return decorate


def _click_type(field):
    if field.name == "levels":
        return click.STRING
    if field.name == "hidden":
        return Widths()
    if field.name == "step_size":
        return StepSize()
    if field.name in ("solver", "always"):
        return click.STRING
    kinds = typing.get_args(field.type) if isinstance(field.type, types.UnionType) else (field.type,)
    return {str: click.STRING, int: click.INT, float: click.FLOAT, bool: click.BOOL}[kinds[0]]
