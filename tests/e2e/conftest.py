"""What the tests share: the simulated model server, and for each kind of database one Open WebUI with our gateway."""

import os
import signal
from collections.abc import Iterator

import pytest

import gateway as gateways
import open_webui as servers
from databases import KINDS, Database, fresh_database
from gateway import Gateway
from open_webui import OpenWebUI
from processes import PROGRAMS, Program
from tracked import Tracked, tracking
from upstream import Upstream

# A time limit on the tests ends what they started, too.
signal.signal(signal.SIGTERM, signal.default_int_handler)
SECRET = "a-signing-secret-for-tests-of-32-bytes"


@pytest.fixture(scope="session")
def simulator(tmp_path_factory) -> Iterator[str]:
    """The address of a simulated model server, without the path of a format."""
    log = tmp_path_factory.mktemp("simulator") / "simulator.log"
    program = Program([PROGRAMS / "simulated-provider"], dict(os.environ), log)
    yield program.address()
    program.stop()


@pytest.fixture(scope="session", params=KINDS)
def database(request, tmp_path_factory) -> Iterator[Database]:
    with fresh_database(request.param, tmp_path_factory.mktemp(request.param)) as made:
        yield made


@pytest.fixture(scope="session")
def open_webui(database: Database) -> Iterator[OpenWebUI]:
    """A server that signs its user header."""
    with servers.running(database, FORWARD_USER_INFO_HEADER_JWT_SECRET=SECRET) as server:
        yield server


@pytest.fixture(scope="session")
def gateway(open_webui: OpenWebUI, database: Database, simulator: str) -> Iterator[Gateway]:
    """Our gateway as Open WebUI's connection."""
    with gateways.serving(database, f"{simulator}/v1", SECRET) as served:
        open_webui.connect(served.url, gateways.KEY, headers=gateways.HEADERS)
        for model in gateways.SHARED:
            open_webui.add_model(model)
        yield served


@pytest.fixture(scope="session")
def upstream(simulator: str) -> Upstream:
    """What that server got."""
    return Upstream(simulator)


@pytest.fixture(scope="session")
def tracked(open_webui: OpenWebUI, upstream: Upstream) -> Iterator[Tracked]:
    """The tracked pipes in that Open WebUI."""
    with tracking(open_webui, upstream) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows the end of the logs; the logs themselves stay in pytest's temporary folder."""
    report = yield
    if report.failed:
        for name in ("open_webui", "gateway"):
            if name in item.funcargs:
                program = item.funcargs[name].program
                report.sections.append((f"{program.log}", program.tail()))
    return report
