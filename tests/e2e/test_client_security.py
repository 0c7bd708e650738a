"""What the command line sends to a server that is not on this machine: TLS, and a token inside it alone.

Seen on the wire, by somebody who listens there and is no server; and with a server whose certificate is wrong.
"""

import os

import pytest

from conftest import CommandLine, Server
from support.listening_stranger import ListeningStranger
from support.name_server import NameServer
from support.tls_files import Authority

NAME = "compression.example.org"
TOKEN = b"PLANTED-TOKEN-OF-A-CALLER"
# The first bytes of TLS: a handshake record, of which the first message is a ClientHello.
HANDSHAKE, CLIENT_HELLO = 0x16, 0x01
PLAINTEXT = b"PRI * HTTP/2.0\r\n"
COMMANDS = ["capabilities", "detect", "compress", "upload"]


@pytest.fixture(name="token_file")
def token_file_fixture(tmp_path):
    (tmp_path / "token").write_bytes(TOKEN + b"\n")
    return tmp_path / "token"


@pytest.fixture(name="names", scope="module")
def names_fixture():
    """A name server that says of every name that it is this machine."""
    with NameServer(["127.0.0.1"]) as names:
        yield names


@pytest.fixture(name="arguments")
def arguments_fixture(demo_model, tmp_path):
    """arguments(command): of a call of that kind, whose output would be tmp_path/out."""
    return {"capabilities": ["capabilities"], "detect": ["detect", demo_model],
            "compress": ["compress", demo_model, tmp_path / "out"],
            "upload": ["compress", demo_model, tmp_path / "out", "--upload"]}.get


def endpoints(names, port):
    """Ways to name a port of this machine that do not say that it is this machine's."""
    return {"name": f"dns://{names.address}/{NAME}:{port}", "any": f"0.0.0.0:{port}",
            "list": f"ipv4:127.0.0.1:{port},0.0.0.0:{port}", "mapped": f"ipv6:[::ffff:127.0.0.1]:{port}"}


def of_all(stranger):
    """What came over each connection over which something came."""
    return [bytes(each) for each in stranger.heard if each]


@pytest.mark.parametrize("endpoint", ["name", "any", "list", "mapped"])
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_not_local_hears_tls_and_no_token(names, token_file, arguments, tmp_path, command, endpoint):
    """Without a word of TLS on the command line."""
    with ListeningStranger(enough=TOKEN) as stranger:
        finished = CommandLine("--quiet", "--endpoint", endpoints(names, stranger.port)[endpoint],
                               "--token-file", token_file).run(*arguments(command))
    assert finished.code == 75, finished.err
    assert finished.error.endswith("[UNAVAILABLE]")
    assert TOKEN.decode() not in finished.err
    heard = of_all(stranger)
    assert heard and all((each[0], each[5]) == (HANDSHAKE, CLIENT_HELLO) for each in heard), heard
    assert all(TOKEN not in each for each in heard)
    # Whom it wants to speak to, as names alone say.
    assert all((NAME.encode() in each) == (endpoint == "name") for each in heard)
    assert not (tmp_path / "out").exists()


def test_what_is_local_hears_plaintext(token_file):
    """The same listener hears a token where one is sent in clear."""
    with ListeningStranger(enough=TOKEN) as stranger:
        finished = CommandLine("--quiet", "--endpoint", f"localhost:{stranger.port}", "--token-file",
                               token_file).run("capabilities")
    assert finished.code == 75, finished.err
    heard = of_all(stranger)
    assert any(TOKEN in each for each in heard)
    assert all(each.startswith(PLAINTEXT) for each in heard)


@pytest.mark.parametrize("option", ["--tls-ca", "--tls-cert"])
def test_what_is_local_hears_tls_where_a_file_of_tls_is_named(authority, token_file, option):
    certificate, key = authority.sign("caller")
    files = {"--tls-ca": ["--tls-ca", authority.certificate],
             "--tls-cert": ["--tls-cert", certificate, "--tls-key", key]}[option]
    with ListeningStranger(enough=TOKEN) as stranger:
        finished = CommandLine("--quiet", "--endpoint", f"127.0.0.1:{stranger.port}", "--token-file",
                               token_file, *files).run("capabilities")
    assert finished.code == 75, finished.err
    heard = of_all(stranger)
    assert heard and all((each[0], each[5]) == (HANDSHAKE, CLIENT_HELLO) for each in heard), heard
    assert all(TOKEN not in each for each in heard)


@pytest.fixture(name="authority", scope="module")
def authority_fixture(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(name="other_authority", scope="module")
def other_authority_fixture(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("other"), "other")


@pytest.fixture(name="servers", scope="module")
def servers_fixture(tmp_path_factory, authority):
    """{what is wrong with its certificate: a server that reads and writes where the tests do}."""
    folder = tmp_path_factory.mktemp("servers")

    def start(what, *certificate):
        certificate, key = authority.sign(what.replace(" ", "-"), *certificate)
        return Server(folder / f"{what}.log", "--read-root", "/", "--write-root",
                      tmp_path_factory.getbasetemp(), "--tls-cert", certificate, "--tls-key", key)

    servers = {"nothing": start("nothing", f"DNS:{NAME}"), "name": start("name", "DNS:other.example.org"),
               "end": start("end", f"DNS:{NAME}", -1)}
    yield servers
    for server in servers.values():
        server.stop()


def jobs(server):
    """How many jobs it had."""
    return sum(value for name, value in server.metrics().items() if name.startswith("linchpin_jobs_total"))


def call(names, server, token_file, *options):
    port = server.endpoint.rsplit(":", 1)[1]
    return CommandLine("--quiet", "--endpoint", f"dns://{names.address}/{NAME}:{port}", "--token-file",
                       token_file, *options)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_with_the_right_certificate_is_spoken_to(names, servers, authority, token_file, arguments,
                                                          command):
    """What follows differs from this in one thing each."""
    linchpin = call(names, servers["nothing"], token_file, "--tls-ca", authority.certificate)
    finished = linchpin.run(*arguments(command))
    assert finished.code == 0, finished.err


@pytest.mark.parametrize("wrong, says", [
    ("authority", "certificate verify failed"), ("name", "not in peer certificate"),
    ("end", "certificate verify failed")])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_with_a_wrong_certificate_is_told_nothing(names, servers, authority, other_authority,
                                                           token_file, arguments, tmp_path, command, wrong, says):
    server = servers["nothing" if wrong == "authority" else wrong]
    roots = other_authority if wrong == "authority" else authority
    before = jobs(server)
    finished = call(names, server, token_file, "--tls-ca", roots.certificate).run(*arguments(command))
    assert finished.code == 75, finished.err
    assert finished.error.endswith("[UNAVAILABLE]")
    # The cause as gRPC has it, the place, and what to look at.
    assert says in finished.error, finished.error
    assert NAME in finished.error
    assert "check that a linchpin-server listens there and speaks TLS" in finished.error
    assert not (tmp_path / "out").exists()
    assert jobs(server) == before


def test_without_an_authority_named_those_of_the_system_count(names, servers, authority, token_file):
    """gRPC's own variable tells it where they are."""
    linchpin = call(names, servers["nothing"], token_file)
    refused = linchpin.run("capabilities")
    assert refused.code == 75 and "certificate verify failed" in refused.error, refused.err
    trusted = os.environ | {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(authority.certificate)}
    assert linchpin.run("capabilities", env=trusted).code == 0


def test_a_connection_that_fails_is_one_line_of_stderr(names, servers, authority, token_file):
    """gRPC logs beside it only for who asks."""
    linchpin = call(names, servers["end"], token_file, "--tls-ca", authority.certificate)
    assert len(linchpin.run("capabilities").err.splitlines()) == 1
    asked = linchpin.run("capabilities", env=os.environ | {"GRPC_VERBOSITY": "error"})
    assert len(asked.err.splitlines()) > 1
