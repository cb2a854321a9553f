import html.parser
import os
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from ihtjax import cli
from ihtjax.paper import page
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.judgement import SLIPS, Claim, claims
from ihtjax.paper.verdicts import HOLDS, VERDICTS

VOID = {"meta", "link", "img", "br"}
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="


class Page(html.parser.HTMLParser):
    """Elements with their attributes, the text of each, and whether tags are balanced."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag, **attrs):
        return [e for e in self.elements if e["tag"] == tag and all(e.get(k) == v for k, v in attrs.items())]


@pytest.fixture(scope="module")
def written(small_run, monkeypatch_module):
    """The page of a small run, drawn with two of its figures."""
    from ihtjax.paper import drawings

    every = drawings.drawn
    monkeypatch_module.setattr(drawings, "drawn", lambda run_dir: every(run_dir, ["fig09", "table1", "gap"]))
    done = CliRunner().invoke(cli.cli, ["report", str(small_run)], catch_exceptions=False)
    path = small_run / "report.html"
    assert done.exit_code == 0 and str(path) in done.stdout
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def found(small_run):
    return claims(small_run)


@pytest.fixture(scope="module")
def parsed(written):
    return Page(written.read_text())


def test_every_section_is_there_and_linked(parsed):
    ids = {section["id"] for section in parsed.all("section")}
    assert ids == {"answers", "claims", "slips", "figures", "configuration", "query"}
    assert {link["href"] for link in parsed.all("a") if link["href"][1:] in ids} == {f"#{id}" for id in ids}
    anchors = [e["id"] for e in parsed.elements if "id" in e]
    assert len(anchors) == len(set(anchors))
    assert {link["href"][1:] for link in parsed.all("a")} <= set(anchors)


def test_every_claim_shows_its_verdict_in_words(parsed, found):
    for claim in found:
        (row,) = parsed.all("tr", id=claim.id)
        assert claim.verdict in row["text"] and claim.why in row["text"] and claim.claim in row["text"]


def test_four_questions_are_answered_and_slips_named(parsed):
    (answers,) = parsed.all("section", id="answers")
    assert all(f"Q{i}." in answers["text"] for i in (1, 2, 3, 4))
    (slips,) = parsed.all("section", id="slips")
    assert all(slip.means in slips["text"] for slip in SLIPS) and "Alg. 1" in slips["text"]


def test_the_page_asks_for_nothing_from_outside(parsed, written):
    for element in parsed.elements:
        for attribute in ("src", "href", "action", "srcset"):
            assert element.get(attribute, "#").startswith(("#", "data:"))
    assert not parsed.all("script") and not parsed.all("iframe")
    assert "@import" not in written.read_text() and "url(" not in written.read_text()


def test_figures_are_inlined_with_words(parsed):
    images = parsed.all("img")
    assert len(images) == len(parsed.all("figure")) == len(parsed.all("figcaption")) == 2
    assert all(image["src"].startswith("data:image/") and len(image["alt"]) > 20 for image in images)
    (figures,) = parsed.all("section", id="figures")
    assert "gap" in figures["text"]  # no certificates: what can't be drawn is named


def test_tables_have_scopes_and_captions(parsed):
    assert all(th["scope"] in ("row", "col") for th in parsed.all("th"))
    assert len(parsed.all("table")) == len(parsed.all("caption")) == 4


def test_the_configuration_names_what_differs_from_the_papers(parsed):
    rows = [row["text"].strip() for row in parsed.all("tr")]
    assert "steps300differs" in rows and "initnormalthe same" in rows


def test_few_triples_are_said_at_the_top(parsed):
    assert any("Only 20 triples" in p["text"] for p in parsed.all("p"))


def test_what_is_inserted_is_escaped(small_run, found):
    nasty = '<script>alert("x")</script>'
    claim = Claim("id", nasty, nasty, nasty, 1.0, 1.0, 1.0, HOLDS, nasty)
    changed = [claim if c.id == "table-1" else c for c in found]
    pictures = [page.Picture("fig", nasty, nasty, PIXEL), page.Picture("none", nasty, "", "", nasty)]
    text = page.render(Evidence(small_run), changed, pictures)
    assert nasty not in text and not Page(text).all("script")


def test_each_verdict_has_a_mark_of_its_own():
    assert set(page.MARKS) == set(VERDICTS) and len({mark for mark, _ in page.MARKS.values()}) == len(VERDICTS)


def test_a_run_that_is_not_there_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "ihtjax", "report", str(tmp_path / "none")], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no such run" in done.stderr


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_shows_it_without_a_complaint(written, parsed, tmp_path):
    flags = "--headless --disable-gpu --no-first-run --disable-background-networking --disable-component-update".split()
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--no-sandbox")
    flags += ["--disable-sync", f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run([BROWSER, *flags, written.resolve().as_uri()], capture_output=True, text=True, timeout=60)
    if done.returncode:
        pytest.skip(f"Chromium does not start here: {done.stderr[-200:]}")
    shown = Page(done.stdout)
    assert len(shown.all("tr")) == len(parsed.all("tr")) and len(shown.all("img")) == len(parsed.all("img"))
    assert "CONSOLE" not in done.stderr
