"""What a responder without irkit does: two ``docker export``, names and digests of each, compared.  The truth's second witness, and a baseline."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile

Tree = dict[str, tuple[str, int, str]]
"""Path → type, mode, and a digest or a link's target."""


def tree(container: str) -> Tree:
    """One export, read as a stream."""
    found: Tree = {}
    with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as process:
        with tarfile.open(fileobj=process.stdout, mode="r|", errors="surrogateescape") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isreg() else None
                what = hashlib.file_digest(file, "sha256").hexdigest() if file else member.linkname
                found[f"/{member.name.rstrip('/')}".replace("/./", "/")] = (member.type.decode(), member.mode, what)
        while process.stdout is not None and process.stdout.read(1 << 20):
            pass
    if process.returncode:
        raise RuntimeError(f"docker export {container}: {process.returncode}")
    return found


def tree_of_image(image: str) -> Tree:
    """An image's: of a container that is never started."""
    name = subprocess.run(["docker", "create", image], capture_output=True, text=True, check=True).stdout.strip()
    try:
        return tree(name)
    finally:
        subprocess.run(["docker", "rm", "-v", name], capture_output=True, check=False)


def compare(before: Tree, after: Tree) -> dict[str, str]:
    """Path → added, changed, deleted."""
    found = {path: "deleted" for path in before if path not in after}
    for path, what in after.items():
        if path not in before:
            found[path] = "added"
        elif before[path] != what:
            found[path] = "changed"
    return found


if __name__ == "__main__":
    print(len(compare(tree_of_image(sys.argv[1]), tree(sys.argv[2]))))
