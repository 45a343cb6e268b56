"""The rehearsal of the full study has the jobs of the full study; `make rehearse STUDY=full` runs them."""

import pytest

from frugal.config.study import dump_yaml, read_study
from frugal.config.yaml_files import read_yaml
from frugal.rehearsal.server import Site
from frugal.rehearsal.study import rehearse

pytestmark = pytest.mark.workflow


def test_the_rehearsal_has_the_jobs_of_the_study(checkout):
    file = checkout.folder / "config/full.yaml"
    rehearsal = rehearse(read_study(file), read_yaml(file), Site(), "http://127.0.0.1:1")
    (checkout.folder / "config/rehearsal.yaml").write_text(dump_yaml(rehearsal.config), encoding="utf-8")
    jobs = checkout.plan("config/full.yaml")
    assert jobs.pop("check_machine") == 3  # on GPUs alone: one for each environment
    assert checkout.plan("config/rehearsal.yaml") == jobs
    assert sum(jobs.values()) > 100
