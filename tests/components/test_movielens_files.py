"""Where the files come from: a folder, a zip, the network; and what tells one content from another."""

import contextlib
import dataclasses
import functools
import hashlib
import http.server
import os
import shutil
import threading
import zipfile

import pytest
from data_files import write_100k, write_latest

from components import editions, movielens
from components.errors import InputError

ML_100K = movielens.get_edition("ml-100k")
LATEST = movielens.get_edition("ml-latest-small")


def zipped(folder, path, prefix=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, prefix + file.name)
    return path


@contextlib.contextmanager
def served(folder, monkeypatch):
    """The folder over HTTP, where the editions are downloaded from."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(editions, "BASE_URL", f"http://127.0.0.1:{server.server_port}/")
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_folder_and_zip_are_the_same_data(tmp_path):
    folder = write_100k(tmp_path / "plain")
    nested = write_100k(tmp_path / "parent" / "ml-100k").parent
    flat_zip = zipped(folder, tmp_path / "flat.zip")
    usual_zip = zipped(folder, tmp_path / "usual.zip", prefix="ml-100k/")
    paths = [movielens.locate(ML_100K, path, tmp_path / "cache") for path in (folder, nested, flat_zip, usual_zip)]
    assert paths == [folder, nested, flat_zip, usual_zip]
    assert len({movielens.content_digest(path, ML_100K) for path in paths}) == 1
    tables = [movielens.read(path, ML_100K).ratings for path in paths]
    assert all(table.equals(tables[0]) for table in tables)
    assert not (tmp_path / "cache").exists()


def test_digest_sees_what_size_and_date_do_not_tell(tmp_path):
    folder = write_100k(tmp_path)
    before, state = movielens.content_digest(folder, ML_100K), (folder / "u.data").stat()
    text = (folder / "u.data").read_bytes()
    (folder / "u.data").write_bytes(text.replace(b"\t3\t", b"\t4\t", 1))
    os.utime(folder / "u.data", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (folder / "u.data").stat().st_mtime_ns == state.st_mtime_ns
    assert movielens.content_digest(folder, ML_100K) != before
    (folder / "u.data").write_bytes(text)
    (folder / "README").write_text("not read, so of no account")
    assert movielens.content_digest(folder, ML_100K) == before


def test_what_is_missing_is_named(tmp_path):
    folder = write_100k(tmp_path / "in")
    (folder / "u.item").unlink()
    for path in (folder, zipped(folder, tmp_path / "in.zip")):
        with pytest.raises(InputError, match=r"no file u\.item.* needs: u\.data, u\.item, u\.user, u\.genre"):
            movielens.locate(ML_100K, path, tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        movielens.locate(ML_100K, tmp_path / "nowhere", tmp_path)
    with pytest.raises(InputError, match=r"no data set 'ml-101k'.*ml-100k"):
        movielens.get_edition("ml-101k")
    with pytest.raises(InputError, match=r"generated.*--dataset"):
        movielens.locate(movielens.get_edition("sample"), folder, tmp_path)


def test_a_damaged_zip_is_named(tmp_path):
    whole = zipped(write_latest(tmp_path / "in"), tmp_path / "in.zip").read_bytes()
    path = tmp_path / "damaged.zip"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        movielens.locate(LATEST, path, tmp_path)
    path.write_bytes(whole[:80] + bytes(40) + whole[120:])
    with pytest.raises(InputError, match="damaged"):
        movielens.content_digest(path, LATEST)


def test_no_network_and_no_folder_names_both_ways_out(tmp_path, monkeypatch):
    monkeypatch.setattr(editions, "BASE_URL", "http://127.0.0.1:9/")
    with pytest.raises(InputError) as refused:
        movielens.locate(LATEST, None, tmp_path)
    assert "http://127.0.0.1:9/ml-latest-small.zip" in str(refused.value) and "--data-dir" in str(refused.value)


def test_download_is_checked_and_kept(tmp_path, monkeypatch):
    site = tmp_path / "site"
    content = zipped(write_latest(site / "in"), site / "ml-latest-small.zip", prefix="ml-latest-small/").read_bytes()
    (site / "ml-latest-small.zip.md5").write_text(f"{hashlib.md5(content).hexdigest()}  ml-latest-small.zip\n")
    with served(site, monkeypatch):
        path = movielens.locate(LATEST, None, tmp_path / "cache")
    assert path == tmp_path / "cache" / "ml-latest-small.zip"
    assert movielens.read(path, LATEST).ratings.height == 100
    assert movielens.locate(LATEST, None, tmp_path / "cache") == path  # the server is gone


def test_a_wrong_checksum_is_refused(tmp_path, monkeypatch):
    site = tmp_path / "site"
    zipped(write_100k(site / "in"), site / "ml-100k.zip")
    with served(site, monkeypatch), pytest.raises(InputError, match="published MD5"):
        movielens.locate(ML_100K, None, tmp_path / "cache")
    (tmp_path / "cache").mkdir(exist_ok=True)
    shutil.copy(site / "ml-100k.zip", tmp_path / "cache")
    with pytest.raises(InputError, match="published is 0e33842e24a9c977be4e0107933c0723"):
        movielens.locate(ML_100K, None, tmp_path / "cache")
    right = dataclasses.replace(ML_100K, md5=hashlib.md5((site / "ml-100k.zip").read_bytes()).hexdigest())
    assert movielens.locate(right, None, tmp_path / "cache").exists()
