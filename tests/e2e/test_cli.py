"""Every command against a private server, on the demonstration model: what it prints and how it exits."""

import collections
import html.parser
import json
import os
import pty
import re
import subprocess

import pytest


def tree(directory):
    """{relative name: bytes} of all files, hidden ones too."""
    return {str(p.relative_to(directory)): p.read_bytes()
            for p in sorted(directory.rglob("*")) if p.is_file()}


@pytest.fixture(name="compressed", scope="module")
def compressed_fixture(linchpin, demo_model, demo_proof, tmp_path_factory):
    """(OUT, the JSON that compress printed, the file that --manifest wrote)."""
    place = tmp_path_factory.mktemp("compressed")
    finished = linchpin("compress", demo_model, place / "out", "--json", *demo_proof,
                        "--manifest", place / "manifest.json")
    return place / "out", finished.json, place / "manifest.json"


def test_capabilities_name_what_is_built(linchpin):
    capabilities = linchpin("capabilities", "--json").json
    assert "llama" in capabilities["families"]
    assert capabilities["schemes"] == [
        "w4a16", "w8a16", "w8a8", "fp8", "q4_0", "q4_1", "q5_0", "q5_1",
        "q8_0", "q4_k", "q5_k", "q6_k", "f16", "bf16", "blocks", "pruned", "pruned_2_4"]
    assert set(capabilities["scale_rules"]) == {"importance", "signed", "minmax", "mse"}
    assert set(capabilities["preserve_modes"]) == {
        "tensor", "scale", "lora", "restore", "none"}
    assert capabilities["formats"] == ["compressed-tensors", "gguf", "dense"]
    assert capabilities["chunk_bytes"] == 1 << 20
    version = linchpin("--version").out
    assert version == f"linchpin {capabilities['version']}\n"
    assert "families        llama" in linchpin("capabilities").out


def test_demo_model_is_the_same_every_time(linchpin, demo_model, tmp_path):
    answer = linchpin("demo-model", tmp_path / "again", "--json").json
    again = tree(tmp_path / "again")
    assert again == tree(demo_model)
    assert answer == {"directory": str(tmp_path / "again"),
                      "bytes": sum(len(content) for content in again.values())}
    assert answer["bytes"] < 10_000_000


def test_detection_off_says_so_in_manifest_and_table(linchpin, demo_model, tmp_path):
    text = linchpin("compress", demo_model, tmp_path / "out", "--detection", "off",
                    "--source-digest", "off").out
    assert "detection is off" in text and "verdict" not in text
    manifest = json.loads((tmp_path / "out" / "linchpin.json").read_text())
    assert manifest["detection"] is None and manifest["super_weights"] == []
    assert manifest["options"]["scale"] == "signed"
    assert all(file["sha256"] is None for file in manifest["source"]["files"])
    assert linchpin("verify", tmp_path / "out").code == 0
    assert "detection is off" in linchpin("plan", demo_model, "--detection", "off").out
    refused = linchpin.run("compress", demo_model, tmp_path / "no", "--detection", "off",
                           "--scale", "importance")
    assert refused.code == 42 and "importance takes a forward pass" in refused.err
    assert linchpin.run("compress", demo_model, tmp_path / "no", "--detection", "off",
                        "--proof", "joint").code == 2


def test_demo_model_hangs_on_one_weight(linchpin, demo_model, demo_proof):
    detection = linchpin("detect", demo_model, "--json", *demo_proof).json
    assert detection["verdict"] == "single"
    weight, = detection["super_weights"]
    assert weight["class"] == "critical"
    assert detection["proof"]["alone"][0]["perplexity_ratio"] >= 10
    for arm in detection["proof"]["null"]:
        assert arm["perplexity_ratio"] == pytest.approx(1, abs=0.05)


def test_detect_prints_a_table(linchpin, demo_model, demo_proof):
    weight, = linchpin("detect", demo_model, "--json").json["super_weights"]
    text = linchpin("detect", demo_model, *demo_proof).out
    assert re.search(r"^verdict +single: ", text)
    assert re.search(rf"^  {re.escape(weight['tensor'])} +{weight['layer']} +{weight['row']} +"
                     rf"{weight['column']} +\S+ +[01]\.\d+ +x\S+  critical$", text, re.MULTILINE)


def test_detect_without_a_proof_claims_nothing(linchpin, demo_model):
    detection = linchpin("detect", demo_model, "--json").json
    assert detection["verdict"] == "unproven"
    assert [weight["class"] for weight in detection["super_weights"]] == ["unproven"]
    assert "unproven" in linchpin("detect", demo_model).out


def test_detect_takes_a_prompt_and_writes_its_document(linchpin, demo_model, tmp_path):
    finished = linchpin("detect", demo_model, "--json", "--tokens", "1,5,9,7,3", "--out",
                        tmp_path / "found.json")
    assert (tmp_path / "found.json").read_text() == finished.out
    assert finished.json["prompt"]["token_ids"] == [1, 5, 9, 7, 3]


def test_plan_says_what_compress_then_does(linchpin, demo_model, compressed, tmp_path):
    plan = linchpin("plan", demo_model, tmp_path / "out", "--json").json
    out, result, _ = compressed
    assert not (tmp_path / "out").exists()
    assert plan["bytes_in"] == result["bytes_in"]
    assert plan["group_size"] in (32, 64, 128, -1)
    by_name = {tensor["name"]: tensor for tensor in plan["tensors"]}
    assert by_name["model.layers.0.self_attn.q_proj.weight"]["quantized"]
    assert not by_name["model.norm.weight"]["quantized"]
    assert by_name["model.norm.weight"]["kept_because"]
    assert "times smaller" in linchpin("plan", demo_model).out
    assert out.is_dir()


def test_compress_answers_with_its_manifest(compressed):
    out, result, manifest_file = compressed
    assert (out / "linchpin.json").read_text() == manifest_file.read_text()
    assert result["manifest"] == json.loads(manifest_file.read_text())
    assert 0 < result["bytes_out"] < result["bytes_in"]
    assert result["kept"] and all(weight["exact"] for weight in result["kept"])
    assert result["output"] == str(out)


def test_compress_prints_tables(linchpin, demo_model, tmp_path):
    text = linchpin("compress", demo_model, tmp_path / "out").out
    assert "times smaller" in text
    assert "bit for bit" in text
    assert re.search(r"^manifest +sha256 [0-9a-f]{64}$", text, re.MULTILINE)
    assert f"written         {tmp_path / 'out'}\n" in text


def test_the_source_is_left_alone(linchpin, demo_model, tmp_path):
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in demo_model.iterdir()}
    linchpin("compress", demo_model, tmp_path / "out")
    assert {path: (path.stat().st_mtime_ns, path.read_bytes())
            for path in demo_model.iterdir()} == before


@pytest.mark.parametrize("options", [
    ["--group-size", "32"], ["--group-size", "64"], ["--group-size", "channel"],
    ["--scale", "minmax"], ["--preserve", "scale"], ["--preserve", "none"]])
def test_compress_takes_every_option(linchpin, demo_model, tmp_path, options):
    result = linchpin("compress", demo_model, tmp_path / "out", "--json", *options).json
    assert linchpin("verify", tmp_path / "out", "--json").json["matches"] is True
    if options == ["--preserve", "none"]:
        assert all(weight["how"] == "none" for weight in result["kept"])
    else:
        assert result["kept"] and all(weight["exact"] for weight in result["kept"])


def test_the_same_call_gives_the_same_bytes(linchpin, demo_model, tmp_path):
    linchpin("compress", demo_model, tmp_path / "a")
    linchpin("compress", demo_model, tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_upload_gives_the_same_bytes(linchpin, demo_model, compressed, demo_proof, tmp_path):
    out, reference, _ = compressed
    result = linchpin("compress", demo_model, tmp_path / "out", "--upload", "--json",
                      *demo_proof).json
    uploaded, direct = tree(tmp_path / "out"), tree(out)
    assert uploaded.keys() == direct.keys()
    assert {name for name in direct if direct[name] != uploaded[name]} <= {"linchpin.json"}
    assert result["bytes_out"] == reference["bytes_out"]
    assert linchpin("verify", tmp_path / "out", "--json").json["matches"] is True
    assert sorted(os.listdir(tmp_path)) == ["out"]


def test_verify_accepts_and_reads_weights_back(linchpin, compressed):
    out, result, _ = compressed
    verified = linchpin("verify", out, "--json").json
    assert verified["matches"] is True
    assert verified["mismatches"] == []
    assert verified["kept"] == result["kept"]
    assert linchpin("verify", out).out.startswith("matches ")


class PageReader(html.parser.HTMLParser):
    """Counts elements, keeps their texts, and checks that what opens closes."""

    VOID = {"meta", "line", "circle", "path"}

    def __init__(self):
        super().__init__()
        self.open, self.count, self.texts = [], collections.Counter(), []

    def handle_starttag(self, tag, attrs):
        self.count[tag] += 1
        assert not any(name in ("src", "href") for name, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_report_draws_a_manifest_and_a_study(linchpin, demo_model, compressed, tmp_path):
    out, _, manifest = compressed
    linchpin("detect", demo_model, "--study", "--out", tmp_path / "study.json")
    linchpin("report", out, tmp_path / "study.json", "--out", tmp_path / "page.html")
    page = PageReader()
    page.feed((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert not page.open
    assert page.count["svg"] == 2 + 4
    assert page.count["circle"] > 20
    weight, = json.loads(manifest.read_text())["super_weights"]
    assert f"{weight['tensor']}[{weight['row']}, {weight['column']}]" in page.texts
    refused = linchpin.run("report", demo_model / "config.json", "--out", tmp_path / "no.html")
    assert refused.code == 42 and "config.json" in refused.error
    assert not (tmp_path / "no.html").exists()


def test_verify_finds_one_changed_byte(linchpin, demo_model, tmp_path):
    linchpin("compress", demo_model, tmp_path / "out")
    path = tmp_path / "out/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    finished = linchpin.run("verify", tmp_path / "out", "--json")
    assert finished.code == 3
    assert finished.json["matches"] is False
    assert any("model.safetensors" in line for line in finished.json["mismatches"])
    assert linchpin.run("verify", tmp_path / "out").code == 3


def test_evaluate_measures_the_text_of_the_model(linchpin, demo_model, demo_proof):
    result = linchpin("evaluate", demo_model, "--tokens", demo_model / "tokens.json", "--json").json
    windows = json.loads((demo_model / "tokens.json").read_text())
    assert result["tokens"] == sum(len(window) - 1 for window in windows)
    proof = linchpin("detect", demo_model, "--json", *demo_proof).json["proof"]
    assert result["perplexity"] == pytest.approx(proof["baseline"]["perplexity"], rel=1e-6)
    assert "perplexity" in linchpin("evaluate", demo_model, "--tokens",
                                    demo_model / "tokens.json").out


def test_an_output_that_exists_is_left_alone(linchpin, demo_model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    for options in ([], ["--upload"]):
        finished = linchpin.run("compress", demo_model, tmp_path / "out", *options)
        assert finished.code == 42
        assert finished.out == ""
        assert str(tmp_path / "out") in finished.error
        assert finished.error.endswith("[OUTPUT_EXISTS]")
    assert tree(tmp_path) == {"out/mine.txt": b"mine"}
    assert linchpin.run("demo-model", tmp_path / "out").code == 42
    assert linchpin.run("plan", demo_model, tmp_path / "out").error.endswith("[OUTPUT_EXISTS]")


@pytest.mark.parametrize("options", [[], ["--upload"]])
def test_overwrite_replaces_the_whole(linchpin, demo_model, tmp_path, options):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    linchpin("compress", demo_model, tmp_path / "out", "--overwrite", *options)
    assert "mine.txt" not in tree(tmp_path / "out")
    assert linchpin("verify", tmp_path / "out", "--json").json["matches"] is True
    assert os.listdir(tmp_path) == ["out"]


def test_relative_paths_and_links_are_understood(linchpin, demo_model, tmp_path):
    (tmp_path / "link").symlink_to(demo_model)
    (tmp_path / "work").mkdir()
    linchpin("compress", "../link", "out/", cwd=tmp_path / "work")
    assert (tmp_path / "work/out/linchpin.json").exists()
    by_file = linchpin("detect", demo_model / "model.safetensors", "--json").json
    assert by_file == linchpin("detect", demo_model, "--json").json


@pytest.mark.parametrize("arguments", [
    [], ["nope"], ["compress", "m"], ["compress", "m", "o", "--scheme", "w2"],
    ["detect", "m", "--proof-text", "f"], ["evaluate", "m"]])
def test_usage_errors_exit_2(linchpin, arguments):
    finished = linchpin.run(*arguments)
    assert finished.code == 2
    assert finished.out == ""
    assert finished.err


def test_token_files_are_checked(linchpin, demo_model, tmp_path):
    (tmp_path / "t.json").write_text("[[1, 2], [3, 99999999]]")
    finished = linchpin.run("evaluate", demo_model, "--tokens", tmp_path / "t.json")
    assert finished.code == 42
    assert finished.error.endswith("[TOKENS_INVALID]")
    assert "99999999" in finished.error
    (tmp_path / "t.json").write_text("{}")
    finished = linchpin.run("evaluate", demo_model, "--tokens", tmp_path / "t.json")
    assert finished.code == 42
    assert str(tmp_path / "t.json") in finished.error


def test_progress_is_drawn_on_a_terminal_and_wiped(linchpin, store, demo_model, demo_proof):
    """Of a detection whose source waits at every read until its progress so far is drawn."""
    store.put("drawn/model", demo_model)
    store.gate.hold(lambda request: request.range not in ("", "bytes=0-0"))
    ours, terminal = pty.openpty()
    command = linchpin.command("detect", "s3://models/drawn/model", "--json", *demo_proof)
    command.remove("--quiet")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, text=True,
                               env=os.environ | {
                                   "TERM": "xterm", "LINCHPIN_READ_PREFIX": "s3://models/drawn",
                                   "LINCHPIN_S3_ENDPOINT": store.gate.endpoint})
    os.close(terminal)
    drawn = os.read(ours, 4096)
    store.gate.release()
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # as a terminal without a writer ends
            break
        drawn += piece
    assert json.loads(process.communicate()[0])["verdict"] == "single"
    assert re.search(rb"\r(checkpoint|forward|detect) +", drawn)
    assert drawn.endswith(b"\r\x1b[K")
    assert linchpin("detect", demo_model).err == ""  # --quiet


def test_output_that_cannot_be_written_is_an_error(linchpin):
    with open("/dev/full", "w", encoding="utf-8") as full:
        result = subprocess.run(linchpin.command("capabilities"), stdout=full, check=False,
                                stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("error: stdout: ")
