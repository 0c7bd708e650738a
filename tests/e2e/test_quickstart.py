"""deploy/quickstart.sh, as a stranger runs it."""

import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def quickstart(*arguments, **environment):
    return subprocess.run(["bash", str(ROOT / "deploy/quickstart.sh"), *map(str, arguments)],
                          capture_output=True, text=True, check=False, timeout=3600,
                          stdin=subprocess.DEVNULL, env=os.environ | environment)


def servers_in(place):
    """Those that listen there: other tests have servers of their own."""
    return subprocess.run(["pgrep", "-f", f"linchpin-server --listen unix:{place}"], capture_output=True, text=True,
                          check=False).stdout.split()


def test_shows_the_whole_story_and_stops_its_server(tmp_path):
    result = quickstart(TMPDIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    for line in (r"^verdict +single: ", r"x[\d,.]+ without the super weights", r" critical$",
                 r" bit for bit$", r"times smaller", r"^matches +\d+ files checked",
                 r'^linchpin_jobs_total\{kind="compress",result="ok"\} 1$',
                 r"^linchpin_super_weights_detected_total 1$", r"^Done in "):
        assert re.search(line, result.stdout, re.MULTILINE), (line, result.stdout)
    assert not servers_in(tmp_path) and not list(tmp_path.iterdir())


def test_compresses_a_model_into_a_place_of_the_callers(shared, tmp_path):
    result = quickstart(shared / "models/tinystories-656k/bf16", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out/linchpin.json").exists()
    again = quickstart(shared / "models/tinystories-656k/bf16", tmp_path / "out")
    assert again.returncode == 1
    assert f"{tmp_path / 'out'}: exists" in again.stderr


def test_names_a_model_that_is_not_there(tmp_path):
    result = quickstart(tmp_path / "none")
    assert result.returncode == 1
    assert str(tmp_path / "none") in result.stderr
