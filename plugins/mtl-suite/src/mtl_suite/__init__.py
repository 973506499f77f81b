"""Suites: experiments × scenarios × seeds, run by submitit, put together as a table."""

from mtl_suite.engine import run_suite
from mtl_suite.jobs import Job
from mtl_suite.plan import Suite, load_suite
from mtl_suite.results import collect

__all__ = ["Job", "Suite", "collect", "load_suite", "run_suite"]
