"""Full disks: one sentence, nothing left behind, and no signal; the cache of prepared photos and the shared memory."""

import ctypes
import errno
import multiprocessing
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from semfacediff.data.batches import TrainingView, loader
from semfacediff.data.toy import ToyFaces
from semfacediff.errors import UserError
from semfacediff.synthesis.latents import prepared_faces

FORK = multiprocessing.get_context("fork")  # a process that starts anew imports torch for seconds
NEW_MOUNTS, PRIVATE = 0x20000, 1 << 18 | 1 << 14


def prepare(cache, n=3):
    return prepared_faces(ToyFaces(n, 32), f"toy {n}", 32, cache)


def on_small_disk(folder: Path, size: str, work: Callable[[], object]) -> str:
    """What ``work`` is refused with where ``folder`` is a disk of its own, seen by no other process.

    The test is skipped where none can be made.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    said, say = FORK.Pipe(duplex=False)

    def child():
        mounted = (
            libc.unshare(NEW_MOUNTS) == 0
            and libc.mount(b"none", b"/", None, PRIVATE, None) == 0
            and libc.mount(b"small", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode()) == 0
        )
        try:
            say.send(f"finished: {work()}" if mounted else "cannot mount")
        except UserError as e:
            say.send(str(e))
        except BaseException:
            say.send(traceback.format_exc())

    process = FORK.Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == 0  # -7: SIGBUS
    answer = said.recv()
    if answer == "cannot mount":
        pytest.skip("needs the right to mount a small disk")
    return answer


class TestTheCache:
    def test_space_is_taken_before_anything_is_written(self, tmp_path, monkeypatch):
        taken = []

        def full(descriptor, offset, length):
            taken.append((offset, length, os.fstat(descriptor).st_blocks))
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(UserError) as told:
            prepare(tmp_path)
        assert str(told.value) == (
            f"cannot keep prepared photos in {tmp_path} (No space left on device, 0.0 MB are needed); free space "
            f"there, or set XDG_CACHE_HOME=DIR"
        )
        assert len(taken) == 1
        assert taken[0][:2] == (0, 128 + 3 * 32 * 32 * 3)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="there is no such call")
    def test_every_byte_of_it(self, tmp_path, monkeypatch):
        reserved = {}
        whole = os.posix_fallocate

        def counted(descriptor, offset, length):
            whole(descriptor, offset, length)
            reserved[os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))] = os.fstat(descriptor)

        monkeypatch.setattr(os, "posix_fallocate", counted)
        prepare(tmp_path)
        (made,) = tmp_path.glob("faces_*")
        assert sorted(reserved) == ["labels.npy", "photos.npy"]
        for name, status in reserved.items():
            assert status.st_size == (made / name).stat().st_size
            assert status.st_blocks * 512 >= status.st_size

    def test_without_that_call_the_free_space_is_asked(self, tmp_path, monkeypatch):
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
        prepare(tmp_path / "room")
        monkeypatch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 3 * 32 * 32 * 3 - 1}))
        with pytest.raises(UserError, match="No space left on device"):
            prepare(tmp_path / "none")
        assert list((tmp_path / "none").iterdir()) == []

    @pytest.mark.parametrize("size", ["16k", "64k"])
    def test_a_small_disk(self, tmp_path, size):
        """Where the space is not taken first, this ends by SIGBUS."""
        said = on_small_disk(tmp_path, size, lambda: prepare(tmp_path / "cache", 40))
        assert "(No space left on device, 0.2 MB are needed); free space there" in said

    def test_what_a_killed_run_left_is_removed(self, tmp_path):
        prepare(tmp_path)
        for name in (".faces_0123456789abcdef.killed1", ".faces_0123456789abcdef.killed2"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "photos.npy").write_bytes(bytes(100))
        (tmp_path / ".pixel_counts_1.json.1.new").touch()  # of others
        (tmp_path / ".other").mkdir()
        prepare(tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == [
            ".other",
            ".pixel_counts_1.json.1.new",
        ]

    def test_what_a_living_run_fills_is_not(self, tmp_path, monkeypatch):
        """Another data set is prepared in the midst of this one."""
        inner, decode = [], ToyFaces.__getitem__

        def interrupted(faces, i):
            if len(faces) == 3 and i == 1 and not inner:
                inner.append(True)
                inner.append(prepare(tmp_path, n=2))
            return decode(faces, i)

        monkeypatch.setattr(ToyFaces, "__getitem__", interrupted)
        outer = prepare(tmp_path)
        assert len(list(tmp_path.glob("faces_*"))) == 2
        assert not list(tmp_path.glob(".faces_*"))
        assert np.array_equal(outer.photos[:2], inner[1].photos)


class TestSharedMemory:
    """Of workers that hand over batches."""

    @staticmethod
    def batches(workers, size=64):
        view = TrainingView(ToyFaces(12, size), size, "none", 0)
        return list(loader(view, 4, epoch=0, workers=workers))

    @pytest.mark.parametrize("size", ["8k", "128k"])  # too small for semaphores; for three batches
    def test_where_it_is_small(self, size):
        """A container has 64 MB unless asked for more."""
        said = on_small_disk(Path("/dev/shm"), size, lambda: self.batches(2))
        assert said == (
            "runtime.workers=2: the shared memory (0 MB) does not hold the 8 batches that they prepare; start the "
            "container with more (docker run --shm-size=2g), or set runtime.workers=0, then repeat the command"
        )

    def test_without_workers_it_is_not_needed(self):
        assert on_small_disk(Path("/dev/shm"), "32k", lambda: len(self.batches(0))) == "finished: 3"

    def test_a_worker_that_a_signal_ended(self, monkeypatch):
        text = "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are "
        broken = self._broken(monkeypatch, RuntimeError(text + "out of shared memory. Please try to raise your limit."))
        with pytest.raises(UserError, match=r"^runtime\.workers=2: the shared memory \(\d+ MB\) does not hold the 8"):
            list(broken)

    def test_other_errors_stay_what_they_are(self, monkeypatch):
        with pytest.raises(RuntimeError, match=r"^another$"):
            list(self._broken(monkeypatch, RuntimeError("another")))

    @staticmethod
    def _broken(monkeypatch, error):
        def fail(self):
            raise error

        monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", fail)
        return loader(TrainingView(ToyFaces(4, 64), 64, "none", 0), 4, epoch=0, workers=2)
