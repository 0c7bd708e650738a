"""The chart helm/linchpin: lints, renders what it should, refuses what it should, packages."""

import ipaddress
import json
import pathlib
import random
import re
import subprocess
import tarfile

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/linchpin"
VALUE_FILES = sorted((CHART / "ci").glob("*-values.yaml"))
TLS = {"tls": {"secretName": "linchpin-tls"}}


def helm(*arguments, check=True):
    result = subprocess.run([str(ROOT / "tests/e2e/helm.sh"), *map(str, arguments)],
                            capture_output=True, text=True, check=False)
    if check:
        assert result.returncode == 0, result.stderr + result.stdout
    return result


@pytest.fixture(name="render")
def render_fixture(tmp_path):
    """Renders the chart with values given as a dict or a file; {kind: document}."""
    def render(values, name="r", check=True):
        if isinstance(values, dict):
            path = tmp_path / "values.yaml"
            path.write_text(json.dumps(values))
            values = path
        result = helm("template", name, CHART, "--namespace", "models", "-f", values, check=check)
        if not check:
            return result
        documents = [d for d in yaml.safe_load_all(result.stdout) if d]
        assert len({d["kind"] for d in documents}) == len(documents)
        return {d["kind"]: d for d in documents}
    return render


def pod_of(documents):
    return documents["Deployment"]["spec"]["template"]["spec"]


def server_of(documents):
    (container,) = pod_of(documents)["containers"]
    return container


def volumes_of(pod):
    return {v["name"]: v for v in pod["volumes"]}


def ports_of(service):
    return {p["name"]: p["port"] for p in service["spec"]["ports"]}


def test_there_are_value_files():
    assert {p.name for p in VALUE_FILES} >= {"minimal-values.yaml", "full-values.yaml",
                                             "plaintext-values.yaml"}


@pytest.mark.parametrize("path", [None, *VALUE_FILES], ids=lambda p: p.stem if p else "defaults")
def test_lints(path):
    helm("lint", "--strict", CHART, *(["-f", path] if path else []))


def test_packages_without_the_test_values(tmp_path):
    helm("package", CHART, "--destination", tmp_path)
    (package,) = tmp_path.glob("linchpin-*.tgz")
    with tarfile.open(package) as archive:
        names = set(archive.getnames())
    assert {"linchpin/Chart.yaml", "linchpin/values.schema.json", "linchpin/README.md"} <= names
    assert not any(name.startswith("linchpin/ci/") for name in names)


def test_a_certificate_is_required(render):
    result = render({}, check=False)
    assert result.returncode != 0
    assert "tls.secretName is required" in result.stderr


def test_minimal_makes_what_it_says_and_no_more(render):
    assert set(render(TLS)) == {"Deployment", "Service", "ServiceAccount", "Pod"}


@pytest.mark.parametrize("path", VALUE_FILES, ids=lambda p: p.stem)
def test_nothing_may_write_or_gain_rights(render, path):
    documents = render(path)
    pods = [pod_of(documents)] + [documents[k]["spec"] for k in ("Pod",) if k in documents]
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}}
    assert documents["ServiceAccount"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("path", VALUE_FILES, ids=lambda p: p.stem)
def test_every_mount_has_a_volume_and_every_volume_a_mount(render, path):
    documents = render(path)
    mounts = [m["name"] for m in server_of(documents)["volumeMounts"]]
    assert sorted(mounts) == sorted(volumes_of(pod_of(documents)))


@pytest.mark.parametrize("path", VALUE_FILES, ids=lambda p: p.stem)
def test_every_selector_finds_the_pods_and_not_the_test(render, path):
    documents = render(path)
    labels = documents["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [documents["Deployment"]["spec"]["selector"]["matchLabels"]]
    if "Service" in documents:
        selectors.append(documents["Service"]["spec"]["selector"])
    if "PodDisruptionBudget" in documents:
        selectors.append(documents["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"])
    if "NetworkPolicy" in documents:
        selectors.append(documents["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"])
    for selector in selectors:
        assert selector.items() <= labels.items()
        if "Pod" in documents:
            assert not selector.items() <= documents["Pod"]["metadata"]["labels"].items()


def test_tls_with_client_certificates_by_default(render):
    documents = render(TLS)
    arguments = server_of(documents)["args"]
    assert arguments[:5] == [
        "--listen=unix:/run/linchpin/linchpin.sock", "--listen=0.0.0.0:50051",
        "--tls-cert=/etc/linchpin/tls/tls.crt", "--tls-key=/etc/linchpin/tls/tls.key",
        "--tls-client-ca=/etc/linchpin/tls/ca.crt"]
    secret = volumes_of(pod_of(documents))["tls"]["secret"]
    assert secret == {"secretName": "linchpin-tls", "defaultMode": 0o440}
    assert ports_of(documents["Service"]) == {"grpc": 50051, "metrics": 9464}


def test_without_client_certificates(render):
    documents = render({"tls": {"secretName": "s", "requireClientCertificate": False}})
    assert not any(a.startswith("--tls-client-ca") for a in server_of(documents)["args"])
    arguments = documents["Pod"]["spec"]["containers"][0]["args"]
    assert not any(a.startswith("--tls-cert") for a in arguments)


def test_without_tls_nothing_is_served_to_other_pods(render):
    documents = render({"tls": {"enabled": False}})
    listens = [a for a in server_of(documents)["args"] if a.startswith("--listen=")]
    assert listens == ["--listen=unix:/run/linchpin/linchpin.sock", "--listen=127.0.0.1:50051"]
    assert not any(a.startswith("--tls") for a in server_of(documents)["args"])
    assert [p["name"] for p in server_of(documents)["ports"]] == ["metrics"]
    assert ports_of(documents["Service"]) == {"metrics": 9464}
    assert "tls" not in volumes_of(pod_of(documents))
    assert [c["name"] for c in documents["Pod"]["spec"]["containers"]] == ["metrics"]


def test_without_tls_and_metrics_there_is_no_service(render):
    documents = render(CHART / "ci/plaintext-values.yaml")
    assert set(documents) == {"Deployment", "ServiceAccount"}
    assert "--metrics=off" in server_of(documents)["args"]
    assert not server_of(documents)["ports"]


def test_probes_ask_over_the_socket(render):
    container = server_of(render(TLS))
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["exec"]["command"] == [
            "linchpin", "--endpoint", "unix:/run/linchpin/linchpin.sock", "--quiet", "capabilities"]
        assert container[probe]["timeoutSeconds"] < container[probe]["periodSeconds"]
    assert container["startupProbe"]["failureThreshold"] == 6


def test_threads_follow_the_request_for_cores(render):
    container = server_of(render(TLS))
    assert not any(a.startswith("--threads") for a in container["args"])
    (variable,) = container["env"]
    assert variable["name"] == "LINCHPIN_THREADS"
    assert variable["valueFrom"]["resourceFieldRef"]["resource"] == "requests.cpu"
    container = server_of(render({**TLS, "server": {"threads": 3}}))
    assert "--threads=3" in container["args"] and "env" not in container


@pytest.mark.parametrize("drain", [0, 120, 100000])
def test_a_pod_may_take_longer_than_the_drain(render, drain):
    documents = render({**TLS, "server": {"drainSeconds": drain}})
    assert pod_of(documents)["terminationGracePeriodSeconds"] > drain
    assert f"--drain-seconds={drain}" in server_of(documents)["args"]


def test_roots_are_the_mounts(render):
    documents = render({**TLS, "models": {"existingClaim": "m"}, "output": {"existingClaim": "o"}})
    container = server_of(documents)
    mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
    assert mounts["/models"]["readOnly"] is True
    assert "readOnly" not in mounts["/output"]
    assert [a for a in container["args"] if "-root=" in a] == [
        "--read-root=/models", "--write-root=/output"]
    volumes = volumes_of(pod_of(documents))
    assert volumes["models"]["persistentVolumeClaim"] == {"claimName": "m", "readOnly": True}
    assert volumes["output"]["persistentVolumeClaim"] == {"claimName": "o"}


def test_without_claims_only_scratch_and_output_exist(render):
    documents = render(TLS)
    assert [a for a in server_of(documents)["args"] if "-root=" in a] == ["--write-root=/output"]
    volumes = volumes_of(pod_of(documents))
    assert volumes["output"] == {"name": "output", "emptyDir": {"sizeLimit": "20Gi"}}
    assert "models" not in volumes


def test_every_value_of_the_full_file_arrives(render):
    documents = render(CHART / "ci/full-values.yaml")
    deployment, pod, container = documents["Deployment"], pod_of(documents), server_of(documents)
    assert deployment["metadata"]["name"] == "r-squeeze"
    assert deployment["spec"]["replicas"] == 3
    assert container["image"] == "registry.example/linchpin:1.2.3"
    assert container["imagePullPolicy"] == "Always"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    for argument in ("--slots=2", "--threads=4", "--max-memory=3GiB", "--max-artifact-bytes=2GiB",
                     "--drain-seconds=120", "--log-level=debug", "--metrics=0.0.0.0:9999",
                     "--read-root=/in", "--write-root=/out"):
        assert argument in container["args"]
    assert container["args"][-1] == "--allow-symlinks"
    assert container["resources"] == {"requests": {"cpu": 4, "memory": "8Gi"},
                                      "limits": {"memory": "8Gi"}}
    assert container["startupProbe"]["failureThreshold"] == 24
    assert container["livenessProbe"] == {**container["readinessProbe"]}
    assert container["livenessProbe"]["failureThreshold"] == 6
    assert {m["mountPath"]: m.get("subPath") for m in container["volumeMounts"]} == {
        "/run/linchpin": None, "/tmp": None, "/out": "small", "/in": "llama",
        "/etc/linchpin/tls": None, "/etc/linchpin/policy": None, "/etc/linchpin/tokens": None,
        "/etc/linchpin/storage-ca": None}
    metadata = deployment["spec"]["template"]["metadata"]
    assert metadata["annotations"]["a.example/c"] == "d" and metadata["labels"]["tier"] == "batch"
    assert pod["nodeSelector"] == {"disk": "fast"} and pod["priorityClassName"] == "batch"
    assert pod["tolerations"] and pod["affinity"] and pod["topologySpreadConstraints"]
    assert volumes_of(pod)["tmp"]["emptyDir"] == {"sizeLimit": "8Gi"}


def test_optional_objects_of_the_full_file(render):
    documents = render(CHART / "ci/full-values.yaml")
    assert documents["Service"]["spec"]["clusterIP"] == "None"
    assert ports_of(documents["Service"]) == {"grpc": 443, "metrics": 9999}
    assert documents["ServiceAccount"]["metadata"]["name"] == "squeezer"
    assert pod_of(documents)["serviceAccountName"] == "squeezer"
    assert documents["PodDisruptionBudget"]["spec"]["maxUnavailable"] == "34%"
    assert documents["ServiceMonitor"]["metadata"]["labels"]["release"] == "prometheus"
    assert documents["ServiceMonitor"]["spec"]["endpoints"] == [
        {"port": "metrics", "path": "/metrics", "interval": "15s"}]
    policy = documents["NetworkPolicy"]["spec"]
    assert policy["egress"] == [{"to": [{"namespaceSelector": {"matchLabels": {"name": "storage"}}}],
                                 "ports": [{"port": 9000}]}]
    assert [(rule["from"], rule["ports"][0]["port"]) for rule in policy["ingress"]] == [
        ([{"namespaceSelector": {"matchLabels": {"team": "models"}}}], "grpc"),
        ([{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}], "metrics")]


def test_identity_and_stores_of_the_full_file(render):
    documents = render(CHART / "ci/full-values.yaml")
    container, volumes = server_of(documents), volumes_of(pod_of(documents))
    for argument in (
            "--tls-client-names=spiffe://example/trainer", "--tls-client-names=trainer.models.svc",
            "--policy=/etc/linchpin/policy/policy.json", "--token-keys=/etc/linchpin/tokens/jwks.json",
            "--token-issuer=https://issuer.example", "--token-audience=linchpin",
            "--read-prefix=hf://meta-llama", "--read-prefix=s3://checkpoints",
            "--write-prefix=s3://compressed/llama", "--s3-endpoint=https://minio.storage:9000",
            "--s3-region=eu-west-1", "--hub-endpoint=https://hub.example", "--allow-address=10.0.0.0/8",
            "--storage-ca=/etc/linchpin/storage-ca/ca.crt", "--scratch-dir=/tmp", "--max-scratch=8Gi",
            "--push-metrics=http://pushgateway.monitoring:9091", "--idle-seconds=30"):
        assert argument in container["args"]
    assert container["envFrom"] == [{"secretRef": {"name": "squeeze-s3"}}]
    assert {name: volumes[name]["configMap"]["name"] for name in ("policy", "tokens", "storage-ca")} == {
        "policy": "squeeze-policy", "tokens": "squeeze-keys", "storage-ca": "squeeze-authorities"}


def test_nothing_of_identity_and_stores_by_default(render):
    documents = render(TLS)
    flags = {argument.split("=")[0] for argument in server_of(documents)["args"]}
    assert not flags & {"--policy", "--token-keys", "--token-issuer", "--read-prefix", "--write-prefix",
                        "--s3-endpoint", "--allow-address", "--storage-ca", "--scratch-dir",
                        "--max-scratch", "--push-metrics", "--tls-client-names"}
    assert "envFrom" not in server_of(documents)
    assert set(volumes_of(pod_of(documents))) == {"run", "tmp", "output", "tls"}


def test_tokens_need_an_issuer_and_an_audience(render):
    for lacking in ("issuer", "audience"):
        tokens = {"configMap": "keys", "issuer": "i", "audience": "a"} | {lacking: ""}
        result = render({**TLS, "identity": {"tokens": tokens}}, check=False)
        assert result.returncode != 0 and f"identity.tokens.{lacking} is required" in result.stderr


def test_network_policy_lets_the_namespace_in_and_nothing_out_by_default(render):
    policy = render({**TLS, "networkPolicy": {"enabled": True}})["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert not policy["egress"]
    assert [rule["from"] for rule in policy["ingress"]] == [[{"podSelector": {}}]] * 2


HOME = "models"  # the namespace of the release
CLIENTS = {"namespaceSelector": {"matchLabels": {"team": "models"}}}
GATEWAY = {"podSelector": {"matchLabels": {"app": "gateway"}}}
MONITORS = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}},
            "podSelector": {"matchLabels": {"app": "prometheus"}}}
STORE = {"to": [{"namespaceSelector": {"matchLabels": {"name": "storage"}}}], "ports": [{"port": 9000}]}
NAMES = {"to": [{"namespaceSelector": {}}], "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53}]}
HUB = {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}], "ports": [{"port": 443}]}
# What may be at the other end: a pod (its namespace with that one's labels, its own labels), or an address.
PEERS = [(namespace, app) for namespace in ((HOME, {}), ("a", {"team": "models"}),
                                            ("b", {"name": "monitoring"}), ("c", {"name": "storage"}))
         for app in ("gateway", "prometheus", "anything")] + ["93.184.216.34", "10.1.2.3"]


def has_labels(selector, labels):
    assert set(selector) <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


def is_peer(rule, peer):
    """Whether an entry of `from` or `to` means that peer (NetworkPolicyPeer of Kubernetes)."""
    if isinstance(peer, str):
        block = rule.get("ipBlock", {"cidr": "0.0.0.0/32"})
        inside = lambda network: ipaddress.ip_address(peer) in ipaddress.ip_network(network)
        return inside(block["cidr"]) and not any(map(inside, block.get("except", [])))
    (namespace, labels), app = peer
    if "ipBlock" in rule:
        return False
    there = (has_labels(rule["namespaceSelector"], labels) if "namespaceSelector" in rule
             else namespace == HOME)
    return there and has_labels(rule.get("podSelector", {}), {"app": app})


def allows(documents, direction, peer, port, protocol="TCP"):
    """Whether the policy lets the server's pod speak with a peer, as Kubernetes reads it."""
    template = documents["Deployment"]["spec"]["template"]
    names = {p["name"]: p["containerPort"] for p in server_of(documents)["ports"]}
    policy = documents["NetworkPolicy"]
    assert policy["metadata"]["namespace"] == HOME
    spec = policy["spec"]
    assert has_labels(spec["podSelector"], template["metadata"]["labels"])
    if direction not in spec["policyTypes"]:
        return True  # of that direction it says nothing
    ways = spec[direction.lower()] or []
    end = "from" if direction == "Ingress" else "to"
    return any((not way.get(end) or any(is_peer(rule, peer) for rule in way[end]))
               and (not way.get("ports") or any(
                   names.get(p["port"], p["port"]) == port and p.get("protocol", "TCP") == protocol
                   for p in way["ports"]))
               for way in ways)


@pytest.mark.parametrize("seed", range(6))
def test_a_pod_reaches_and_is_reached_by_those_whom_the_values_name_alone(render, seed):
    """Of random values: every peer, on the ports that are served and on others."""
    dice = random.Random(seed)
    some = lambda *choices: [choice for choice in choices if dice.random() < 0.5]
    policy = {"enabled": True, "callers": some(CLIENTS, GATEWAY), "scrapers": some(MONITORS, GATEWAY),
              "stores": some(STORE, NAMES, HUB) if seed else []}
    metrics = {"enabled": dice.random() < 0.7, "port": dice.choice([9464, 9999])}
    tls = {"enabled": dice.random() < 0.7, "secretName": "s"}
    documents = render({"networkPolicy": policy, "metrics": metrics, "tls": tls})
    served = {50051: policy["callers"] if tls["enabled"] else None,
              metrics["port"]: policy["scrapers"] if metrics["enabled"] else None}
    reached = 0
    for peer in PEERS:
        for port in {*served, 22, 8080}:
            let_in = served.get(port)
            expected = let_in is not None and any(
                is_peer(rule, peer) for rule in let_in or [{"podSelector": {}}])
            assert allows(documents, "Ingress", peer, port) == expected, (peer, port)
            assert not allows(documents, "Ingress", peer, port, "UDP")
        for port, protocol in ((443, "TCP"), (53, "UDP"), (53, "TCP"), (9000, "TCP"), (50051, "TCP")):
            expected = any(any(is_peer(rule, peer) for rule in store["to"])
                           and any(p["port"] == port and p.get("protocol", "TCP") == protocol
                                   for p in store["ports"]) for store in policy["stores"])
            assert allows(documents, "Egress", peer, port, protocol) == expected, (peer, port)
            reached += expected
    assert bool(reached) == bool(policy["stores"])


def test_headless_clients_use_the_port_of_the_pods(render):
    """Without a virtual address nothing maps the service's port to the container's."""
    documents = render(CHART / "ci/full-values.yaml")
    pod = documents["Pod"]["spec"]
    assert "--endpoint=r-squeeze.models.svc:50051" in pod["containers"][0]["args"]
    assert pod["volumes"][0]["secret"]["secretName"] == "squeeze-client"


def test_no_account_of_its_own(render):
    documents = render({**TLS, "serviceAccount": {"create": False}})
    assert "ServiceAccount" not in documents
    assert pod_of(documents)["serviceAccountName"] == "default"


def test_long_names_stay_within_dns(render):
    documents = render({**TLS, "fullnameOverride": "n" * 80})
    for document in documents.values():
        assert len(document["metadata"]["name"]) <= 63


@pytest.mark.parametrize("values, complaint", [
    ({"unknown": 1}, "unknown"),
    ({"server": {"slot": 1}}, "slot"),
    ({"tls": {"enabled": True, "secret": "x"}}, "secret"),
    ({"metrics": {"serviceMonitor": {"intervall": "30s"}}}, "intervall"),
    ({"replicaCount": "2"}, "replicaCount"),
    ({"replicaCount": -1}, "replicaCount"),
    ({"server": {"slots": 0}}, "slots"),
    ({"server": {"slots": 1.5}}, "slots"),
    ({"server": {"logLevel": "loud"}}, "logLevel"),
    ({"server": {"maxMemory": "lots"}}, "maxMemory"),
    ({"server": {"maxMemory": 1024}}, "maxMemory"),
    ({"server": {"maxMemory": "1.5GiB"}}, "maxMemory"),
    ({"server": {"extraArgs": "--x"}}, "extraArgs"),
    ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"image": {"repository": ""}}, "repository"),
    ({"service": {"type": "ExternalName"}}, "type"),
    ({"service": {"headless": True, "type": "LoadBalancer"}}, "type"),
    ({"service": {"port": 70000}}, "port"),
    ({"metrics": {"port": 80}}, "port"),
    ({"tls": {"enabled": "yes"}}, "enabled"),
    ({"tls": {"secretName": "Not A Name"}}, "secretName"),
    ({"models": {"mountPath": "models"}}, "mountPath"),
    ({"output": {"mountPath": "/a:b"}}, "mountPath"),
    ({"models": {"subPath": "../etc"}}, "subPath"),
    ({"scratch": {"sizeLimit": "much"}}, "sizeLimit"),
    ({"scratch": {"sizeLimit": "1.5Gi"}}, "sizeLimit"),
    ({"storage": {"readPrefixes": "s3://a"}}, "readPrefixes"),
    ({"storage": {"s3Endpoint": "minio:9000"}}, "s3Endpoint"),
    ({"identity": {"policy": "x"}}, "policy"),
    ({"metrics": {"pushGateway": "gateway"}}, "pushGateway"),
    ({"podDisruptionBudget": {"maxUnavailable": "half"}}, "maxUnavailable"),
    ({"podLabels": {"a": 1}}, "podLabels"),
    ({"resources": {"limit": {}}}, "limit"),
])
def test_the_schema_refuses(render, values, complaint):
    merged = {**TLS, **values}
    result = render(merged, check=False)
    assert result.returncode != 0, "was accepted"
    assert "schema" in result.stderr and complaint in result.stderr, result.stderr


def keys_of(value, prefix=()):
    """Every path of keys in nested dicts."""
    for key, inner in value.items():
        yield (*prefix, key)
        if isinstance(inner, dict):
            yield from keys_of(inner, (*prefix, key))


def schema_keys(schema, prefix=()):
    for key, inner in schema.get("properties", {}).items():
        yield (*prefix, key)
        yield from schema_keys(inner, (*prefix, key))


def test_schema_and_values_name_the_same_things():
    values = set(keys_of(yaml.safe_load((CHART / "values.yaml").read_text())))
    schema = set(schema_keys(json.loads((CHART / "values.schema.json").read_text())))
    free = {("global",), ("resources", "claims")}
    values = {v for v in values if v[0] != "resources" or len(v) < 3}
    assert values == schema - free


def test_the_schema_is_closed_wherever_it_names_keys():
    def check(schema, path="values"):
        if "properties" in schema and schema.get("type") == "object":
            assert schema.get("additionalProperties") is False, path
        for key, inner in schema.get("properties", {}).items():
            check(inner, f"{path}.{key}")
    check(json.loads((CHART / "values.schema.json").read_text()))


def test_every_value_is_commented():
    """Each key stands under a comment, or under a neighbour of one."""
    commented = {}
    for number, line in enumerate((CHART / "values.yaml").read_text().splitlines(), 1):
        indent = len(line) - len(line.lstrip())
        if not line.strip():
            commented = {}
        elif line.lstrip().startswith("#"):
            commented[indent] = True
        else:
            nested = line.rstrip().endswith(":")
            known = any(commented.get(i) for i in range(indent + 1))
            assert nested or known, f"values.yaml:{number}: {line.strip()} has no comment"

def test_arguments_are_options_of_the_server(render):
    options = (ROOT / "server/option_table.cc").read_text()
    for path in VALUE_FILES:
        for argument in server_of(render(path))["args"]:
            flag = re.match(r"--[a-z0-9-]+", argument).group(0)
            assert f'", "{flag[2:]}", "' in options, f"{flag} is no option of the server"
