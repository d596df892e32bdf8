"""What the targets of one command have in common, held once in each process: each part says why it may be shared."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from irkit.acquire.image_files import ImageFiles
    from irkit.compare.originals import Originals


class Shared:
    """Made before the first target is frozen, so nothing is imported until a part is asked for (ADR 2)."""

    @cached_property
    def image_files(self) -> ImageFiles:
        """Files of image layers, as a tar has them."""
        from irkit.acquire.image_files import ImageFiles

        return ImageFiles()

    @cached_property
    def originals(self) -> Originals:
        """The image's files that bundles hold."""
        from irkit.compare.originals import Originals

        return Originals()
