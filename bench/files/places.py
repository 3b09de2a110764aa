"""File systems to measure on, mounted for one process alone: they are gone when it is.

Invariant: the mounts are in a mount namespace of this process's own, so nobody else ever sees them, and
nothing is to be cleaned up. An ordinary user gets one where user namespaces are permitted.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

from bench.files.row import UnavailableError

DISK, TMPFS, OVERLAY = PLACES = ("disk", "tmpfs", "overlay")

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_REC = 0x4000
_MS_PRIVATE = 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        raise UnavailableError(f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(source: str, target: Path, kind: str, flags: int, data: str) -> None:
    result = _libc.mount(
        source.encode(), str(target).encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()
    )
    _check(result, f"mounting {kind or 'privately'}")


def _take_namespace() -> None:
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        _check(_libc.unshare(_CLONE_NEWNS), "a mount namespace")
    else:
        _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWUSER), "a user namespace")
        try:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
        except OSError as error:
            raise UnavailableError(f"a user namespace: {error}") from None
    _mount("none", Path("/"), "", _MS_REC | _MS_PRIVATE, "")


def go_to(place: str, material: Path, needs: str) -> Path:
    """The directory in which `needs` of `material` is to be found on a file system of the kind `place`.

    To be called while the process has one thread. UnavailableError if there can be no such file system.
    """
    if place == DISK:
        return material
    _take_namespace()
    # The mount hides the directory of that name, which stays empty.
    target = material / f"mounted-{place}"
    if place == TMPFS:
        _mount("tmpfs", target, "tmpfs", 0, "mode=0700")
        copy = shutil.copytree if (material / needs).is_dir() else shutil.copy
        copy(material / needs, target / needs)
        return target
    # The upper layer may not be on every file system; on tmpfs it may.
    _mount("tmpfs", target, "tmpfs", 0, "mode=0700")
    for name in ("upper", "work", "merged"):
        (target / name).mkdir()
    layers = f"lowerdir={material},upperdir={target}/upper,workdir={target}/work"
    _mount("overlay", target / "merged", "overlay", 0, layers)
    return target / "merged"


def make_mount_points(material: Path) -> None:
    """What `go_to` mounts on."""
    for place in PLACES:
        if place != DISK:
            (material / f"mounted-{place}").mkdir()
