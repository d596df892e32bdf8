"""Encrypted from the first byte: a bundle written to recipients while it is acquired, so that nothing plain is on the disk.

raw sha256 → zstd → sha256 (plain, sealed by the inner seal) → age → sha256 (stored, sealed by the outer seal) → disk.
The result is what :func:`irkit.evidence.age.encrypt_bundle` makes of a plain bundle (docs/adr/0009).
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from irkit.clock import now
from irkit.evidence import age
from irkit.evidence.writer import BLOCK, Artifact, BundleWriter, Origin
from irkit.home import private_folder, write_file


@dataclass(frozen=True, slots=True)
class Stored:
    """An encrypted file: bytes and digest as they lie on the disk."""

    size: int
    sha256: str


class AgeFile:
    """A file that is written through age, by a thread of its own: pyrage wants to pull, collectors push.

    ``flush`` ends the stream: nothing can be written afterwards.  Errors of the disk are raised where the writer is.
    """

    def __init__(self, file: BinaryIO, recipients: Sequence[Any], done: Callable[[Stored], None]) -> None:
        self._file, self._recipients, self._done = file, recipients, done
        self._digest, self._size = hashlib.sha256(), 0
        self._error: BaseException | None = None
        self._finished = False
        reading, writing = os.pipe()
        self._source, self._pipe = os.fdopen(reading, "rb", buffering=0), os.fdopen(writing, "wb", buffering=0)
        self._thread = threading.Thread(target=self._encrypt, name="age", daemon=True)
        self._thread.start()

    def _encrypt(self) -> None:
        import pyrage

        target = age.Checked(self._store)
        try:
            pyrage.encrypt_io(self._source, target, self._recipients)
        except BaseException as error:
            self._error = error
        finally:
            self._error = target.error or self._error
            self._source.close()  # whoever still writes is told by a broken pipe

    def _store(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._size += len(data)

    def write(self, data: bytes) -> int:
        """Encrypt bytes.  Raises ``OSError`` of the disk."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._pipe.write(view) :]
        except BrokenPipeError:
            self._thread.join()
            raise self._trouble() from None
        return len(data)

    def flush(self) -> None:
        """End the stream.  Raises ``OSError`` of the disk."""
        if self._finished:
            return
        self._finished = True
        self._pipe.close()
        self._thread.join()
        if self._error is not None:
            raise self._trouble()
        self._file.flush()
        self._done(Stored(self._size, self._digest.hexdigest()))

    def _trouble(self) -> OSError:
        return self._error if isinstance(self._error, OSError) else OSError(0, f"can't encrypt: {self._error}")

    def fileno(self) -> int:
        """Of the file itself."""
        return self._file.fileno()

    def close(self) -> None:
        """Give everything back, finished or not."""
        if not self._finished:
            self._finished = True
            self._pipe.close()
            self._thread.join()
        self._file.close()


class EncryptedWriter(BundleWriter):
    """A :class:`BundleWriter` whose files are all encrypted; ``identities`` can read them back while this process lives."""

    def __init__(
        self,
        folder: Path,
        recipients: Sequence[Any],
        checkpoint: Callable[[], None] = lambda: None,
        on_full: Callable[[], bool] = lambda: False,
    ) -> None:
        import pyrage

        super().__init__(folder, checkpoint, on_full)
        # A key that is never written: the run's own findings are read back from the sealed bundle with it.
        own = pyrage.x25519.Identity.generate()
        self.identities = [own]
        self._recipients = [*recipients, own.to_public()]
        self._stored: dict[str, Stored] = {}

    def place(self, path: str) -> Path:
        """As the base class: ``data/plain/PATH.age``."""
        return self.folder / f"{age.PREFIX}{path}{age.SUFFIX}"

    def open(self, path: str) -> BinaryIO:
        """As the base class, encrypting."""
        file = self.place(path).open("xb", buffering=BLOCK)
        return AgeFile(file, self._recipients, lambda stored: self._stored.update({path: stored}))  # type: ignore[return-value]

    def put(self, name: str, data: bytes) -> None:
        """As the base class, encrypting."""
        import pyrage

        sealed = pyrage.encrypt(data, self._recipients)
        private_folder(self.place(name).parent)
        write_file(self.place(name), sealed)
        self._stored[name] = Stored(len(sealed), hashlib.sha256(sealed).hexdigest())

    def discard(self, path: str) -> None:
        """As the base class."""
        super().discard(path)
        self._stored.pop(path, None)

    def around(self, digest: str) -> BundleWriter:
        """The writer of the outer bundle, once the inner one is sealed."""
        outer = BundleWriter(self.folder, self.checkpoint, self.on_full)
        moment = now()
        outer.artifacts = [
            Artifact(
                f"{age.PREFIX}{name}{age.SUFFIX}", Origin("encrypt", name, age.METHOD, age.MEDIA_TYPE), "identity", one.size, one.sha256,
                one.size, one.sha256, moment, moment, True,
            )
            for name, one in sorted(self._stored.items())
        ]  # fmt: skip
        outer.about = age.about(len(self._recipients) - 1, f"sha256:{digest}")
        return outer
