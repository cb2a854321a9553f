import dataclasses
import html.parser
import json
import os
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from ihtjax import sweep
from ihtjax.cli import commands
from ihtjax.paper import page
from ihtjax.paper.beside import beside
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.judgement import SLIPS, Claim, claims
from ihtjax.paper.verdicts import HOLDS, VERDICTS

VOID = {"meta", "link", "img", "br", "input", "col"}
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
    done = CliRunner().invoke(commands.cli, ["report", str(small_run)], catch_exceptions=False)
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
def stopped(small, tmp_path_factory):
    """The small run again, but stopped at a loss that many trials reach."""
    return sweep(dataclasses.replace(small, stop_loss=0.5), tmp_path_factory.mktemp("report") / "stopped")


@pytest.fixture(scope="module")
def compared(small_run, found, stopped):
    return beside(Evidence(small_run), found, Evidence(stopped))


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


def test_a_claim_of_two_readings_shows_both_intervals_and_the_page_says_how_they_decide(small_run, found, parsed):
    two = (("mean", 0.039, 0.0081, 0.0831), ("median", 0.0167, 0.0, 0.0333))
    changed = [c._replace(readings=two) if c.id == "five-parameters-suffice" else c for c in found]
    (row,) = Page(page.render(Evidence(small_run), changed, [])).all("tr", id="five-parameters-suffice")
    assert "mean 0.039[0.0081, 0.0831]median 0.0167[0, 0.0333]" in "".join(row["text"].split("\n"))
    (section,) = parsed.all("section", id="claims")
    assert "if one holds and the other does not, or one is undecided, it cannot be decided" in " ".join(
        section["text"].split()
    )


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
    (section,) = parsed.all("section", id="configuration")
    rows = [row["text"].strip() for row in parsed.all("tr") if row["text"] in section["text"]]
    assert any(row.startswith("steps300differs10,000") for row in rows)
    assert any(row.startswith("precisionfloat32not stated: our choice") for row in rows)
    (init,) = [row for row in rows if row.startswith("initnormal")]
    assert "our choice" in init and "Fig. 9 reverses" in init and "--init torch_linear" in init


def test_the_page_leads_with_its_tally_and_says_which_run_it_is(written, parsed, found, small_run):
    (header,) = parsed.all("header")
    for verdict in VERDICTS:
        count = sum(claim.verdict == verdict for claim in found)
        assert any(
            e["tag"] == "li" and e["text"].startswith(f"{count}") and verdict in e["text"] for e in parsed.elements
        )
    (which,) = parsed.all("p", **{"class": "which"})
    text = " ".join(which["text"].split())
    assert f"Run {small_run.name} on iris" in text and "levels 3, 7 and the dense baseline" in text
    assert "no certificates" in text and "steps 300" in text
    page = written.read_text()
    assert page.index('class="tally"') < page.index('class="which"') < page.index('id="answers"')
    assert "hold" in header["text"]


def test_a_filter_has_a_choice_for_each_verdict(parsed, found):
    choices = parsed.all("input", type="radio", name="only")
    assert [e["id"] for e in choices] == ["only-all", *(f"only-{name}" for _, name in page.MARKS.values())]
    assert "checked" in choices[0]
    for claim in found:
        (row,) = parsed.all("tr", id=claim.id)
        assert row["class"] == page.MARKS[claim.verdict][1]


def test_cards_are_for_screens_only(written):
    rules = [line for line in written.read_text().splitlines() if line.startswith("@media")]
    assert len(rules) == 2 and all("screen" in rule or "print" in rule for rule in rules)


def test_another_run_is_shown_beside(small_run, found, compared, stopped):
    assert compared.differs == [("stop_loss", "None", "0.5")] and compared.changed
    shown = Page(page.render(Evidence(small_run), found, [], [compared]))
    (section,) = shown.all("section", id="beside")
    assert stopped.name in section["text"] and "stop_loss (0.5; here" in " ".join(section["text"].split())
    for ours, its in compared.changed:
        assert ours.claim in section["text"] and its.why in section["text"]
    assert {link["href"][1:] for link in shown.all("a")} <= {e.get("id") for e in shown.elements}


def test_only_what_differs_is_shown_beside(small_run, found):
    same = beside(Evidence(small_run), found, Evidence(small_run))
    assert not same.changed and not same.differs and not same.undecided


def test_json_holds_the_verdicts_of_both_runs(small_run, stopped):
    done = CliRunner().invoke(commands.cli, ["report", str(small_run), "--with", str(stopped), "--json"])
    both = json.loads(done.stdout)
    alone = json.loads(CliRunner().invoke(commands.cli, ["report", str(stopped), "--json"]).stdout)["claims"]
    assert list(both["with"]) == [stopped.as_posix()]
    assert all(claim in alone for claim in both["with"][stopped.as_posix()])


def test_what_is_done_is_told_from_the_start(small_run):
    done = CliRunner().invoke(commands.cli, ["report", str(small_run), "--json"])
    lines = done.stderr.splitlines()
    assert lines[0] == f"reading {small_run}" and lines[1].startswith("claim 1 of") and len(lines) > 40


def test_the_browsers_tab_says_the_data_and_the_run(parsed, small_run):
    (title,) = parsed.all("title")
    assert title["text"] == f"Iris, run {small_run.name}: sparse networks by IHT"


def test_few_triples_are_said_at_the_top(parsed):
    assert any("Only 20 triples" in p["text"] for p in parsed.all("p"))


def test_what_is_inserted_is_escaped(small_run, found):
    nasty = '<script>alert("x")</script>'
    claim = Claim("id", nasty, nasty, nasty, 1.0, 1.0, 1.0, HOLDS, nasty)
    changed = [claim if c.id == "table-1" else c for c in found]
    pictures = [page.Picture("fig", nasty, nasty, PIXEL), page.Picture("none", nasty, "", "", nasty)]
    text = page.render(Evidence(small_run), changed, pictures)
    assert nasty not in text and not Page(text).all("script")


def test_no_line_breaks_a_number_or_an_option_in_two():
    shown = page.unbroken("<b> at s = 5, 99 % within 1e-5 & 2.5e-03: --curve-points 0, not a--b")
    whole = [e["text"] for e in Page(shown).all("span", **{"class": "whole"})]
    assert whole == ["s = 5", "9 %", "1e-5", "2.5e-03", "--curve-points"]
    assert "&lt;b&gt;" in shown and "<b>" not in shown


def test_each_verdict_has_a_mark_of_its_own():
    assert set(page.MARKS) == set(VERDICTS) and len({mark for mark, _ in page.MARKS.values()}) == len(VERDICTS)


def test_a_run_that_is_not_there_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "ihtjax", "report", str(tmp_path / "none")], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no such run" in done.stderr


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def browse(path, folder, *flags):
    """Open a page in Chromium without a window; what it prints and complains of."""
    every = "--headless --disable-gpu --no-first-run --disable-background-networking --disable-component-update".split()
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        every.append("--no-sandbox")
    every += ["--disable-sync", f"--user-data-dir={folder}", "--enable-logging=stderr", *flags]
    done = subprocess.run([BROWSER, *every, path.resolve().as_uri()], capture_output=True, text=True, timeout=60)
    if done.returncode:
        pytest.skip(f"Chromium does not start here: {done.stderr[-200:]}")
    return done


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_shows_it_without_a_complaint(written, parsed, tmp_path):
    done = browse(written, tmp_path, "--dump-dom")
    shown = Page(done.stdout)
    assert len(shown.all("tr")) == len(parsed.all("tr")) and len(shown.all("img")) == len(parsed.all("img"))
    assert "CONSOLE" not in done.stderr


COUNT = """<script>
const rows = [...document.querySelectorAll("#claims tbody tr")];
const seen = () => rows.filter(row => getComputedStyle(row).display != "none");
document.title = JSON.stringify([...document.querySelectorAll("input[name=only]")].map(
  choice => { choice.click(); return [choice.id, seen().map(row => row.id)]; }));
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_filter_shows_the_claims_of_one_verdict(written, found, tmp_path):
    # The page itself runs no script; the test brings one, which the page's own policy would refuse.
    text = written.read_text().replace("default-src 'none'", "default-src 'unsafe-inline'")
    copy = tmp_path / "copy.html"
    copy.write_text(text.replace("</body>", COUNT + "</body>"))
    (title,) = Page(browse(copy, tmp_path / "user", "--dump-dom").stdout).all("title")
    expected = [["only-all", [claim.id for claim in found]]]
    for verdict, (_, name) in page.MARKS.items():
        expected.append([f"only-{name}", [claim.id for claim in found if claim.verdict == verdict]])
    assert json.loads(title["text"]) == expected


@pytest.mark.skipif(BROWSER is None or shutil.which("pdftotext") is None, reason="no Chromium or pdftotext here")
def test_it_prints_as_a_table_and_not_as_cards(written, tmp_path):
    # On a narrow sheet, rows would be cards by their width alone.
    def printed(page):
        copy = tmp_path / "copy.html"
        copy.write_text(page.replace("@page {", "@page { size: 120mm 200mm;"))
        browse(copy, tmp_path / "user", f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer")
        done = subprocess.run(["pdftotext", tmp_path / "page.pdf", "-"], capture_output=True, text=True, check=True)
        return " ".join(done.stdout.split())

    page = written.read_text()
    assert "Statistic and rule:" in printed(page.replace("@media screen and", "@media"))
    assert "Statistic and rule:" not in printed(page) and "Show the claims" not in printed(page)
