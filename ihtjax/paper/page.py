"""The report: one self-contained HTML page with the verdicts, the figures and what made them."""

import base64
import io
import json
import os
from pathlib import Path
from typing import NamedTuple

from ihtjax import progress
from ihtjax.config import SweepConfig
from ihtjax.files import write_atomically
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.judgement import SLIPS, answers, judge, tally
from ihtjax.paper.verdicts import FAILS, HOLDS, LIMITED, UNDECIDED, Claim, as_json
from ihtjax.store import RunDirectory

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


def report(run_dir: str | os.PathLike, show: progress.Silent | None = None) -> Path:
    """Write RUN_DIR/report.html: answers to Q1 to Q4, the claims table, the figures, configuration and environment.

    The page needs no network: style and figures are in it. All that is inserted is escaped.

    Args:
      run_dir: a run; what it lacks is named in the page.
      show: a progress display; none by default.

    Returns:
      The path of the page.

    Raises:
      InputError: there is no such run, nothing of it is finished, or a file is damaged.
    """
    show = show or progress.Silent()
    run = Evidence(run_dir)
    found = judge(run)
    page = render(run, found, pictures(run.path, show))
    path = run.path / "report.html"
    write_atomically(path, page.encode())
    return path


def pictures(run_dir: Path, show: progress.Silent) -> list[Picture]:
    """Every figure of the run, inlined."""
    from ihtjax.paper.drawings import Undrawable, drawn

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


def render(run: Evidence, found: list[Claim], images: list[Picture]) -> str:
    """The page as text."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ihtjax"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "mark": lambda verdict: MARKS[verdict]}
    counts = run.trials.groupby("method", observed=True).size()
    return environment.get_template("report.html").render(
        name=run.path.resolve().name,
        run_dir=run.path.as_posix(),
        trials=int(run.trials.trial.nunique()),
        networks=int(counts.sum()),
        diverged=int((run.trials.status == "diverged").sum()),
        levels=run.levels,
        unfinished=run.units_missing,
        few=run.trials.trial.nunique() < 100,
        answers=answers(found),
        claims=found,
        tally=tally(found),
        slips=SLIPS,
        pictures=images,
        config=configuration(run.config),
        made_with=environments(run.path),
        fingerprint=run.stored["data_sha256"],
        config_hash=run.stored["config_hash"],
        parameters=run.names,
    )


def configuration(config: SweepConfig) -> list[tuple[str, str, bool]]:
    """Option, value, and whether it differs from the paper's sweep, the default."""
    paper = SweepConfig().to_json() | {"levels": list(range(1, 15))}
    rows = []
    for name, value in config.to_json().items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)
        rows.append((name, text, value != paper[name]))
    return rows


def environments(path: Path) -> list[tuple[str, str]]:
    """What the manifest's units were made with: each name with its values."""
    values: dict[str, list[str]] = {}
    for unit, entry in RunDirectory(path).units().items():
        for name, value in entry["environment"].items():
            if isinstance(value, str | int | float):
                label = f"{name} (certificates)" if unit.method == "all" else name
                seen = values.setdefault(label, [])
                if str(value) not in seen:
                    seen.append(str(value))
    return [(name, ", ".join(seen)) for name, seen in sorted(values.items())]


def number(value: float | None) -> str:
    """Four digits, whole numbers as such, large ones as powers."""
    if value is None:
        return "–"
    if float(value).is_integer() and abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.4g}".replace("-", "−")


def verdicts_json(found: list[Claim]) -> str:
    """The verdicts as ``report --json`` prints them: ``{"claims": [..]}``, not finite is null."""
    return json.dumps({"claims": [as_json(claim) for claim in found]}, indent=1, ensure_ascii=False, allow_nan=False)
