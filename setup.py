"""Makes the source archive the same bytes each time, as the wheel is: what is built from one commit can be compared.

Everything else about the package is in pyproject.toml. setuptools writes the files' times, owners and modes into the
archive, and the hour into its head; with SOURCE_DATE_EPOCH these are that time, nobody, and 0644 or 0755.
"""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path

from setuptools import setup
from setuptools.command.sdist import sdist

EXECUTABLE = 0o100


class ReproducibleSdist(sdist):
    """An sdist whose archive depends on nothing but what is in its files, where SOURCE_DATE_EPOCH is set."""

    def make_archive(
        self,
        base_name: str,
        format: str,  # noqa: A002  as the overridden one calls it
        root_dir: str | None = None,
        base_dir: str | None = None,
        **owner: str | None,
    ) -> str:
        """Write the archive of the folder `base_dir`, as `.tar.gz`, and give its path."""
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        if epoch is None or format != "gztar" or base_dir is None:
            return super().make_archive(base_name, format, root_dir, base_dir, **owner)
        path = f"{base_name}.tar.gz"

        def plain(item: tarfile.TarInfo) -> tarfile.TarInfo:
            item.mtime = int(epoch)
            item.uid = item.gid = 0
            item.uname = item.gname = ""
            item.mode = 0o755 if item.isdir() or item.mode & EXECUTABLE else 0o644
            return item

        with (
            Path(path).open("wb") as file,
            gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=int(epoch)) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(base_dir, filter=plain)  # in the order of the names
        return path


setup(cmdclass={"sdist": ReproducibleSdist})
