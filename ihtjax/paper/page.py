"""The report: one self-contained HTML page with the verdicts, the figures and what made them."""

import base64
import dataclasses
import io
import json
import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ihtjax.errors import PATHS, InputError, check
from ihtjax.paper.beside import Beside, beside
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.judgement import SLIPS, answers, judge, tally
from ihtjax.paper.stated import DIFFERS, against_paper
from ihtjax.paper.verdicts import FAILS, FEW, HOLDS, LEAST, LIMITED, UNDECIDED, VERDICTS, Claim, as_json, spans
from ihtjax.sweeps import progress
from ihtjax.sweeps.store.files import write_atomically
from ihtjax.sweeps.store.reading import load
from ihtjax.sweeps.store.records import Certify
from ihtjax.sweeps.store.run import RunDirectory
from ihtjax.sweeps.words import data_name

# A symbol and a name for the style sheet; the verdict's own words stand beside them.
MARKS = {HOLDS: ("✓", "holds"), LIMITED: ("◐", "limited"), FAILS: ("✗", "fails"), UNDECIDED: ("?", "undecided")}
# A figure is drawn in vectors, but for those that make larger files than this.
MAX_SVG_BYTES = 250_000


class Picture(NamedTuple):
    """A figure as the page shows it; ``source`` is a data URI, or empty, with ``why``."""

    name: str
    title: str
    caption: str
    source: str
    why: str = ""


def report(
    run_dir: str | os.PathLike, show: progress.Silent | None = None, others: Iterable[str | os.PathLike] = ()
) -> Path:
    """Write RUN_DIR/report.html: tally, answers to Q1 to Q4, claims, slips, figures, configuration.

    The page needs no network: style and figures are in it. All that is inserted is escaped.

    Args:
      run_dir: a run; what it lacks is named in the page.
      show: a progress display; none by default.
      others: more runs, whose verdicts are shown beside where they differ.

    Returns:
      The path of the page.

    Raises:
      InputError: there is no such run, nothing of it is finished, or a file is damaged; another run is of other data,
        or the run itself.
    """
    show = show or progress.Silent()
    check("others", others, PATHS)
    run, found, compared = judged(run_dir, others, show)
    page = render(run, found, pictures(run.path, show), compared)
    path = run.path / "report.html"
    write_atomically(path, page.encode())
    return path


def judged(
    run_dir: str | os.PathLike, others: Iterable[str | os.PathLike], show: progress.Silent
) -> tuple[Evidence, list[Claim], list[Beside]]:
    """A run's evidence, its claims, and those of other runs beside them."""
    every = []
    # A wrong path is told before the work.
    first, *rest = [RunDirectory(path).require() for path in (run_dir, *others)]
    for other in rest:
        if other.path.resolve() == first.path.resolve():
            raise InputError(f"others: {other.path} is the run itself, expected another run of the same data")
        if other.record()["data_sha256"] != first.record()["data_sha256"]:
            raise InputError(f"others: {other.path} is a run of other data, expected one of the data of {first.path}")
    for path in (run_dir, *others):
        show.say(f"reading {path}")
        every.append(Evidence(path))
    run, *them = every
    found = judge(run, show=show)
    return run, found, [beside(run, found, other, show) for other in them]


def pictures(run_dir: Path, show: progress.Silent) -> list[Picture]:
    """Every figure of the run, inlined."""
    from ihtjax.paper.drawings import DRAWINGS, Undrawable, drawn

    show.say(f"drawing {len(DRAWINGS)} figures; some train a network on the spot")
    found = []
    for one in drawn(run_dir):
        if isinstance(one, Undrawable):
            found.append(Picture(one.name, one.name, "", "", one.why))
        else:
            found.append(Picture(one.name, one.title, one.caption, inline(one.figure)))
        show.say(f"{one.name}: {one.why if isinstance(one, Undrawable) else 'drawn'}")
    return found


def inline(figure) -> str:
    """A figure as a data URI: SVG, or PNG where that is smaller."""
    data = _saved(figure, "svg")
    kind = "svg+xml"
    if len(data) > MAX_SVG_BYTES:
        data, kind = _saved(figure, "png"), "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _saved(figure, format):
    file = io.BytesIO()
    metadata = {"Date": None} if format == "svg" else None
    figure.savefig(file, format=format, dpi=150, metadata=metadata, facecolor="white")
    return file.getvalue()


def render(run: Evidence, found: list[Claim], images: list[Picture], compared: Iterable[Beside] = ()) -> str:
    """The page as text."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ihtjax"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["unbroken"] = unbroken
    environment.filters["mark"] = MARKS.__getitem__
    options = against_paper(run.config)
    counts = run.trials.groupby("method", observed=True).size()
    return environment.get_template("report.html").render(
        name=run.path.resolve().name,
        data=data_name(run.config),
        run_dir=run.path.as_posix(),
        trials=int(run.trials.trial.nunique()),
        networks=int(counts.sum()),
        diverged=int((run.trials.status == "diverged").sum()),
        levels=run.levels,
        unfinished=run.units_missing,
        few=run.trials.trial.nunique() < FEW,
        few_triples=FEW,
        least_triples=LEAST,
        answers=answers(found),
        claims=found,
        tally=tally(found),
        slips=SLIPS,
        pictures=images,
        counts=[(verdict, sum(claim.verdict == verdict for claim in found)) for verdict in VERDICTS],
        marks=[name for _, name in MARKS.values()],
        compared=list(compared),
        spans=spans(s for s in run.levels if s < run.n) or "none",
        dense=run.has_dense,
        certified=int(run.certificates.trial.nunique()) if run.has_certificates else 0,
        differing=", ".join(f"{o.name} {o.value}" for o in options if o.against == DIFFERS),
        subject=run.subject,
        test_metrics=[f"test_{name}" for name in run.subject.metrics],
        config=options,
        made_with=environments(run.path),
        fingerprint=run.stored["data_sha256"],
        config_hash=run.stored["config_hash"],
        parameters=run.names,
        trial_again=trial_again(run),
    )


def trial_again(run: Evidence) -> str:
    """The command that reproduces one of the run's trials, quoted for a shell."""
    seeds = ["data_seed", "init_seed", "support_seed"]
    rows = load(run.path, columns=["s", *seeds], trial=int(run.trials.trial.iloc[0]))
    row = rows.iloc[len(rows) // 2]  # of a level in the middle
    words = [word for name in ("s", *seeds) for word in (_flag(name), str(row[name]))]
    for field in dataclasses.fields(run.config):
        value = getattr(run.config, field.name)
        # Its row is of iht, the default, whatever other solvers the run has.
        if value != field.default and field.name != "solver" and not field.metadata.get("sweep_only"):
            if field.name == "hidden":
                value = ",".join(map(str, value))
            every = value if isinstance(value, tuple) else (value,)  # several targets
            words += [word for one in every for word in ([_flag(field.name)] + [str(one)] * (one is not True))]
    # Its default is the device's, and not every device's is the same.
    return shlex.join(["ihtjax", "trial", *words, "--batch", str(run.stored["batch"])])


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def environments(path: Path) -> list[tuple[str, str]]:
    """What a run's units were made with: each name with its values."""
    values: dict[str, list[str]] = {}
    for unit, entry in RunDirectory(path).units().items():
        for name, value in entry["environment"].items():
            if isinstance(value, str | int | float):
                label = f"{name} (certificates)" if isinstance(unit, Certify) else name
                seen = values.setdefault(label, [])
                if str(value) not in seen:
                    seen.append(str(value))
    return [(name, ", ".join(seen)) for name, seen in sorted(values.items())]


def unbroken(text: str):
    """The text, escaped, with what no line should break: ``s = 5``, ``1e-5``, ``99 %`` and options."""
    import markupsafe

    whole = r"\bs = \d+|\d(?:\.\d+)?e-\d+|\d %|(?<!\S)--[a-z][\w-]*"
    return markupsafe.Markup(re.sub(whole, r'<span class="whole">\g<0></span>', str(markupsafe.escape(text))))


def number(value: float | None) -> str:
    """Four digits, whole numbers as such, large ones as powers."""
    if value is None:
        return "–"
    if float(value).is_integer() and abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:,.4g}".replace("-", "−")


def verdicts_json(found: list[Claim], compared: Iterable[Beside] = ()) -> str:
    """The verdicts as ``report --json`` prints them: ``{"claims": [..]}``, not finite is null.

    With other runs ``"with"`` maps the path of each to its claims.
    """
    verdicts: dict[str, Any] = {"claims": [as_json(claim) for claim in found]}
    if compared:
        verdicts["with"] = {other.path: [as_json(claim) for claim in other.claims] for other in compared}
    return json.dumps(verdicts, indent=1, ensure_ascii=False, allow_nan=False)
