"""The page as text: what is on it, what is escaped, what is said to be missing."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from semfacediff.cli import main
from semfacediff.commands.report.page import ReportOptions, report
from semfacediff.errors import UserError

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Tags with their attributes, the text of every element with an id, and whether tags are closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.by_id, self.text, self.open, self.wrong = [], {}, "", [], []
        self.feed(text)
        self.wrong += [tag for tag, _ in self.open]

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self.open.append((tag, attributes.get("id")))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open[-1][0] != tag:
            self.wrong.append(tag)
        else:
            self.open.pop()

    def handle_data(self, data):
        if not any(tag in ("script", "style") for tag, _ in self.open):
            self.text += data
        for _, id_ in self.open:
            if id_:
                self.by_id[id_] = self.by_id.get(id_, "") + data

    @property
    def samples(self):
        return json.loads(self.by_id["data"])


def made(folders, out, **wish):
    return Page(report(list(folders), out, ReportOptions(**wish)).read_text())


@pytest.fixture(scope="module")
def page(written, tmp_path_factory):
    """Two editing runs that differ in a setting, and a parsing run."""
    root = tmp_path_factory.mktemp("runs")
    soft = written["editing"](root / "soft", written["edits"](30))
    hard = written["editing"](root / "hard", written["edits"](30, shift=0.1), {"region": {"feather_sigma_px": 0.0}})
    return made([soft, hard, written["parsing"](root / "parser")], root / "out")


def test_tags_are_closed_and_ids_are_unique(page):
    assert page.wrong == []
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_it_needs_nothing_from_outside(page):
    links = [(tag, a) for tag, a in page.tags if "src" in a or (tag in ("link", "a") and "href" in a)]
    assert all(a.get("href", "#").startswith(("#", "data:")) and "src" not in a for _, a in links)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy


def test_every_link_within_the_page_has_its_place(page):
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert {a["href"][1:] for tag, a in page.tags if tag == "a"} <= ids


def test_controls_have_names_and_pictures_have_words(page):
    for tag, a in page.tags:
        if tag == "svg" or a.get("role") == "img":
            assert a.get("aria-label") or a.get("aria-hidden") == "true"
        assert tag != "img" or a.get("alt")


def test_all_sections_are_there(page):
    ids = {a.get("id") for tag, a in page.tags if tag == "section"}
    sections = "runs scores editors ablations classes distributions strata leakage samples again"
    assert ids == set(sections.split())


def test_editors_stand_side_by_side_with_their_pareto_front(written, tmp_path):
    metrics = [{"metric": "ssim", "higher_is_better": True}, {"metric": "toward_prompt", "higher_is_better": True}]
    toward = {"keen": 0.9, "shy": 0.2, "poor": 0.1}
    runs = []
    for k, (name, mean) in enumerate(toward.items()):
        rows = written["edits"](30, attributes=("hair",))
        rows = rows.assign(toward_prompt=mean + 0.01 * rows["iou"], ssim_raw=rows["ssim_raw"] + (0, 0.2, 0.1)[k])
        runs.append(written["editing"](tmp_path / name, rows, {"strips": k}, metrics=metrics, editor={"name": name}))
    other = written["editing"](
        tmp_path / "other",
        rows,
        metrics=metrics,
        parser={"name": "x"},
        identity=json.loads((runs[0] / "run.json").read_text().replace("ab" * 32, "cd" * 32))["identity"],
    )
    page = made([*runs, other], tmp_path / "out")
    assert page.wrong == []
    charts = [a["aria-label"] for tag, a in page.tags if tag == "svg" and "Pareto front" in a.get("aria-label", "")]
    assert len(charts) == 1
    assert charts[0].startswith("hair: SSIM raw against toward prompt")
    assert charts[0].count("Pareto front, ") == 2, "poor is on no front"
    side = page.text.partition("Ranks with")[0]
    assert re.findall(r"[\d.]+ \(best\)", side) == ["0.91 (best)"], "shy keeps more, but does less"
    assert "other: compare:" in page.text
    assert "the judge is fastscnn_lite abababab and x cdcdcdcd" in page.text


def test_published_rows_stand_below_ours(page):
    rows = page.text[page.text.index("mask IoU ↑") :]
    assert re.search(r"hair\s*soft.*?hair\s*hard.*?hair\s*thesis, table 6\.1\s*100\s*0\.9655 ± 0\.0161", rows, re.S)


def test_every_sample_is_on_the_page_once(page):
    samples = page.samples
    keys = [(r[0], samples["texts"][r[1]], samples["texts"][r[2]]) for r in samples["rows"]]
    assert len(keys) == len(set(keys)) == 2 * 60 + 3
    assert samples["runs"] == ["soft", "hard", "parser"]


def test_scores_are_those_of_the_record(page, written):
    samples, rows = page.samples, written["edits"](30)
    place = [c["name"] for c in samples["columns"]].index("iou")
    found = [r[6][place] for r in samples["rows"] if r[0] == 0]
    assert np.allclose(found, rows["iou"], rtol=1e-5)


def test_infinite_and_missing_values_survive_json(page):
    samples = page.samples
    names = [c["name"] for c in samples["columns"]]
    assert "psnr_outside" not in names  # no identity declares it: it is no score of these runs
    of_parser = next(r for r in samples["rows"] if r[0] == 2)
    assert of_parser[6][names.index("iou")] is None
    assert of_parser[6][names.index("miou")] == 0.2


def test_the_setting_that_differs_has_curves(page):
    section = page.by_id["ablations"]
    assert "region.feather_sigma_px" in section
    assert "Runs: soft, hard." in section
    label = next(a["aria-label"] for tag, a in page.tags if tag == "svg" and "mask IoU" in a.get("aria-label", ""))
    assert re.search(r"hair, region.feather_sigma_px 0: 0\.8\d+ \[0\.\d+, 0\.\d+\]", label)


def test_leakage_and_confusion_are_tables_with_words(page):
    titles = [a["title"] for tag, a in page.tags if tag == "td" and "title" in a]
    assert "hair: 10 of 1000 pixels of skin changed class: neck 100 %" in titles
    assert "true background, predicted skin: 10.00 %" in titles
    assert "hat does not occur" in titles


def test_a_class_that_is_absent_is_said_to_be(page):
    assert re.search(r"hat\s*absent", page.by_id["classes"])


# --- hostile texts ---------------------------------------------------------------------------------------------------


def test_texts_from_records_stay_texts(written, tmp_path):
    evil, rows = written["evil"], written["edits"](3, prompt=written["evil"])
    rows["sample_id"] = evil + rows["sample_id"]
    rows["note"] = evil
    prompts = [{"attribute": "hair", "prompt": evil, "prompt_source": evil}]
    facts = {
        "command": evil,
        "not_comparable": [evil],
        "prompts": prompts,
        "empty_columns": {evil: evil},
        "run_id": evil,
    }
    folder = written["editing"](tmp_path / "run", rows, {evil: evil, "stratify": [evil]}, **facts)
    (folder / "config.yaml").write_text(evil)
    other = written["editing"](tmp_path / "other", rows, {evil: 3})
    file = report([folder, other], tmp_path / "out", ReportOptions())
    text, page = file.read_text(), Page(file.read_text())
    assert page.wrong == []
    assert sum(tag == "script" for tag, _ in page.tags) == 2
    assert not any("onerror" in a for _, a in page.tags)
    assert not any(tag == "img" for tag, _ in page.tags)
    assert page.samples["texts"][page.samples["rows"][0][1]].startswith(evil)
    assert "49" not in page.by_id["again"]  # nobody evaluates it as a template either
    assert text.count("alert(1)</script>") == 0


def test_a_folder_may_be_called_anything(written, tmp_path):
    folder = written["editing"](tmp_path / "a<b>&'\"", written["edits"](2))
    assert made([folder], tmp_path / "out").wrong == []


# --- half a record ---------------------------------------------------------------------------------------------------


def test_a_run_that_was_killed_is_shown_as_far_as_it_came(written, tmp_path):
    folder = written["editing"](tmp_path / "run", written["edits"](5), status="running", n_expected=20)
    rows = written["edits"](5).to_dict("records")
    lines = [json.dumps(row) for row in rows]
    (folder / "samples.jsonl").write_text("\n".join(lines[:6]) + '\n{"sample_id": "0003", "attr')
    for name in ("samples.parquet", "summary.csv", "leakage.csv", "config.yaml"):
        (folder / name).unlink()
    page = made([folder], tmp_path / "out")
    for said in (
        "Unfinished: the status is running",
        "samples.parquet is missing",
        "the rows are those of samples.jsonl so far: 6 of 20",
        "samples.jsonl: 1 incomplete lines are ignored",
        "the summary covers the samples so far",
        "config.yaml is missing",
        "This record contains no leakage",
    ):
        assert said in page.text
    assert len(page.samples["rows"]) == 6


@pytest.mark.parametrize("name", ["samples.parquet", "summary.csv", "leakage.csv"])
def test_a_damaged_file_is_named(written, tmp_path, name):
    folder = written["editing"](tmp_path / "run", written["edits"](3))
    (folder / name).write_bytes(b"\x00\xff")
    page = made([folder], tmp_path / "out")
    assert re.search(rf"{re.escape(name)} cannot be read", page.text)
    assert page.wrong == []


def test_a_run_with_nothing_but_its_head_is_a_page(written, tmp_path):
    folder = written["editing"](tmp_path / "run", written["edits"](3), status="running")
    for file in folder.iterdir():
        if file.name != "run.json":
            file.unlink()
    page = made([folder], tmp_path / "out")
    assert "summary.csv is missing" in page.text
    assert page.samples["rows"] == []


def test_a_run_that_may_not_be_compared_is_marked_and_in_no_curve(written, tmp_path):
    doubt = ["clip: weights random are not the public ones"]
    other = written["editing"](tmp_path / "b", written["edits"](4), {"composite": "off"}, not_comparable=doubt)
    page = made([written["editing"](tmp_path / "a", written["edits"](4)), other], tmp_path / "out")
    assert f"Not comparable: {doubt[0]}" in page.text
    assert re.search(r"hair\s*b not comparable", page.text)
    assert f"b: {doubt[0]}" in page.by_id["ablations"]
    assert page.samples["doubtful"] == [False, True]
    assert not any(tag == "figure" and a.get("class") == "chart" for tag, a in page.tags)


def test_a_record_changed_by_hand_is_marked(written, tmp_path):
    folder = written["editing"](tmp_path / "a", written["edits"](4), files={"summary.csv": "0" * 16})
    assert "changed after the run ended" in made([folder], tmp_path / "out").text


def test_one_unreadable_run_among_others_is_named(written, tmp_path):
    (tmp_path / "empty").mkdir()
    page = made([written["editing"](tmp_path / "a", written["edits"](2)), tmp_path / "empty"], tmp_path / "out")
    assert re.search(r"empty is not shown: .*not a run's record", page.text)


# --- mistakes --------------------------------------------------------------------------------------------------------


def test_no_run_at_all_is_a_sentence(tmp_path, capsys):
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith(
        f"error: {tmp_path / 'nowhere'}: expected the folder of a run, found none"
    )


def test_naming_a_run_twice_is_refused(written, tmp_path):
    folder = written["editing"](tmp_path / "a", written["edits"](2))
    with pytest.raises(UserError, match="named twice"):
        report([folder, folder], tmp_path / "out", ReportOptions())


def test_an_unknown_score_is_refused_with_the_known_ones(written, tmp_path):
    folder = written["editing"](tmp_path / "a", written["edits"](2))
    with pytest.raises(UserError, match="no score 'beauty' in these runs; there are ssim, iou, seam"):
        report([folder], tmp_path / "out", ReportOptions(rank="beauty"))


def test_two_runs_of_one_name_are_told_apart(written, tmp_path):
    first = written["editing"](tmp_path / "x" / "run", written["edits"](2))
    second = written["editing"](tmp_path / "y" / "run", written["edits"](2))
    assert made([first, second], tmp_path / "out").samples["runs"] == ["run", "run (2)"]


def test_the_default_place_is_named_after_the_runs(written, tmp_path, monkeypatch):
    folder = written["editing"](tmp_path / "run", written["edits"](2), run_id="../../elsewhere")
    monkeypatch.chdir(tmp_path)
    assert str(report([folder], None, ReportOptions())) == "outputs/report/run/index.html"


def test_the_same_records_make_the_same_page(written, tmp_path):
    folder = written["editing"](tmp_path / "run", written["edits"](8))
    texts = [report([folder], tmp_path / "out", ReportOptions()).read_bytes() for _ in range(2)]
    assert texts[0] == texts[1]
