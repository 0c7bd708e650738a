"""The metrics as Prometheus sees them: scraped, asked, alerted on, pushed."""

import collections
import contextlib
import json
import re
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request

import pytest
import yaml

from conftest import ROOT, CommandLine, Server
from support.gated_store import serving
from support.patience import PATIENCE, await_that

MONITORING = ROOT / "deploy/monitoring"


def get(url):
    with urllib.request.urlopen(url, timeout=PATIENCE) as page:
        return page.read().decode()


def eventually(condition):
    """The first true value that `condition` gives, whatever answers of networks come before it."""
    def value():
        try:
            return condition()
        except OSError:
            return None
    return await_that(value)


@pytest.fixture(name="program")
def program_fixture():
    """program(name, *arguments): the URL of a running program of Debian's, stopped at the end."""
    with contextlib.ExitStack() as running:
        def start(name, *arguments):
            assert shutil.which(name), f"{name} is not installed (tests/packages.txt)"
            host, port = running.enter_context(serving(lambda port: [
                name, *map(str, arguments), f"--web.listen-address=127.0.0.1:{port}"]))
            return f"http://{host}:{port}"
        yield start


def test_alert_rules_fire_when_they_must_and_not_else():
    result = subprocess.run(["promtool", "test", "rules", "alerts_test.yml"], cwd=MONITORING,
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    subprocess.run(["promtool", "check", "config", "prometheus.yml"], cwd=MONITORING, check=True,
                   capture_output=True)


def test_every_alert_has_a_test():
    alerts = set(re.findall(r"alert: (\w+)", (MONITORING / "alerts.yml").read_text()))
    tested = set(re.findall(r"alertname: (\w+)", (MONITORING / "alerts_test.yml").read_text()))
    assert alerts == tested and len(alerts) >= 8


def names_in(text):
    return set(re.findall(r"\b(?:linchpin|grpc_server|process)_[a-z_]+", text))


def test_rules_and_dashboard_name_metrics_that_exist(start_server):
    exposed = {name.split("{")[0] for name in start_server().metrics()}
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"]
                   for target in panel.get("targets", [])]
    assert len(expressions) >= 10
    rules = [line for line in (MONITORING / "alerts.yml").read_text().splitlines()
             if "summary" not in line]
    for text in (*expressions, "\n".join(rules)):
        assert names_in(text) <= exposed, names_in(text) - exposed


# A family, with its matchers if it has some; what aggregates it goes before, with the labels that are left.
SELECTOR = re.compile(r"\b(up|(?:linchpin|grpc_server|process)_\w+)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|=|!=|!~)\s*"([^"]*)"')
KEPT = re.compile(r"\b(?:by|on) \(([^)]*)\)(.*)", re.DOTALL)
# What Prometheus adds to all that it scrapes.
ADDED = {"instance", "job"}


@pytest.fixture(name="series", scope="module")
def series_fixture(tmp_path_factory):
    """{family: list of {label: value}} as a scraper reads them of a server that has done nothing yet."""
    server = Server(tmp_path_factory.mktemp("scraped") / "log")
    found = collections.defaultdict(list)
    for name in server.metrics():
        family, _, labels = name.partition("{")
        found[family].append(dict(re.findall(r'(\w+)="([^"]*)"', labels)))
    server.stop()
    return found


def unknown_in(selectors, series):
    """What no series of a scrape has among (family, matchers) pairs."""
    jobs = set(re.findall(r"job_name: (\w+)", (MONITORING / "prometheus.yml").read_text()))
    for family, matchers in selectors:
        left = series.get(family, [] if family != "up" else [{}])
        if not left:
            yield family
        for label, operator, text in MATCHER.findall(matchers):
            values = text.split("|") if operator.endswith("~") else [text]
            if label in ADDED:
                values = [] if label == "instance" else set(values) - jobs
            else:
                values = [value for value in values if all(one.get(label) != value for one in left)]
                left = [one for one in left if one.get(label) in text.split("|")]
            yield from (f'{family}{{{label}="{value}"}}' for value in values)
        if not left:
            yield f"{family}{{{matchers}}}: no one series has all of it"


def kept_labels(expression):
    """(family, label) of every label by which something is summed up or joined."""
    while (found := KEPT.search(expression)):
        names, expression = found[1].split(","), found[2]
        family = SELECTOR.search(expression)[1]
        yield from ((family, name.strip()) for name in names)


def dashboard_targets():
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    return [target for panel in panels for target in panel.get("targets", [])]


def expressions():
    """All that the alerts and the dashboard ask."""
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    rules = [rule["expr"] for group in groups for rule in group["rules"]]
    return rules + [target["expr"] for target in dashboard_targets()]


def test_alerts_and_dashboard_name_labels_and_values_that_exist(series):
    asked = expressions()
    assert len(asked) >= 25
    assert list(unknown_in(SELECTOR.findall("\n".join(asked)), series)) == []
    for family, label in (pair for expression in asked for pair in kept_labels(expression)):
        assert label in ADDED or all(label in one for one in series[family]), (family, label)


def test_legends_name_labels_that_are_left():
    for target in dashboard_targets():
        left = {name for _, name in kept_labels(target["expr"])} - {"le"}
        used = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
        assert used <= (left or ADDED) and (not left or used), target


def test_the_series_of_the_alerts_tests_exist(series):
    tests = yaml.safe_load((MONITORING / "alerts_test.yml").read_text())["tests"]
    made = [given["series"] for test in tests for given in test["input_series"]
            if 'job="other"' not in given["series"]]  # another program's
    assert len(made) >= 20
    selectors = [SELECTOR.fullmatch(name).groups("") for name in made]
    assert list(unknown_in(selectors, series)) == []


@pytest.mark.parametrize("wrong, complaint", [
    ('linchpin_jobs_total{result="failure"}', 'linchpin_jobs_total{result="failure"}'),
    ('linchpin_jobs_total{outcome="failed"}', 'linchpin_jobs_total{outcome="failed"}'),
    ('grpc_server_handled_total{grpc_code=~"Internal|UNKNOWN"}',
     'grpc_server_handled_total{grpc_code="UNKNOWN"}'),
    ('linchpin_job_total', "linchpin_job_total"), ('up{job="linchpins"}', 'up{job="linchpins"}'),
])
def test_what_does_not_exist_is_found(series, wrong, complaint):
    assert complaint in unknown_in(SELECTOR.findall(wrong), series)


def test_promtool_finds_nothing_to_mend_in_the_page(start_server):
    page = get(f"http://{start_server().metrics_address}/metrics")
    result = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True,
                            text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_real_prometheus_scrapes_and_alerts(start_server, program, demo_model, tmp_path):
    server = start_server("--read-root", "/", "--write-root", tmp_path)
    (tmp_path / "alerts.yml").write_text((MONITORING / "alerts.yml").read_text())
    (tmp_path / "prometheus.yml").write_text(json.dumps({  # JSON is YAML
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [{"job_name": "linchpin",
                            "static_configs": [{"targets": [server.metrics_address]}]}]}))
    url = program("prometheus", f"--config.file={tmp_path}/prometheus.yml",
                  f"--storage.tsdb.path={tmp_path}/data")

    def ask(expression):
        query = urllib.parse.urlencode({"query": expression})
        return json.loads(get(f"{url}/api/v1/query?{query}"))["data"]["result"]

    assert eventually(lambda: ask('up{job="linchpin"} == 1'))
    CommandLine("--quiet", "--endpoint", server.endpoint)("compress", demo_model, tmp_path / "out")
    found, = eventually(lambda: ask('linchpin_jobs_total{kind="compress",result="ok"} == 1'))
    assert found["metric"]["instance"] == server.metrics_address
    assert eventually(lambda: ask("linchpin_build_info"))[0]["metric"]["version"]
    rules = json.loads(get(f"{url}/api/v1/rules"))["data"]["groups"][0]["rules"]
    assert rules and all(rule["health"] in ("ok", "unknown") for rule in rules), rules


def test_a_command_pushes_what_it_did(program, demo_model, tmp_path):
    url = program("prometheus-pushgateway")
    eventually(lambda: get(f"{url}/-/ready"))
    CommandLine("--quiet", "--push-metrics", url)("compress", demo_model, tmp_path / "out")
    page = get(f"{url}/metrics")
    line, = (line for line in page.splitlines()
             if line.startswith("linchpin_jobs_total{") and 'kind="compress"' in line
             and 'result="ok"' in line)
    assert 'job="linchpin"' in line and line.endswith(" 1")
    assert "linchpin_compression_ratio_count" in page


def test_a_gateway_that_is_not_there_costs_a_warning_alone(demo_model, tmp_path):
    with socket.socket() as silent:  # has the port and does not listen
        silent.bind(("127.0.0.1", 0))
        url = "http://127.0.0.1:%d" % silent.getsockname()[1]
        finished = CommandLine("--quiet", "--push-metrics", url)(
            "compress", demo_model, tmp_path / "out")
    assert "Pushgateway" in finished.err
    assert (tmp_path / "out/linchpin.json").exists()


def test_pushing_is_for_a_server_of_ones_own(linchpin):
    finished = linchpin.run("--endpoint", "localhost:1", "--push-metrics", "http://localhost:1",
                            "capabilities")
    assert finished.code == 2 and "--push-metrics" in finished.err
