"""Whether a plugin keeps its promises, and whether an installation works."""

from mtl_check.findings import Findings
from mtl_check.plugin import check_kind, check_plugin

__all__ = ["Findings", "check_kind", "check_plugin"]
