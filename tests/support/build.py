"""Where the programs are that the tests run, and the tools of the tests' own.

LINCHPIN_BUILD  the build directory; default build/release, else build/dev, whichever has the tests' tools
LINCHPIN_BIN    folder of linchpin and linchpin-server; default bin/ of build/release, else of build/dev
"""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILDS = [ROOT / "build/release", ROOT / "build/dev"]


def binaries():
    """The folder of linchpin and linchpin-server."""
    given = os.environ.get("LINCHPIN_BIN")
    places = [pathlib.Path(given)] if given else [build / "bin" for build in BUILDS]
    return next((place for place in places if (place / "linchpin-server").exists()), places[0])


def tool(name):
    """A program of tests/support or of the unit tests, by name."""
    given = os.environ.get("LINCHPIN_BUILD")
    builds = [ROOT / given] if given else BUILDS
    places = [build / "tests" / name for build in builds]
    return next((place for place in places if place.exists()), places[0])
