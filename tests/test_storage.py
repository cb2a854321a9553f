"""The contract of what keeps a run's bytes; a further storage is one more row of STORAGES."""

import errno
import os
import threading

import pytest

from ihtjax import InputError
from ihtjax.sweeps.store.storage import Folder

STORAGES = {"folder": Folder}


@pytest.fixture(params=STORAGES.values(), ids=STORAGES)
def storage(request, tmp_path):
    (tmp_path / "run").mkdir()
    return request.param(tmp_path / "run")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return Folder(tmp_path / "run")


# Any storage.


def test_what_is_created_stays(storage):
    assert storage.create("trials/a", b"first") is True
    assert storage.create("trials/a", b"second") is False
    assert storage.get("trials/a") == b"first"
    assert storage.create("b", b"") is True and storage.get("b") == b""


def test_what_is_put_replaces(storage):
    for data in (b"first", b"second"):
        storage.put("trials/a", data)
        assert storage.get("trials/a") == data
    assert storage.create("trials/a", b"third") is False


def test_what_is_not_there_is_told_apart(storage):
    for key in ("a", "trials/a"):
        with pytest.raises(FileNotFoundError):
            storage.get(key)
        storage.delete(key)


def test_keys_are_listed_by_prefix_in_order(storage):
    assert list(storage.list("trials/")) == []
    keys = ["_log/1", "curves/a", "trials/a", "trials/b-1", "trials/b-2", "trialsX"]
    for key in reversed(keys):
        storage.put(key, b"")
    assert list(storage.list("")) == keys
    assert list(storage.list("trials/")) == keys[2:5]
    assert list(storage.list("trials/b")) == keys[3:5]
    storage.put("trials/.hidden", b"")
    storage.delete("trials/a")
    assert list(storage.list("trials/")) == keys[3:5]


def test_what_is_set_aside_is_kept_and_not_listed(storage):
    storage.put("trials/a", b"mine")
    storage.set_aside("trials/a")
    assert list(storage.list("")) == [] and storage.create("trials/a", b"ours")
    (aside,) = storage.aside("trials/")
    assert storage.get(aside) == b"mine"


def test_one_of_many_that_create_the_same_wins(storage):
    won, ready = [], threading.Barrier(8)

    def create(data):
        ready.wait()
        if storage.create("trials/a", data):
            won.append(data)

    for _ in range(20):
        threads = [threading.Thread(target=create, args=(bytes([i]) * 100_000,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [storage.get("trials/a")]
        won.clear()
        storage.delete("trials/a")
    assert list(storage.list("")) == []


def test_a_reader_sees_the_old_or_the_new_whole(storage):
    whole = [bytes([i]) * 200_000 for i in range(2)]
    storage.put("a", whole[0])
    stop = threading.Event()

    def write():
        while not stop.is_set():
            for data in whole:
                storage.put("a", data)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(storage.get("a") in whole for _ in range(200))
    finally:
        stop.set()
        writer.join()


# A local folder.


@pytest.mark.parametrize("call", ["fsync", "open", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EINTR])
def test_a_write_that_fails_leaves_what_was_there(folder, monkeypatch, call, code):
    folder.put("a", b"old")
    real = getattr(os, call)

    def fail(*args, **kwargs):
        if call == "open" and not args[1] & os.O_CREAT:
            return real(*args, **kwargs)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError) as failed:
            folder.put("a", b"new")
        assert failed.value.filename == str(folder.path / "a")
        if call != "replace":
            with pytest.raises(OSError):
                folder.create("b", b"new")
    assert folder.get("a") == b"old" and os.listdir(folder.path) == ["a"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EINVAL, errno.EACCES, errno.EMLINK, errno.EXDEV, errno.ENOTSUP])
def test_without_hard_links_a_file_is_created_all_the_same(folder, monkeypatch, code):
    """File systems that have none say so in many ways."""

    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", fail)
    assert folder.create("b", b"new") and not folder.create("b", b"newer")
    assert folder.get("b") == b"new" and os.listdir(folder.path) == ["b"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_list_is_whole_or_an_error(folder, monkeypatch, code):
    """What is finished is what is listed; pathlib's own globs leave out what they can't open."""
    folder.create("trials/a", b"1")
    real = os.scandir

    def fail(path):
        if str(path).endswith("trials"):
            raise OSError(code, os.strerror(code), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(OSError, match="trials"):
        folder.list("trials/")
    assert folder.list("curves/") == []


def test_data_is_on_disk_before_it_has_its_name(folder, monkeypatch):
    """Else a power cut leaves a name without content."""
    calls = []
    for name in ("fsync", "link", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args))[1])
    folder.create("trials/a", b"data")  # the run's folder, which has a new one, then data, name and the new folder
    folder.put("trials/a", b"data")
    assert calls == ["fsync", "fsync", "link", "fsync", "fsync", "replace", "fsync"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_folders_without_hard_links_do(folder, monkeypatch, code):
    def refuse(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    assert folder.create("a", b"first") is True and folder.create("a", b"second") is False
    assert folder.get("a") == b"first" and os.listdir(folder.path) == ["a"]


@pytest.mark.parametrize("key", ["../victim", "trials/../../victim", "/victim", "", "trials/", "a//b", ".", "a\0b"])
def test_no_key_leads_out_of_the_folder(folder, key):
    (folder.path.parent / "victim").write_text("mine")
    for call in (lambda: folder.create(key, b""), lambda: folder.put(key, b""), lambda: folder.get(key)):
        with pytest.raises(ValueError, match="is no key"):
            call()
    with pytest.raises(ValueError, match="is no key"):
        folder.delete(key)
    assert (folder.path.parent / "victim").read_text() == "mine" and not os.listdir(folder.path)


def test_no_link_is_followed_or_written_through(folder):
    victim = folder.path.parent / "victim"
    victim.write_text("mine")
    (folder.path / "a").symlink_to(victim)
    (folder.path / "b").symlink_to(folder.path / "nowhere")
    assert not folder.create("a", b"ours") and not folder.create("b", b"ours")
    for key in ("a", "b"):
        with pytest.raises(OSError):
            folder.get(key)
    folder.put("a", b"ours")
    assert folder.get("a") == b"ours" and victim.read_text() == "mine"
    folder.delete("b")
    assert not os.path.lexists(folder.path / "b")


def test_a_linked_folder_is_refused(folder):
    elsewhere = folder.path.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a").write_text("mine")
    (folder.path / "trials").symlink_to(elsewhere)
    for call in (
        lambda: folder.create("trials/b", b""),
        lambda: folder.put("trials/a", b""),
        lambda: folder.get("trials/a"),
        lambda: folder.list("trials/"),
        lambda: folder.delete("trials/a"),
        lambda: folder.set_aside("trials/a"),
        lambda: folder.clean("trials/", ".*"),
    ):
        with pytest.raises(InputError, match="trials: is a link"):
            call()
    assert (elsewhere / "a").read_text() == "mine" and len(os.listdir(elsewhere)) == 1


def test_what_killed_writes_left_is_cleaned_and_nothing_else(folder):
    (folder.path / "trials").mkdir()
    left = [f".a.parquet.{16 * '0'}.tmp", f".b.parquet.{16 * 'f'}.tmp"]
    stay = [".a.parquet.tmp", f".a.txt.{16 * '0'}.tmp", f"a.parquet.{16 * '0'}.tmp", f".a.parquet.{16 * '0'}.aside"]
    for name in left + stay:
        (folder.path / "trials" / name).touch()
    folder.clean("trials/", r"\w\.parquet")
    folder.clean("curves/", r"\w\.parquet")
    assert sorted(os.listdir(folder.path / "trials")) == sorted(stay)
