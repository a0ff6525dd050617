"""Puts the papers and the shipped assets into a built package; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CARRIED = ("papers/*/*.yml", "papers/*/*.ipynb", "data/*/**/*")  # by their place below shared/_repository
LEFT = {"cache", "__pycache__"}


class WithRepository(build_py):
    """Carry cards, notebooks and assets, for `shared.compendium.paths` to find outside a checkout."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # then they are where they are
            return
        folder = Path(self.build_lib) / "shared" / "_repository"
        shutil.rmtree(folder, ignore_errors=True)
        for path in (path for pattern in CARRIED for path in sorted(Path().glob(pattern))):
            if path.is_file() and not LEFT & set(path.parts):
                (folder / path.parent).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / path)


setup(cmdclass={"build_py": WithRepository})
