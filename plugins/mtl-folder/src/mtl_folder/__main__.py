"""``python -m mtl_folder init FOLDER``: the commands without ``mtl``."""

from mtl_folder.commands import main

main()
