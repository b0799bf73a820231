"""`run.networks --pretrained` lists every source, and says which files are here."""

import pytest

from network import list_pretrained
from network.pretrained.sources import find_source
from run.networks import main


def test_the_list_of_pretrained_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / find_source("ig65m:r2plus1d_34_clip8_kinetics").file_name).write_bytes(b"")
    main(["--pretrained"])
    header, *lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert header.split()[:2] == ["source", "network"]
    assert list(rows)[: len(list_pretrained())] == list_pretrained()
    here = [name for name in list_pretrained() if rows[name].endswith("yes")]
    assert here == ["ig65m:r2plus1d_34_clip8_kinetics"]
    for part in ("63.20 (5)", "16x112x112, 15 fps", "Kinetics-400", "133", "BSD-3"):
        assert part in rows["torchvision:r3d_18"], part
    assert "77.00 (30)" in rows["pytorchvideo:csn_r101"]
    assert "interval 2" in rows["pytorchvideo:csn_r101"]


def test_names_and_the_list_of_weights_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--pretrained", "r3d_18"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
