import hashlib
import http.server
import re
import socket
import threading
import time

import pytest

from neuralmon.data.tfds.download import RemoteFile, fetch, progress
from neuralmon.errors import RequestError

CONTENT = bytes(range(256)) * 1000
SUM = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT in the manner that the path says, and keeps the Range header of each request."""

    ranges: list = []  # noqa: RUF012

    def do_GET(self):
        self.ranges.append(self.headers.get("Range"))
        match self.path.split("/")[1]:
            case "good":
                self.answer(200, CONTENT)
            case "resumable":
                start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
                self.answer(206 if start else 200, CONTENT[start:])
            case "short":
                self.answer(200, CONTENT, CONTENT[:1000])
            case "wrong":
                self.answer(200, CONTENT[::-1])
            case "endless":
                self.answer(200, CONTENT + b"more")
            case _:
                self.send_error(404)

    def answer(self, status, body, sent=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if sent is None else sent)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    Handler.ranges = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_file_arrives_and_is_not_loaded_again(server, tmp_path, capsys):
    file = RemoteFile(f"{server}/good/a.bin", len(CONTENT), SUM)
    path = fetch(file, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "a.bin" and path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert capsys.readouterr().err == f"downloading {file.url}: 0.3 MB\n"
    assert fetch(file, path.parent) == path
    assert len(Handler.ranges) == 1


@pytest.mark.parametrize(
    ("manner", "complaint"),
    [
        ("short", r"broke off after 1000 of 256000 bytes"),
        ("wrong", rf"sent another file \(SHA-256 {hashlib.sha256(CONTENT[::-1]).hexdigest()}, not {SUM}\)"),
        ("endless", r"sent another file"),
        ("missing", r"HTTP 404 Not Found"),
    ],
)
def test_what_is_not_the_file_is_refused(server, tmp_path, manner, complaint):
    file = RemoteFile(f"{server}/{manner}/a.bin", len(CONTENT), SUM)
    with pytest.raises(RequestError, match=complaint) as caught:
        fetch(file, tmp_path)
    assert file.url in str(caught.value) and f"a.bin elsewhere and put it into {tmp_path}" in str(caught.value)
    assert "\n" not in str(caught.value) and not (tmp_path / "a.bin").exists()


@pytest.mark.parametrize(("manner", "second"), [("resumable", "bytes=1000-"), ("good", "bytes=1000-")])
def test_a_broken_download_is_continued_or_begun_again(server, tmp_path, manner, second):
    with pytest.raises(RequestError):
        fetch(RemoteFile(f"{server}/short/a.bin", len(CONTENT), SUM), tmp_path)
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:1000]
    assert fetch(RemoteFile(f"{server}/{manner}/a.bin", len(CONTENT), SUM), tmp_path).read_bytes() == CONTENT
    assert Handler.ranges == [None, second]


def test_a_damaged_part_does_not_stay(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(b"?" * 1000)
    file = RemoteFile(f"{server}/resumable/a.bin", len(CONTENT), SUM)
    with pytest.raises(RequestError, match="another file"):
        fetch(file, tmp_path)
    assert fetch(file, tmp_path).read_bytes() == CONTENT


def test_files_put_there_by_hand(tmp_path):
    file = RemoteFile("http://nowhere.invalid/a.bin", len(CONTENT), SUM)
    (tmp_path / "a.bin").write_bytes(CONTENT)
    assert fetch(file, tmp_path).read_bytes() == CONTENT
    (tmp_path / "a.bin").write_bytes(b"another")
    with pytest.raises(RequestError, match=r"a\.bin is not the published file .* delete it"):
        fetch(file, tmp_path)


def test_a_refused_connection_is_told_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # held but not listened at: connections are refused
        begin = time.monotonic()
        with pytest.raises(RequestError, match=r"127\.0\.0\.1 cannot be reached: .*refused"):
            fetch(RemoteFile(f"http://127.0.0.1:{held.getsockname()[1]}/a.bin", 1, SUM), tmp_path)
    assert time.monotonic() - begin < 1


def test_a_server_that_never_answers_is_left(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        begin = time.monotonic()
        with pytest.raises(RequestError, match="the server does not answer"):
            fetch(RemoteFile(f"http://127.0.0.1:{listening.getsockname()[1]}/a", 1, SUM), tmp_path, stall_seconds=0.3)
    assert 0.3 <= time.monotonic() - begin < 2


@pytest.mark.parametrize("hangs", [True, False])
def test_without_a_network_it_fails_within_two_seconds(monkeypatch, tmp_path, hangs):
    monkeypatch.setenv("no_proxy", "*")
    released = threading.Event()

    def lookup(*args, **kwargs):
        if hangs:
            released.wait(30)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    begin = time.monotonic()
    with pytest.raises(RequestError, match=r"example\.org cannot be reached") as caught:
        fetch(RemoteFile("https://example.org/a.bin", 1, SUM), tmp_path)
    assert time.monotonic() - begin < 2
    assert ("is there a network?" if hangs else "name resolution") in str(caught.value)
    released.set()


def test_the_proxy_is_what_must_be_reached(monkeypatch, server, tmp_path):
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", server)
    # A proxy is asked for the whole address, of which this server takes "http:" for an unknown manner.
    with pytest.raises(RequestError, match="404"):
        fetch(RemoteFile("http://nowhere.invalid/good/a.bin", 1, SUM), tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match=r"cannot be made.*data_dir"):
        fetch(RemoteFile("http://nowhere.invalid/a", 1, SUM), tmp_path / "file" / "folder")


def test_progress_in_a_terminal_is_a_bar_that_goes_away(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("preparing x", 40, "examples") as advance:
        advance(40)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert "preparing x" in shown and "40/40" in shown
