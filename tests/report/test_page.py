"""The page as text: what is on it, what is escaped, what is said to be missing."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from semfacediff import config
from semfacediff.cli import main
from semfacediff.commands.report.page import ReportOptions, report
from semfacediff.errors import UserError
from semfacediff.report.finding import findings, missing_weights
from semfacediff.report.naming import named, title
from semfacediff.report.overview import overview
from semfacediff.report.reading import read_records

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


HARD, SOFT = "feather sigma (px) 0", "feather sigma (px) 7"
"""What the page calls the two."""


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
    sections = "finding runs scores editors ablations classes distributions strata leakage samples again"
    assert ids == set(sections.split())


def test_editors_stand_side_by_side_with_their_pareto_front(written, tmp_path):
    metrics = [{"metric": "ssim", "higher_is_better": True}, {"metric": "toward_prompt", "higher_is_better": True}]
    toward = {"keen": 0.9, "shy": 0.2, "poor": 0.1}
    runs = []
    for k, (name, mean) in enumerate(toward.items()):
        rows = written["edits"](30, attributes=("hair",))
        rows = rows.assign(toward_prompt=mean + 0.01 * rows["iou"], ssim_raw=rows["ssim_raw"] + (0, 0.2, 0.1)[k])
        runs.append(written["editing"](tmp_path / name, rows, {"editor": {"name": name}}, metrics=metrics))
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
    side = side[side.index("Editors side by side") :]
    assert re.findall(r"[\d.]+ \(best\)", side) == ["0.91 (best)"], "shy keeps more, but does less"
    assert "keen, parser (weights) cdcdcdcd: compare:" in page.text
    assert "the judge is fastscnn_lite abababab and x cdcdcdcd" in page.text


def test_published_rows_stand_below_ours_with_protocol_and_data_of_both(written, tmp_path):
    photos = {"data": {"name": "celebamask_hq", "split": "val"}}
    page = made([written["editing"](tmp_path / "run", written["edits"](30), photos)], tmp_path / "out")
    row = r"hair\s*protocol strict; 30 photos of celebamask_hq \(val\)\s*30.*?"
    theirs = r"hair\s*thesis, table 6\.1\s*protocol thesis; first 100 photos of CelebAMask-HQ.*?100\s*0\.9655 ± 0\.0161"
    assert re.search(
        row.replace(r"hair\s*", r"hair\s*recolor on 30 photos of celebamask_hq \(val\)\s*") + theirs, page.text, re.S
    )


def test_drawn_faces_never_stand_beside_published_numbers(written, tmp_path):
    """Neither do photos in a table that holds drawn faces; their plot of classes is their own."""
    drawn = {"config": {"protocol": "strict", "data": {"name": "toy"}}, "inputs": {"data": "e" * 64}}
    runs = [written["editing"](tmp_path / "a", written["edits"](4), {"data": {"name": "shards"}})]
    runs += [written["editing"](tmp_path / "b", written["edits"](4)), written["parsing"](tmp_path / "c")]
    page = made([*runs, written["parsing"](tmp_path / "d", identity=drawn)], tmp_path / "out")
    assert "thesis, table 6.1" not in page.text
    assert not re.search(r"published\s*71\.38", page.text)
    assert page.text.count("never stand beside those of photos") == 2
    plots = page.by_id["classes"]
    assert plots.count("Published: protocol ce7454; 1,000 validation photos") == 1
    assert plots.index("unknown data") < plots.index("Published: ") < plots.index("drawn faces")


def test_every_sample_is_on_the_page_once(page):
    samples = page.samples
    keys = [(r[0], samples["texts"][r[1]], samples["texts"][r[2]]) for r in samples["rows"]]
    assert len(keys) == len(set(keys)) == 2 * 60 + 3
    assert samples["runs"] == [HARD, SOFT, "unet_lite on 3 photos of unknown data"]


def test_scores_are_those_of_the_record(page, written):
    samples, rows = page.samples, written["edits"](30)
    place = [c["name"] for c in samples["columns"]].index("iou")
    found = [r[6][place] for r in samples["rows"] if r[0] == samples["runs"].index(SOFT)]
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
    assert f"Runs: {HARD}, {SOFT}." in section
    label = next(a["aria-label"] for tag, a in page.tags if tag == "svg" and "mask IoU" in a.get("aria-label", ""))
    assert re.search(r"hair, feather sigma \(px\) 0: 0\.8\d+ \[0\.\d+, 0\.\d+\]", label)


def test_leakage_and_confusion_are_tables_with_words(page):
    titles = [a["title"] for tag, a in page.tags if tag == "td" and "title" in a]
    assert "hair: 10 of 1000 pixels of skin changed class: neck 100 %" in titles
    assert "true background, predicted skin: 10.00 %" in titles
    assert "hat does not occur" in titles


def test_a_class_that_is_absent_is_said_to_be(page):
    assert re.search(r"hat\s*absent", page.by_id["classes"])


# --- what was found --------------------------------------------------------------------------------------------------


def said(*folders):
    """The sentence of the first task."""
    return findings(named(read_records(list(folders))[0]), config.repository())[0].said


def test_the_better_run_is_named_with_its_scores(page):
    sentence = f"Over 30 drawn faces, {HARD} is significantly better than the other run in mask IoU."
    assert sentence in page.by_id["finding"]
    assert re.search(rf"{re.escape(HARD)}[^()]*\(best\)", page.by_id["finding"].partition(sentence)[2])


def test_runs_that_do_not_differ_are_said_not_to(written, tmp_path):
    runs = [written["editing"](tmp_path / n, written["edits"](8), {"strips": k}) for k, n in enumerate("abc")]
    assert said(*runs[:2]) == "Over 8 drawn faces, the two runs do not differ significantly in any score tested."
    assert said(*runs).startswith("Over 8 drawn faces, none of the 3 runs is significantly better than all others")


@pytest.mark.parametrize(
    ("toward", "verdict", "outside", "rest"),
    [
        (0.8, "was done", 0.0, "left alone (largest change outside 0, SSIM before the composite 0."),
        (0.2, "was done in part", 3.0, "changed in 30 of 30 edits (by up to 3 of 255)"),
        (-0.1, "was not done", 0.0, "left alone"),
    ],
)
def test_one_run_says_whether_it_was_done_and_the_rest_kept(written, tmp_path, toward, verdict, outside, rest):
    rows = written["edits"](30, attributes=("hair",)).assign(max_abs_outside=outside)
    rows["status"] = ["unchanged"] * 3 + ["ok"] * 27
    rows["toward_prompt"] = toward + 0.01 * rows["iou"]
    metrics = [{"metric": "toward_prompt", "higher_is_better": True}, {"metric": "ssim", "higher_is_better": True}]
    sentence = said(written["editing"](tmp_path / "a", rows, metrics=metrics))
    assert sentence.startswith(f"recolor on 30 drawn faces: the edit {verdict} (colours moved ")
    assert "; 3 of 30 edits changed nothing)" in sentence
    assert f"the rest was {rest}" in sentence


def test_parsers_are_ranked_by_mean_iou(written, tmp_path):
    first, second = written["parsing"](tmp_path / "a"), written["parsing"](tmp_path / "b", parser={"name": "b"})
    assert said(first) == "unet_lite on 3 photos of unknown data: mean IoU 70.00 % (95 % interval 60.00 to 80.00)."
    assert "has the highest of 2 mean IoUs, mean IoU 70.00 %" in said(first, second)


def test_missing_weights_are_stated_once(written, tmp_path):
    empty = {"lpips": "weights.lpips_alexnet: no file", "fid": "weights.inception: no file", "kid": "1 photo"}
    runs = [written["editing"](tmp_path / "a", written["edits"](4), empty_columns=empty)]
    runs += [written["editing"](tmp_path / "b", written["edits"](4), {"strips": 1}, empty_columns=empty)]
    records = named(read_records([*runs, written["parsing"](tmp_path / "c")])[0])
    assert missing_weights(records) == (
        "Not measured in 2 of 3 runs because weights are missing: lpips, fid; semfacediff doctor lists the files, and "
        "semfacediff rescore RUN --add lpips,fid fills the columns."
    )
    assert missing_weights(records[2:]) == ""
    assert [overview(r).notes for r in records[:2]] == 2 * [["column kid is empty: 1 photo"]]


# --- names -----------------------------------------------------------------------------------------------------------


def names(*folders):
    records = named(read_records(list(folders))[0])
    return title(records), [r.id for r in records]


def test_runs_that_differ_in_one_number_are_ordered_by_it(written, tmp_path):
    runs = [written["editing"](tmp_path / str(k), written["edits"](3), {"strength": k}) for k in (10.0, 2.0, 0.5)]
    heading, each = names(*runs)
    assert heading == "recolor on 3 drawn faces: strength 0.5, 2, 10"
    assert each == ["strength 0.5", "strength 2", "strength 10"]


def test_editors_are_called_by_their_names(written, tmp_path):
    """Their other settings, which differ with them, are not listed."""
    runs = []
    for name, key in (("recolor", "strength"), ("lama", "steps")):
        editor = {"name": name, key: 1}
        runs.append(written["editing"](tmp_path / name, written["edits"](3), {"editor": editor}, editor=editor))
    assert names(*runs) == ("recolor, lama on 3 drawn faces", ["recolor", "lama"])


def test_runs_that_differ_in_much_keep_their_ids(written, tmp_path):
    runs = [written["editing"](tmp_path / k, written["edits"](3), {"prompts": {"hair": k * 99}}) for k in "ab"]
    assert names(*runs)[1] == ["a", "b"]


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
    assert re.search(r"hair\s*composite off not comparable", page.text)
    assert f"composite off: {doubt[0]}" in page.by_id["ablations"]
    assert f"Excluded: composite off: {doubt[0]}." in page.by_id["finding"]
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
    assert made([first, second], tmp_path / "out").samples["runs"] == [
        "recolor on 2 drawn faces",
        "recolor on 2 drawn faces (#2)",
    ]


def test_the_default_place_is_named_after_the_runs(written, tmp_path, monkeypatch):
    folder = written["editing"](tmp_path / "run", written["edits"](2), run_id="../../elsewhere")
    monkeypatch.chdir(tmp_path)
    assert str(report([folder], None, ReportOptions())) == "outputs/report/run/index.html"


def test_the_same_records_make_the_same_page(written, tmp_path):
    folder = written["editing"](tmp_path / "run", written["edits"](8))
    texts = [report([folder], tmp_path / "out", ReportOptions()).read_bytes() for _ in range(2)]
    assert texts[0] == texts[1]
