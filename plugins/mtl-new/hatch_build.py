"""Put the repository's templates into the wheel, as ``mtl_new/templates``.

They lie at the top of the repository, where ``copier copy templates`` finds them, or beside this file in a source
distribution.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Templates(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling before each build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        places = [Path(self.root) / "templates", Path(self.root).parents[1] / "templates"]
        found = next((place for place in places if (place / "copier.yml").is_file()), None)
        if found is None:
            raise FileNotFoundError(f"no templates: expected copier.yml in {' or in '.join(map(str, places))}")
        if version != "editable":  # an editable install reads them where they are
            inside = "templates" if self.target_name == "sdist" else "mtl_new/templates"
            build_data["force_include"][str(found)] = inside
