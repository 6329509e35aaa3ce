"""Downloads of single files from a server that misbehaves."""

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from semfacediff import downloads
from semfacediff.downloads import DownloadError, RemoteFile, get

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def remote(site, tmp_path) -> RemoteFile:
    site.files["/w.pth"] = CONTENT
    return RemoteFile(f"{site.address}/w.pth", tmp_path / "cache" / "w.pth", SHA256, len(CONTENT))


def left(remote) -> list[str]:
    return sorted(path.name for path in remote.target.parent.iterdir() if not path.name.endswith(".lock"))


def test_it_says_what_how_large_from_where_and_to_where_before_it_starts(remote, site, capsys, monkeypatch):
    monkeypatch.setattr(RemoteFile, "fetch", lambda self: print("fetched"))
    get("w", [lambda: remote])
    said = capsys.readouterr()
    assert said.err == f"fetching w: w.pth, 0.0 MB, from {site.address}/w.pth to {remote.target.parent}\n"
    assert said.out == "fetched\n"
    assert site.asked == []


def test_a_file_arrives_whole_and_alone(remote, site):
    assert remote.fetch() == remote.target
    assert remote.target.read_bytes() == CONTENT
    assert [path.name for path in remote.target.parent.iterdir()] == ["w.pth"]
    remote.fetch()
    assert site.asked == [("GET", "/w.pth", None)]


def test_dropped_connections_are_resumed_where_they_ended(remote, site, faults):
    site.faults = [faults.drop(1000), faults.drop(0), faults.drop(500)]
    remote.fetch()
    assert remote.target.read_bytes() == CONTENT
    assert [r for _, _, r in site.asked] == [None, "bytes=1000-", "bytes=1000-", "bytes=1500-"]


def test_what_a_call_left_is_continued_by_the_next(remote, site, faults):
    site.faults = [faults.drop(4000), *[faults.status(503)] * 4]
    with pytest.raises(
        DownloadError, match=r"w\.pth: .* \(Service Unavailable\); 0\.0 MB are kept, the same command c"
    ):
        remote.fetch()
    assert left(remote) == ["w.pth.part"]
    assert "(0.0 MB of it are here)" in str(remote)
    del site.asked[:]
    remote.fetch()
    assert site.asked == [("GET", "/w.pth", "bytes=4000-")]
    assert remote.target.read_bytes() == CONTENT


def test_a_whole_part_needs_no_connection(remote, site):
    remote.target.parent.mkdir()
    remote.target.with_name("w.pth.part").write_bytes(CONTENT)
    remote.fetch()
    assert site.asked == []
    assert left(remote) == ["w.pth"]


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_part_that_is_longer_than_the_file_is_thrown_away(remote, site, size):
    remote.target.parent.mkdir()
    remote.target.with_name("w.pth.part").write_bytes(CONTENT + b"more")
    replace(remote, size=size).fetch()
    assert remote.target.read_bytes() == CONTENT
    assert [r for _, _, r in site.asked] == [f"bytes={len(CONTENT) + 4}-", None]


def test_a_server_that_never_comes_to_the_end_is_given_up(remote, site, faults):
    def promises_more(handler, content):
        handler.give(content + b"more", sent=len(content))

    site.faults = [promises_more, faults.status(416)] * 9
    with pytest.raises(DownloadError, match=r"does not answer"):
        replace(remote, size=None).fetch()
    assert len(site.asked) == 5


def test_a_server_that_knows_no_ranges_begins_again(remote, site, faults):
    site.faults = [faults.drop(1000), faults.no_ranges]
    remote.fetch()
    assert remote.target.read_bytes() == CONTENT


def test_slow_answers_are_waited_for_and_silence_is_not(remote, site, faults):
    site.faults = [faults.slow]
    assert remote.fetch().read_bytes() == CONTENT
    assert len(site.asked) == 1
    remote.target.unlink()
    site.faults = [faults.silent]
    assert remote.fetch().read_bytes() == CONTENT
    assert len(site.asked) == 3


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("half", r"w\.pth: \S+ gives application/octet-stream, 5120 bytes, expected the file of 10240 bytes; a proxy"),
        ("page", r"w\.pth: \S+ gives text/html, 26 bytes, expected the file of 10240 bytes; a proxy or a login page "),
        (
            "other",
            rf"w\.pth: \S+ gave a file with SHA-256 \w{{16}}\.\.\., expected {SHA256[:16]}\.\.\.; it was deleted",
        ),
    ],
)
def test_what_is_not_the_file_is_not_kept(remote, site, faults, fault, message):
    site.faults = [getattr(faults, fault)]
    with pytest.raises(DownloadError, match=message) as e:
        remote.fetch()
    assert "\n" not in str(e.value)
    assert left(remote) == []
    assert len(site.asked) == 1


def test_a_page_or_half_a_file_is_noticed_without_a_known_size(remote, site, faults):
    remote = replace(remote, size=None, sha256=SHA256[:8])
    site.faults = [faults.page, faults.half]
    for message in ("gives text/html", "gave a file with SHA-256"):
        with pytest.raises(DownloadError, match=message):
            remote.fetch()
        assert left(remote) == []
    remote.fetch()
    assert remote.target.read_bytes() == CONTENT


def test_a_part_of_another_file_is_found_out_and_the_next_try_succeeds(remote):
    remote.target.parent.mkdir()
    remote.target.with_name("w.pth.part").write_bytes(b"x" * 100)
    with pytest.raises(DownloadError, match="it was deleted, fetch again"):
        remote.fetch()
    assert remote.fetch().read_bytes() == CONTENT


def test_a_file_that_is_not_there_is_said_at_once_and_a_busy_server_is_asked_again(remote, site, faults):
    for code in (408, 425, 429, 500, 502, 503, 504):
        site.faults = [faults.status(code), faults.status(503)]
        remote.fetch().unlink()
        assert len(site.asked) == 3
        del site.asked[:]
    gone = replace(remote, url=f"{site.address}/gone.pth", target=remote.target.with_name("gone.pth"))
    with pytest.raises(DownloadError, match=r"^gone\.pth: \S+/gone\.pth answers 404 Not Found$"):
        gone.fetch()
    assert len(site.asked) == 1


def test_nobody_listens(remote, site, faults):
    silent = replace(remote, url="http://127.0.0.1:9/w.pth")
    with pytest.raises(DownloadError, match=r"^w\.pth: http://127\.0\.0\.1:9/w\.pth does not answer \(.*refused\)$"):
        silent.fetch()
    assert left(silent) == []


def test_the_next_source_is_asked_when_one_fails(remote, site, capsys):
    silent = replace(remote, url="http://127.0.0.1:9/w.pth")

    def unlisted():
        raise DownloadError("the hub does not list it")

    assert get("w", [unlisted, lambda: silent, lambda: remote]) == remote.target
    assert [line.split(", from ")[1].split("/w.pth")[0] for line in capsys.readouterr().err.splitlines()] == [
        "http://127.0.0.1:9",
        site.address,
    ]
    remote.target.unlink()
    with pytest.raises(DownloadError, match=r"^the hub does not list it; w\.pth: .* does not answer"):
        get("w", [unlisted, lambda: silent])


def test_processes_that_want_the_same_file_wait_for_one_another(remote, site, faults):
    site.faults = [faults.slow]
    with ThreadPoolExecutor(4) as pool:
        assert {f.read_bytes() for f in pool.map(lambda _: remote.fetch(), range(4))} == {CONTENT}
    assert len(site.asked) == 1


def test_a_full_disk_and_a_place_that_is_none_are_one_sentence(remote, site, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match=r"cache: 0\.0 MB are to come, 0\.0 MB are free; make room"):
        remote.fetch()
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match=r"file/w\.pth: cannot be written \(.*\); make place for it"):
        replace(remote, target=tmp_path / "file" / "w.pth").fetch()
    assert site.asked == []
