"""What is decided of a cluster before there is one."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.engines import run, write_case

from camreport.errors import InputError
from camreport.pipeline.engines.on_ray import Share, connected, share_of
from camreport.settings import Settings


def nodes(*resources: tuple[float, float]) -> list[dict[str, Any]]:
    """Return machines with processors and GPUs, as Ray lists them, and one that is gone."""
    there = [{"CPU": cpus, "GPU": gpus} for cpus, gpus in resources]
    gone = {"Alive": False, "Resources": {"CPU": 99, "GPU": 9}}
    return [*({"Alive": True, "Resources": own} for own in there), gone]


@pytest.mark.parametrize(
    ("machines", "workers", "with_gpu", "share"),
    [
        ([(32, 4), (32, 4)], None, True, Share(8, 8, 1)),
        ([(32, 4), (6, 2), (16, 0)], None, True, Share(6, 3, 1)),
        ([(2, 4)], None, True, Share(4, 1, 1)),
        ([(32, 4)], 2, True, Share(2, 8, 1)),
        ([(16, 0)], None, False, Share(1, 16, 0)),
        ([(16, 0), (8, 0), (0, 0)], None, False, Share(2, 8, 0)),
        ([(4, 0), (4, 0)], 3, False, Share(3, 2, 0)),
        ([(5, 0), (5, 0)], 3, False, Share(3, 2, 0)),
        ([(2, 0)], 5, False, Share(5, 1, 0)),
    ],
)
def test_workers_share_machines(
    machines: list[tuple[float, float]], workers: int | None, with_gpu: bool, share: Share
) -> None:
    assert share_of(nodes(*machines), workers, with_gpu) == share


def test_without_ray_the_user_learns_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    case = write_case(tmp_path / "case")
    with pytest.raises(InputError, match=r"pip install 'camreport\[ray\]'"):
        run(case / "out", on="ray", evidence="off")
    assert not (case / "out").exists()
    assert run(case / "out", evidence="off").total == 8, "nothing else needs it"


def test_a_cluster_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match=r"on: expected ray or ray:local, got 'spark'"):
        Settings(on="spark")


@pytest.mark.slow
def test_without_a_cluster_the_user_learns_how_to_start_one(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    code = (  # without the clusters that other tests of this machine have started meanwhile
        "from functools import lru_cache; from ray._private import services\n"
        "services.find_gcs_addresses = lru_cache(lambda: set())\n"
        "from camreport.pipeline.engines.on_ray import connected\nwith connected('ray'): pass"
    )
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment["RAY_TMPDIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert "InputError: on: expected a Ray cluster that runs, found none" in done.stderr
    assert "ray start --head" in done.stderr
    assert "ray start --address=HOST:6379" in done.stderr


class Asked:
    """Ray, as far as it is asked for a cluster that it does not find."""

    def __init__(self) -> None:
        self.times = 0

    def is_initialized(self) -> bool:
        """Say that no cluster is joined yet."""
        return False

    def init(self, **_given: object) -> None:
        """Count the attempt; nobody answers."""
        self.times += 1
        raise ConnectionError

    def shutdown(self) -> None:
        """Leave nothing."""


def test_an_address_where_nobody_answers_is_refused_before_ray_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Asked()
    monkeypatch.setitem(sys.modules, "ray", asked)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # which nobody else gets, and nobody listens at
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(InputError, match=f"at {address}.*found none"), connected("ray"):
            pass
        assert asked.times == 0
        taken.listen()
        with pytest.raises(InputError, match=f"at {address}, as RAY_ADDRESS"), connected("ray"):
            pass
    assert asked.times == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ray_looks_once_for_a_cluster_that_does_not_answer() -> None:
    pytest.importorskip("ray")
    code = (
        "from ray._private import node\n"
        "node.GcsClient = lambda **given: (print('asked'), 1 / 0)\n"
        "from camreport.pipeline.engines.on_ray import connected\nwith connected('ray'): pass"
    )
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        own = {"RAY_ADDRESS": f"127.0.0.1:{mute.getsockname()[1]}"}
        words = [sys.executable, "-c", code]
        done = subprocess.run(
            words, capture_output=True, text=True, env=os.environ | own, check=False
        )
    assert done.stdout == "asked\n"
    assert "InputError: on: expected a Ray cluster that runs at 127.0.0.1" in done.stderr


def test_connecting_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def is_initialized(self) -> bool:
            return False

        def init(self, **_given: object) -> None:
            assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
            raise ConnectionError

        def shutdown(self) -> None:
            pass

    monkeypatch.setitem(sys.modules, "ray", Refusing())
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    with pytest.raises(InputError, match="found none"), connected("ray"):
        pass
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ
