"""``python -m mtl_new KIND NAME``: the command without ``mtl``."""

import sys

from mtl_core import MtlError
from mtl_new.commands import app

try:
    app()
except MtlError as error:
    print(f"mtl: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
