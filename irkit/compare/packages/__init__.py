"""Package databases of an image and of a container: who owns a file, does it still match, what was installed since.

``read_packages(files)`` gives one side's :class:`Packages`; :func:`judge`, :func:`find_copy` and
:func:`compare_packages` hold two sides against each other.  :data:`DATABASE_PATHS` says which of an image's files have
to be kept so that all this works without the image.
"""

from irkit.compare.packages.judge import compare_packages, find_copy, judge
from irkit.compare.packages.model import Installed, Ownership, PackageChange, PackageState
from irkit.compare.packages.packages import Packages, read_packages
from irkit.package_paths import DATABASE_BUDGET, DATABASE_PATHS, DatabasePath, is_database

__all__ = [
    "DATABASE_BUDGET",
    "DATABASE_PATHS",
    "DatabasePath",
    "Installed",
    "Ownership",
    "PackageChange",
    "PackageState",
    "Packages",
    "compare_packages",
    "find_copy",
    "is_database",
    "judge",
    "read_packages",
]
