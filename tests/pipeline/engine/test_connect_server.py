"""The address of a Spark Connect server is tested before pyspark waits for it."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import contract
from pipeline.contract import Refused, Settings
from pipeline.engine.connect_server import ServerAway, require_answer

AWAY = "sc://127.0.0.1:1"


def test_a_server_that_listens_is_found_and_its_parameters_stay_secret() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"sc://127.0.0.1:{server.getsockname()[1]}"
        assert require_answer(f"{address}/;token=secret") == f"{address}/"


@pytest.mark.parametrize("remote", [AWAY, "sc://127.0.0.1:notaport", "sc://"])
def test_a_server_that_is_away_is_one_sentence_with_the_next_step(remote: str) -> None:
    with pytest.raises(ServerAway, match=rf"^connect: {re.escape(remote)} does not answer \(.+\); start the server or"):
        require_answer(f"{remote};token=secret")


@pytest.mark.long
def test_a_worker_whose_server_is_away_refuses_at_once_and_may_try_again(tmp_path: Path) -> None:
    ours, its = socket.socketpair()
    command = [sys.executable, "-m", "pipeline", "--fd", str(its.fileno())]
    with ours, its, subprocess.Popen(command, pass_fds=[its.fileno()], stderr=subprocess.DEVNULL) as worker:
        its.close()
        ours.settimeout(30)
        settings = Settings(lake_path=str(tmp_path / "lake"), engine="connect", remote=AWAY)
        ours.sendall((contract.to_json(settings) + "\n").encode())
        answer = contract.from_json(ours.makefile("r").readline())
        assert worker.wait(30) == 1
    assert isinstance(answer, Refused)
    assert (answer.retryable, answer.reason.startswith(f"connect: {AWAY} does not answer (")) == (True, True)
