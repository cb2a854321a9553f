"""A look at every byte of a run directory."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from ihtjax.errors import InputError
from ihtjax.sweeps.store.configuration import KEY, Configuration
from ihtjax.sweeps.store.index import FOLDER, LISTED_ANEW, MANIFEST, Index, Known
from ihtjax.sweeps.store.records import Damage, Damaged, Held, Unit, Units, Unreadable, main_of, owner_of, place, places
from ihtjax.sweeps.store.results import Results
from ihtjax.sweeps.store.schemas import configurations_in
from ihtjax.sweeps.store.sealed import has_seal
from ihtjax.text import printable


class Survey(NamedTuple):
    """What it found.

    Attributes:
      whole: the finished units, each with what is recorded of it.
      broken: units of this run with a file that is missing or damaged; computed again, they are whole.
      problems: all that is wrong.
      listing: what the index should say: what is whole, and what it lists and is broken.
      unlisted: what of that it doesn't say.
      damaged: files of the index that are damaged; what they said is unlisted.
      orphans: files of this run that belong to no unit, as a kill leaves them.
    """

    whole: Units
    broken: list[Unit]
    problems: list[Damage]
    listing: Units
    unlisted: Units
    damaged: list[str]
    orphans: list[str]


def nothing() -> Survey:
    """What is found in a new directory."""
    return Survey({}, [], [], {}, {}, [], [])


def finished(
    configuration: Configuration,
    results: Results,
    keys: list[str],
    known: Known,
    stored: dict[str, Any],
    all_readable: bool = True,
) -> Iterator[tuple[Unit, dict[str, Any]]]:
    """The units whose main files are there, and those that are known and have lost theirs; no two hold a trial.

    Args:
      configuration, results: the run's.
      keys: its files.
      known: what the index says; of others, their main files do.
      stored: the configuration's record.
      all_readable: refuse what can't be read, instead of leaving it out.

    Raises:
      InputError: a file can't be read; or a version that kept its record in the manifest alone wrote it, and that is
        lost.
    """
    mains = [unit for unit in map(main_of, keys) if unit]
    ordered = [unit for unit in mains if unit in known.units] + [unit for unit in mains if unit not in known.units]
    held = Held()
    for unit in dict.fromkeys([*ordered, *known.units]):
        try:
            entry = known.units.get(unit) or results.main_entry(unit, stored)
        except Unreadable as error:
            entry = None
            if all_readable:
                path = configuration.path
                raise InputError(f"{path / unit.path(unit.main_table)}: {error}; see: ihtjax verify {path}") from error
        if entry is None and _is_of_format_1(results, unit.path(unit.main_table), stored, known):
            key, way_out = unit.path(unit.main_table), configuration.way_out()
            if stored["format"] >= 3:
                path = configuration.path / key
                raise InputError(f"{path}: has no record of its own, and no index lists it; {way_out}")
            raise InputError(
                f"{configuration.path / MANIFEST}: missing or damaged, and {key} is of an earlier version, which kept "
                f"its record there alone; {way_out}"
            )
        if entry and held.add(unit):
            yield unit, entry


def survey(configuration: Configuration, results: Results, index: Index) -> Survey:
    """Hold every file against the index, and what that doesn't know against the file's own record.

    Raises:
      InputError: the results are those of another configuration than config.json's.
    """
    # Looked at before the index is read: a sweep that is running adds a unit after writing it.
    there = results.keys()
    stored = configuration.read()
    if stored is None:
        return nothing()
    known = index.read(stored)
    problems = configuration.damage() + known.problems
    whole, listing, broken = {}, {}, []
    superseded: dict[str, str] = {}  # files that another record names, with their SHA-256
    for unit, entry in finished(configuration, results, there, known, stored, all_readable=False):
        wrong = results.damage(unit, entry, stored)
        if wrong and (other := _second_record(results, unit, known, stored)):
            superseded |= {place(unit, table, entry): its["sha256"] for table, its in entry["files"].items()}
            entry, wrong = other, results.damage(unit, other, stored)
            if not wrong and results.own_entry(unit, stored) is None:  # then reading goes by the index alone
                problems.append(
                    Damage(FOLDER, f"contradicts {MANIFEST} on {unit}, and the files are as that says; {LISTED_ANEW}")
                )
        listing[unit] = entry
        problems += wrong
        if wrong:
            broken.append(unit)
        else:
            whole[unit] = entry
    accounted = {key for unit, entry in listing.items() for key in places(unit, entry)}
    left = [key for key in there if key not in accounted]
    if not whole:
        _refuse_results_of_another(configuration, results, there, stored)
    held, orphans = Held(listing), []
    for key in sorted(left, key=lambda key: main_of(key) is None):
        table, owner = owner_of(key)
        known_so = main_of(key) is None and results.has_hash(key, superseded.get(key))
        if owner is None or not results.may_replace(key, owner, table, stored, known=known_so):
            problems.append(Damage(key, "foreign, the run does not list it"))
        elif owner in broken and not results.is_readable(owner.path(owner.main_table)):
            problems.append(Damage(key, "of a unit whose main file can't be read now"))
        elif owner in listing or owner.path(owner.main_table) not in there:
            orphans.append(key)
            problems.append(
                Damage(key, "of no finished unit, left by a sweep that was killed, or by one that still runs")
            )
        elif held.add(owner):
            broken.append(owner)
            problems.append(Damage(key, "of a unit whose main file is damaged"))
        elif owner not in broken:
            problems.append(Damage(key, "foreign, another unit holds some of its trials"))
    unlisted = {unit: entry for unit, entry in listing.items() if known.kept.get(unit) != entry}
    return Survey(whole, broken, problems, listing, unlisted, known.damaged, orphans)


def _second_record(results: Results, unit: Unit, known: Known, stored: dict[str, Any]) -> dict[str, Any] | None:
    """What is recorded of a unit beside the index: in its main file, or in a manifest, as of all files of format 1."""
    listed = (known.manifest or {}).get(unit)
    if listed and results.damage(unit, listed, stored):
        listed = None
    return results.own_entry(unit, stored) or listed


def _is_of_format_1(results: Results, key: str, stored: dict[str, Any], known: Known) -> bool:
    """Whether a file was written by a version that kept its record in a manifest alone, and that is lost."""
    try:
        data = results.get(key)
    except Damaged:
        return False
    if known.manifest is not None or has_seal(data):
        return False
    return stored["format"] < 3 or stored["config_hash"] in configurations_in(data)


def _refuse_results_of_another(
    configuration: Configuration, results: Results, there: list[str], stored: dict[str, Any]
) -> None:
    """Raise `InputError` if whole files name another configuration and none names this one.

    Computing these units "again" would replace all that somebody has.
    """
    named: set[str] = set()
    for key in there:
        if owner_of(key)[1]:
            with contextlib.suppress(Damaged):
                named |= configurations_in(results.get(key))
    if named and stored["config_hash"] not in named:
        raise InputError(
            f"{configuration.path / KEY}: is of configuration {stored['config_hash']}, the results are of "
            f"{' and '.join(sorted(map(printable, named)))}; {configuration.way_out()}"
        )
