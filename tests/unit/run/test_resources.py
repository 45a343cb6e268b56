"""Cores and memory that a process may use: made cgroup trees, and a real cgroup where one can be had."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from frugal.run.resources import free_memory_mb, memory_limit_mb, usable_cores

GB = 2**30
NO_LIMIT_V1 = "9223372036854771712"
V1_MOUNTS = (
    "34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
)
V2_MOUNT = "41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"


def machine(root: Path, cgroup: str, mounts: str, files: dict[str, str], available_gb: float = 14) -> Path:
    """A root folder with 16 GB of memory; ``files`` are below /sys/fs/cgroup."""
    texts = {
        "proc/meminfo": f"MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable: {int(available_gb * 2**20)} kB\n",
        "proc/self/cgroup": cgroup,
        "proc/self/mountinfo": f"22 27 0:21 / /proc rw,nosuid - proc proc rw\n{mounts}",
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_cgroups_the_machine_is_the_limit(tmp_path):
    root = machine(tmp_path, "0::/\n", V2_MOUNT, {"cgroup.procs": ""})
    assert usable_cores(root, cores=8) == 8
    assert memory_limit_mb(root) == 16 * 1024
    assert free_memory_mb(root) == 14 * 1024


def test_a_container_with_two_cpus_of_64(tmp_path):
    """Version 2 in a cgroup namespace: the container's own cgroup is the root."""
    files = {
        "cpu.max": "200000 100000\n",
        "memory.max": f"{8 * GB}\n",
        "memory.current": f"{3 * GB}\n",
        "memory.stat": f"anon {GB}\nfile {2 * GB}\ninactive_file {GB}\nactive_file {GB}\n",
    }
    root = machine(tmp_path, "0::/\n", V2_MOUNT, files)
    assert usable_cores(root, cores=64) == 2
    assert memory_limit_mb(root) == 8 * 1024
    assert free_memory_mb(root) == 6 * 1024  # 8 - 3, and 1 of file cache that is given up on demand


def test_the_tightest_of_nested_groups_holds(tmp_path):
    files = {
        "user/cpu.max": "300000 100000",
        "user/job/cpu.max": "max 100000",
        "user/job/step/cpu.max": "800000 100000",
        "user/memory.max": f"{4 * GB}",
        "user/memory.current": f"{3 * GB}",
        "user/job/memory.max": "max",
        "user/job/memory.current": f"{2 * GB}",
        "user/job/step/memory.max": f"{6 * GB}",
        "user/job/step/memory.high": f"{5 * GB}",
        "user/job/step/memory.current": f"{GB}",
    }
    root = machine(tmp_path, "0::/user/job/step\n", V2_MOUNT, files)
    assert usable_cores(root, cores=64) == 3
    assert memory_limit_mb(root) == 4 * 1024
    assert free_memory_mb(root) == 1024  # of the outermost; the step itself has 4 of 5 GB left


def test_version_1_in_docker_without_a_namespace(tmp_path):
    """The mount shows the container's cgroup, /proc/self/cgroup the path on the host."""
    mounts = (
        "34 31 0:31 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
    )
    files = {
        "cpu,cpuacct/cpu.cfs_quota_us": "150000",
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": f"{2 * GB}",
        "memory/memory.usage_in_bytes": f"{GB}",
        "memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {GB // 2}",
        "memory/inner/memory.limit_in_bytes": f"{3 * GB}",
        "memory/inner/memory.usage_in_bytes": f"{GB // 4}",
    }
    cgroup = "5:memory:/docker/abc/inner\n2:cpu,cpuacct:/docker/abc\n0::/\n"
    root = machine(tmp_path, cgroup, mounts, files)
    assert usable_cores(root, cores=64) == 1
    assert memory_limit_mb(root) == 2 * 1024
    assert free_memory_mb(root) == 1536
    # A path outside of what is mounted: the mounted cgroup is the nearest that is known.
    (root / "proc/self/cgroup").write_text("5:memory:/elsewhere\n2:cpu,cpuacct:/../..\n")
    assert (usable_cores(root, cores=64), memory_limit_mb(root)) == (1, 2 * 1024)


def test_version_1_without_limits(tmp_path):
    files = {
        "cpu,cpuacct/cpu.cfs_quota_us": "-1",
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": NO_LIMIT_V1,
        "memory/memory.usage_in_bytes": f"{GB}",
    }
    root = machine(tmp_path, "5:memory:/\n2:cpu,cpuacct:/\n", V1_MOUNTS, files)
    assert usable_cores(root, cores=4) == 4
    assert (memory_limit_mb(root), free_memory_mb(root)) == (16 * 1024, 14 * 1024)


def test_a_full_cgroup_has_nothing_free(tmp_path):
    files = {"memory.max": f"{GB}", "memory.current": f"{GB + 4096}", "cpu.max": "1000 100000"}
    root = machine(tmp_path, "0::/", V2_MOUNT, files)
    assert free_memory_mb(root) == 0
    assert usable_cores(root, cores=4) == 1


@pytest.mark.parametrize("text", ["", "-5", "0", "many", "1e9", "9" * 5000, "\x00\x00"])
def test_absurd_memory_limits_are_ignored_with_a_warning(tmp_path, text):
    root = machine(tmp_path, "0::/", V2_MOUNT, {"memory.max": text, "memory.current": "1"})
    with pytest.warns(UserWarning, match=r"memory\.max: .* is no limit") as caught:
        assert memory_limit_mb(root) == 16 * 1024
    assert len(caught) == 1
    with pytest.warns(UserWarning, match=r"memory\.max"):
        assert free_memory_mb(root) == 14 * 1024


@pytest.mark.parametrize("text", ["", "0 100000", "-1 100000", "max", "200000", "200000 0", "a b", "200000 100000 7"])
def test_absurd_quotas_are_ignored_with_a_warning(tmp_path, text):
    root = machine(tmp_path, "0::/", V2_MOUNT, {"cpu.max": text})
    if text == "max":  # without a period: no limit all the same
        assert usable_cores(root, cores=4) == 4
        return
    with pytest.warns(UserWarning, match=r"cpu\.max: .* is no limit"):
        assert usable_cores(root, cores=4) == 4


@pytest.mark.parametrize(("quota", "period"), [("0", "100000"), ("-2", "100000"), ("", "100000"), ("200000", None)])
def test_absurd_quotas_of_version_1(tmp_path, quota, period):
    files = {"cpu,cpuacct/cpu.cfs_quota_us": quota} | ({"cpu,cpuacct/cpu.cfs_period_us": period} if period else {})
    root = machine(tmp_path, "2:cpu,cpuacct:/\n", V1_MOUNTS, files)
    with pytest.warns(UserWarning, match=r"cpu\.cfs_quota_us"):
        assert usable_cores(root, cores=4) == 4


def test_files_that_cannot_be_read(tmp_path):
    root = machine(tmp_path, "0::/", V2_MOUNT, {"memory.current": "1"})
    (root / "sys/fs/cgroup/memory.max").mkdir()  # also root cannot read a folder as a file
    with pytest.warns(UserWarning, match=r"memory\.max: cannot be read \(Is a directory\)"):
        assert memory_limit_mb(root) == 16 * 1024


def test_a_use_that_is_not_known_counts_as_none(tmp_path):
    root = machine(tmp_path, "0::/", V2_MOUNT, {"memory.max": f"{2 * GB}", "memory.current": "lots"})
    with pytest.warns(UserWarning, match=r"memory\.current"):
        assert free_memory_mb(root) == 2 * 1024


def test_a_limit_above_the_machine_is_none(tmp_path):
    root = machine(tmp_path, "0::/", V2_MOUNT, {"memory.max": f"{64 * GB}", "memory.current": f"{15 * GB}"})
    assert (memory_limit_mb(root), free_memory_mb(root)) == (16 * 1024, 14 * 1024)


@pytest.mark.parametrize(
    ("cgroup", "mounts"),
    [("", ""), ("nonsense\n\n::\n", "nonsense\n - cgroup2\n1 2 - cgroup cgroup rw,memory\n"), ("0::/gone", V2_MOUNT)],
)
def test_broken_lists_of_cgroups(tmp_path, cgroup, mounts):
    root = machine(tmp_path, cgroup, mounts, {})
    assert usable_cores(root, cores=4) == 4
    assert free_memory_mb(root) == 14 * 1024


def test_without_proc_nothing_is_known(tmp_path):
    assert usable_cores(tmp_path, cores=3) == 3
    assert (memory_limit_mb(tmp_path), free_memory_mb(tmp_path)) == (None, None)


def test_this_machine():
    assert 1 <= usable_cores() <= os.cpu_count()
    assert 0 < free_memory_mb() <= memory_limit_mb()


REPORT = """
from frugal.run.resources import free_memory_mb, memory_limit_mb, usable_cores
print(usable_cores(cores=64), memory_limit_mb(), free_memory_mb())
"""


def made_cgroup(controller: str) -> Path:
    """A new cgroup below this process's own, where one can be made."""
    paths = dict(line.split(":")[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    v1 = Path(f"/sys/fs/cgroup/{controller}")
    base = v1 / paths.get(controller, "").lstrip("/") if v1.is_dir() else Path("/sys/fs/cgroup") / paths[""].lstrip("/")
    folder = base / f"frugal-test-{os.getpid()}"
    folder.mkdir()
    return folder


def test_a_real_cgroup():
    """A process in a cgroup of 512 MB and one and a half CPUs reports these."""
    folders = {}
    try:
        for controller, limits in {
            "memory": {"memory.limit_in_bytes": 512 * 2**20, "memory.max": 512 * 2**20},
            "cpu": {"cpu.cfs_quota_us": 150_000, "cpu.max": "150000 100000"},
        }.items():
            try:
                folders[controller] = made_cgroup(controller)
                for name, limit in limits.items():
                    if (folders[controller] / name).exists():
                        (folders[controller] / name).write_text(str(limit))
                        break
                else:
                    pytest.skip(f"the {controller} controller is not delegated to this process's cgroup")
            except (OSError, KeyError, ValueError) as error:
                pytest.skip(f"no cgroup can be made here: {error}")
        join = "; ".join(f"echo $$ > {folder}/cgroup.procs" for folder in folders.values())
        result = subprocess.run(
            ["bash", "-c", f'set -e; {join}; exec "$0" -c "$1"', sys.executable, REPORT],
            env={**os.environ, "PYTHONPATH": "workflow/scripts"},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        cores, limit, free = map(int, result.stdout.split())
        assert (cores, limit) == (1, 512)
        assert 450 < free < 512
    finally:
        for folder in folders.values():
            folder.rmdir()
