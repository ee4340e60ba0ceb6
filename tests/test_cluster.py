"""Ray: two nodes on this machine give the very files that local processes give, also when one of them is lost."""

import math
import os
import sys
import time
from pathlib import Path

import pytest

from tests.tiny import TINY
from wmlib import parallel
from wmlib.collect import collect
from wmlib.run import Run

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install ray")


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> dict[str, bytes]:
    """The episodes that local processes collect."""
    folder = tmp_path_factory.mktemp("local")
    list(collect(Run(folder, TINY)))
    parallel.stop()
    return contents(folder)


@pytest.fixture(scope="module")
def cluster(local):
    """A head and a second node, one core each."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    parallel.use_cluster(nodes.address)
    yield nodes
    parallel.stop()
    nodes.shutdown()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "episodes").iterdir()}


def node_of(_) -> str:
    time.sleep(0.2)  # else one node does it all
    return ray.get_runtime_context().get_node_id()


def test_jobs_run_on_both_nodes_and_their_errors_reach_the_caller(cluster):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    assert len(set(parallel.run(node_of, [(i,) for i in range(20)]))) == 2
    results = parallel.run(math.sqrt, [(4,), (-1,), (9,)])
    assert next(results) == 2
    with pytest.raises(ValueError, match="math domain error|nonnegative"):
        next(results)
    with pytest.raises(RuntimeError, match="the cluster lost job 0 four times"):
        list(parallel.run(os.abort, [()]))


def test_a_cluster_collects_the_same_episodes_and_a_lost_node_costs_none(cluster, local, tmp_path):
    list(collect(Run(tmp_path / "whole", TINY)))
    assert contents(tmp_path / "whole") == local
    halved = collect(Run(tmp_path / "halved", TINY))
    next(halved)
    cluster.remove_node(cluster.worker_nodes.copy().pop())
    assert [done for done, _ in halved] == list(range(2, TINY.collect.episodes + 1))
    assert contents(tmp_path / "halved") == local


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:many"])
def test_an_address_without_a_cluster_is_one_line(address):
    with pytest.raises(RuntimeError, match="no Ray cluster answers at"):
        parallel.use_cluster(address)
