"""run.report writes the reports of results folders again, or serves them to a browser."""

import json
import os
import re
import threading
import time
import urllib.error
import urllib.request

import chromium
import pytest

from data.data_error import DataError
from run import report
from run.exit_codes import command
from run.report_server import server_of
from train.config import Config
from train.results.recorder import write_config

ROW = "Epoch,Top1,Top5,Loss,Lr,Clips\n1,{top1},100,0.7,0.1,8\n"


def results(folder, top1=50.0):
    """Make the results of a run of one epoch."""
    folder.mkdir(parents=True)
    config = Config(network="r3d_18", dataset="/d/mine", end_epoch=3, val_frame_interval=1)
    write_config(folder, config, classes=["a", "b"])
    for part in ("train", "val"):
        (folder / f"{part}_results.csv").write_text(ROW.format(top1=top1))
    return folder


def add_epoch(folder):
    """Let the run finish another epoch."""
    for part in ("train", "val"):
        path = folder / f"{part}_results.csv"
        path.write_text(path.read_text() + "2,75,100,0.6,0.1,8\n")
        later = time.time_ns() + 10**9  # some file systems count in seconds
        os.utime(path, ns=(later, later))


def test_reports_are_written_for_each_run_below_a_folder(tmp_path, caplog):
    caplog.set_level("INFO")
    folders = [results(tmp_path / "r" / "UCF101" / name) for name in ("one", "two")]
    other = results(tmp_path / "other")
    report.main([str(tmp_path / "r"), str(other)])
    for folder in (*folders, other):
        assert "Epoch 1 of 3" in (folder / "report.html").read_text()
        assert f"report: {folder / 'report.html'}" in caplog.text


@pytest.mark.parametrize("words", [[], ["--serve"]])
def test_a_folder_without_results_is_one_line(tmp_path, capfd, words):
    for folder, said in ((tmp_path, "config.json is missing"), (tmp_path / "no", "no such folder")):
        assert command(lambda folder=folder: report.main([str(folder), *words])) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(f"error: {folder}: ") and said in line
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_one_line_and_keeps_the_old_report(tmp_path, capfd):
    folder = results(tmp_path / "a")
    (folder / "report.html").write_text("old")
    (folder / "val_results.csv").write_text("a,b\n1,2\n")
    assert command(lambda: report.main([str(folder)])) == 2
    assert "val_results.csv: cannot be read" in capfd.readouterr().err
    assert (folder / "report.html").read_text() == "old"


@pytest.fixture
def served():
    """Starts a server of some folders in a thread; returns its address."""
    servers = []

    def start(*folders):
        servers.append(server_of(folders, "127.0.0.1", 0))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def get(address, method="GET"):
    """(version, text) of an answer."""
    request = urllib.request.Request(address, method=method)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.headers["ETag"], answer.read().decode()


def test_the_served_page_is_report_html_until_the_run_has_come_further(tmp_path, served):
    folder = results(tmp_path / "a")
    report.main([str(folder)])
    address = served(folder)
    version, page = get(address)
    saved = (folder / "report.html").read_text()
    assert page.replace(page[page.index("<script>") : page.index("</body>")], "") == saved
    assert get(address, "HEAD") == (version, "") and f'"{version}"' in page
    add_epoch(folder)
    newer, page = get(address)
    assert newer != version and "Epoch 2 of 3" in page
    assert get(address, "HEAD")[0] == newer and get(address) == (newer, page)
    assert (folder / "report.html").read_text() == saved  # a server writes nothing


def test_several_runs_have_a_list(tmp_path, served):
    folders = [results(tmp_path / name, top1) for name, top1 in (("a<b", 40), ("c", 60))]
    address = served(*folders)
    _, page = get(address)
    assert "a&lt;b" in page and "a<b" not in page and "40.0 %" in page and "60.0 %" in page
    assert re.findall(r'href="(.*?)"', page) == ["/0", "/1"]
    for number in (0, 1):
        assert "Epoch 1 of 3" in get(f"{address}{number}")[1]
    for path in ("2", "../etc/passwd", "0/", "report.html"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(address + path)


def test_a_run_that_is_damaged_or_gone_does_not_end_the_server(tmp_path, served):
    folder, other = results(tmp_path / "a"), results(tmp_path / "b")
    address = served(folder, other)
    (folder / "config.json").write_text(json.dumps([]))
    assert "cannot be read" in get(f"{address}0")[1] and "cannot be read" in get(address)[1]
    for path in list(folder.iterdir()):
        path.unlink()
    assert "holds no results" in get(f"{address}0")[1]
    assert "Epoch 1 of 3" in get(f"{address}1")[1]


def test_a_port_that_is_taken_is_named(tmp_path):
    with server_of([results(tmp_path / "a")], "127.0.0.1", 0) as server:
        port = server.server_port
        with pytest.raises(DataError, match=f"--port {port}: cannot be served at"):
            server_of([], "127.0.0.1", port)


@pytest.mark.skipif(
    not chromium.installed(), reason="needs Chromium (Debian: apt-get install chromium)"
)
def test_a_browser_refreshes_the_page(tmp_path, served):
    folder = results(tmp_path / "a")
    with chromium.browser() as page:
        page.open(served(folder))
        assert "Epoch 1 of 3" in page.value("document.body.innerText")
        add_epoch(folder)
        page.forget()
        page.wait_for("Page.loadEventFired")
        assert "Epoch 2 of 3" in page.value("document.body.innerText")
