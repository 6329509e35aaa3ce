"""Superseded, dirty and unsealed records: what is said of them, and which of the committed ones are."""

import json

import pytest

from semfacediff.errors import UserError
from semfacediff.parsing.checkpoint import checkpoint_digest
from semfacediff.parsing.default import FOLDER
from semfacediff.records.integrity import refuse_changed
from semfacediff.records.migrations import add_file_digests
from semfacediff.records.standing import SHIPPED, dirty, not_fresh, sealed, standing_notes, superseded

KNOWN = {
    "current": {"small": "c" * 64},
    "earlier": {"e" * 64: "small", "d" * 64: "gone"},
    "exports": {"x" * 64: "e" * 64},
}


def of(digest, **facts):
    return {"run_id": "r", "task": "editing", "parser": {"name": "any", "digest": digest, **facts}, "files": {"a": "b"}}


class TestSuperseded:
    def test_the_list_names_what_ships(self):
        known = json.loads(SHIPPED.read_text())
        folders = sorted(FOLDER.parent.glob("*/parser.json"))
        assert {f.parent.name: checkpoint_digest(f.parent) for f in folders} == known["current"]
        assert not set(known["current"].values()) & known["earlier"].keys()

    @pytest.mark.parametrize("digest", ["c" * 64, "a" * 64, None])
    def test_shipped_today_and_a_users_own_stand(self, digest):
        assert superseded(of(digest), KNOWN) is None

    def test_ground_truth_and_trainings_stand(self):
        assert superseded({"parser": {"name": "ground_truth"}}, KNOWN) is None
        assert superseded({"parser": None}, KNOWN) is None
        assert superseded({}, KNOWN) is None

    def test_shipped_once(self):
        assert superseded(of("e" * 64), KNOWN) == "parser small eeeeeeee, shipped today: cccccccc"
        assert superseded(of("d" * 64), KNOWN) == "parser gone dddddddd, shipped today: none"

    def test_an_export_counts_by_what_it_was_made_from(self):
        assert superseded(of("x" * 64), KNOWN) == "parser small eeeeeeee, shipped today: cccccccc"
        assert superseded(of("f" * 64, exported_from="e" * 64), KNOWN) is not None
        assert superseded(of("f" * 64, exported_from="c" * 64), KNOWN) is None
        # The shipped file itself may be an export of what shipped before, or of what never did.
        assert superseded(of("c" * 64, exported_from="e" * 64), KNOWN) is None
        assert superseded(of("e" * 64, exported_from="b" * 64), KNOWN) is not None


EARLIER = next(iter(json.loads(SHIPPED.read_text())["earlier"]))


class TestNotes:
    def test_nothing_to_say(self):
        assert standing_notes([of(None)]) == []
        assert not_fresh([of(None)]) == []

    def test_the_runs_are_named_or_counted(self):
        runs = [of(EARLIER) | {"run_id": "a"}, of(None) | {"run_id": "b", "code": {"dirty": True}}]
        assert standing_notes(runs) == [
            "superseded: run a used parser face_lite 289769bd, shipped today: c0df1183; the command below gives other "
            "numbers today",
            "made from a tree with uncommitted changes: run b",
        ]
        assert standing_notes([of(EARLIER)] * 3)[0].startswith("superseded: all 3 runs used")

    def test_trainings_may_be_dirty_and_nothing_may_lack_digests(self):
        training = of(None) | {"task": "train_parser", "code": {"dirty": True}}
        assert dirty(training)
        assert not_fresh([training]) == []
        assert not_fresh([training | {"task": "parsing"}]) == ["run r is from a tree with uncommitted changes"]
        assert not_fresh([of(None) | {"files": {}}]) == ["run r has no digests of its files"]
        assert not_fresh([of(EARLIER)])[0].startswith("superseded run r (parser face_lite")


class TestSealing:
    @pytest.fixture
    def record(self, tmp_path):
        plain = {"schema_version": 1, "status": "done", "identity": {}, "run_id": "r"}
        (tmp_path / "run.json").write_text(json.dumps(plain))
        (tmp_path / "summary.csv").write_text("class,iou\nhat,0.5\n")
        return tmp_path

    def test_an_altered_byte_is_refused_afterwards(self, record):
        assert add_file_digests(record)
        run = json.loads((record / "run.json").read_text())
        refuse_changed(record, run)
        assert [m["name"] for m in run["migrations"]] == ["add_file_digests"]
        (record / "summary.csv").write_text("class,iou\nhat,0.9\n")
        with pytest.raises(UserError, match=r"changed after the run ended \(summary.csv has digest"):
            refuse_changed(record, run)

    def test_once_and_only_when_finished(self, record):
        assert add_file_digests(record)
        text = (record / "run.json").read_text()
        assert not add_file_digests(record)
        assert (record / "run.json").read_text() == text
        (record / "run.json").write_text(text.replace('"done"', '"incomplete"'))
        with pytest.raises(UserError, match="expected a finished run, got status incomplete"):
            add_file_digests(record)

    def test_every_committed_record_is_sealed(self, repository):
        runs = list((repository / "results" / "runs").glob("**/run.json"))
        assert len(runs) > 20
        assert [str(file) for file in runs if not sealed(json.loads(file.read_text()))] == []
