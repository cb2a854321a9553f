"""A run's `config.json`: what it is of. Each result file holds the same, so that it is made again if it is lost."""

from pathlib import Path
from typing import Any

from ihtjax.errors import InputError, whole_number
from ihtjax.sweeps.store.records import (
    FORMAT,
    Damage,
    Damaged,
    check_config,
    main_of,
    with_checksum,
    without_checksum,
)
from ihtjax.sweeps.store.results import Results

KEY = "config.json"
HELD_ELSEWHERE = "the result files hold it too, ihtjax sweep makes it again"


class Configuration:
    """The configuration's record.

    Args:
      results: the files that hold it too.
      path: of the run directory, for errors.
    """

    def __init__(self, results: Results, path: Path):
        self.results, self.path = results, path

    def read(self) -> dict[str, Any] | None:
        """What `write` wrote; None if the directory is new.

        A record that was lost or damaged is taken from the files that were written under it.

        Raises:
          InputError: they don't hold it either, or it is of a later format.
        """
        try:
            content = self.record(KEY)
            if content is not None:
                return check_config(content)
            damage = "missing, but there are result files"
        except Damaged as error:
            damage = f"unreadable ({error})"
        found = self._in_results()
        if found is None and ("missing" not in damage or self.results.keys()):
            raise InputError(f"{self.path / KEY}: {damage}; {self.way_out()}")
        return found

    def required(self) -> dict[str, Any]:
        """The same; `InputError` if there is nothing."""
        stored = self.read()
        if stored is None:
            raise InputError(f"{self.path}: not a run directory, it has no config.json; check the path")
        return stored

    def write(self, content: dict[str, Any]) -> None:
        """Write it, unless the same is there, which may be of an earlier format until something is added."""
        try:
            there = self.record(KEY)
            if there is not None and check_config(there) == check_config({**content, "format": there["format"]}):
                return
        except Damaged:
            pass
        self.results.storage.put(KEY, with_checksum(content))

    def in_this_format(self) -> dict[str, Any]:
        """What is there, after earlier versions were told to refuse what is about to be added."""
        stored = self.required()
        if stored["format"] < FORMAT:
            stored = stored | {"format": FORMAT}
            self.results.storage.put(KEY, with_checksum(stored))
        return stored

    def damage(self) -> list[Damage]:
        """What is wrong with it."""
        try:
            content = self.record(KEY)
            if content is None:
                raise Damaged("missing")
            check_config(content)
        except Damaged as error:
            return [Damage(KEY, f"{error}; {HELD_ELSEWHERE}")]
        return []

    def record(self, key: str) -> dict[str, Any] | None:
        """What a record's file holds; None if there is none.

        Raises:
          Damaged: it isn't what was written.
          InputError: it is of a later format, or can't be read.
        """
        try:
            return without_checksum(self.results.storage.get(key))
        except FileNotFoundError:
            return None
        except InputError as error:
            raise InputError(f"{self.path / key}: {error}") from error
        except OSError as error:
            raise InputError(f"{self.path / key}: cannot be read ({error.strerror}); check what it is") from error

    def way_out(self) -> str:
        return f"restore it, use another path, or move what is in {self.path} away"

    def _in_results(self) -> dict[str, Any] | None:
        """The record in the result files, with all levels and trials; None if they differ in more."""
        found = []
        for key in self.results.keys():
            record = self.results.record(key) if main_of(key) else None
            try:
                content = None if record is None else check_config(dict(record["run"]))
            except (ValueError, KeyError, TypeError):  # `Damaged` is a ValueError
                continue
            if content is not None and whole_number(1).holds(content.get("format")):
                found.append(content)
        if len({content["config_hash"] for content in found}) != 1:
            return None
        its_format = max(content["format"] for content in found)
        if its_format > FORMAT:
            raise InputError(
                f"{self.path}: format {its_format}, expected at most {FORMAT}; use the ihtjax that wrote it"
            )
        levels = sorted({s for content in found for s in content["config"]["levels"]})
        trials = max(content["config"]["trials"] for content in found)
        every = {
            method: (text, its_hash)
            for content in found
            for (method, its_hash), text in zip(content["solvers"].items(), content["config"]["solver"])
        }
        filled = {"levels": levels, "trials": trials, "solver": [text for text, _ in every.values()]}
        solvers = {method: its_hash for method, (_, its_hash) in every.items()}
        config = found[0]["config"] | filled
        return found[0] | {"format": its_format, "config": config, "solvers": solvers}
