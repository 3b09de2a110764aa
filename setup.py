"""Builds the extension modules; everything else is in pyproject.toml.

Every ringloop/*.pyx is an extension module; LINKED_INTO says which of them have the C of ringloop/native/.
There are three steps (Cython to C, C to objects, objects to the module), each done only if what it starts
from has changed: Cython and the compiler write down what they read. Modules are built in parallel, after the
C that several of them share. What is made stands in its place when it is whole.

Environment:
    RINGLOOP_WERROR=1          warnings of Cython and of the C compiler are errors
    RINGLOOP_DEBUG=1           a debug build: the ENSUREs are compiled in
    RINGLOOP_SANITIZE=address,undefined
                               with these sanitizers; Python then needs LD_PRELOAD of their libraries

What was built with other settings is kept apart, in build/SETTINGS/, and a change of compiler, of flags or of
Python rebuilds all. The C that Cython makes is the same for all of them, and is in build/cython/.
"""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, PlatformError

PACKAGE = Path("ringloop")
NATIVE = PACKAGE / "native"
GENERATED = Path("build/cython")
UNFINISHED = "unfinished"  # a directory for what a build that is ended may leave in pieces

WERROR = os.environ.get("RINGLOOP_WERROR", "") not in ("", "0")
DEBUG = os.environ.get("RINGLOOP_DEBUG", "") not in ("", "0")
SANITIZERS = os.environ.get("RINGLOOP_SANITIZE", "")

DIRECTIVES = {
    "language_level": "3",
    "auto_pickle": "False",  # objects that own a resource must not be copied
    "binding": "True",
    "boundscheck": "False",
    "cdivision": "True",
    "embedsignature": "False",
    "initializedcheck": "False",
    "wraparound": "False",
    "warn.maybe_uninitialized": "True",
    "warn.multiple_declarators": "True",
    "warn.unreachable": "True",
    "warn.unused": "True",
}
CYTHON_OPTIONS = [f"--directive={name}={value}" for name, value in DIRECTIVES.items()]
CYTHON_OPTIONS += ["--warning-errors"] if WERROR else []

# -g1: a stack trace with lines, at a fraction of the size that the interpreter's own -g makes of a module.
FLAGS = ["-std=gnu11", "-fvisibility=hidden", "-Wall", "-Wextra"]
FLAGS += ["-O1", "-g", "-UNDEBUG", "-DRINGLOOP_DEBUG=1"] if DEBUG else ["-O2", "-g1"]
FLAGS += ["-Werror"] if WERROR else []
LINK_FLAGS = []
if SANITIZERS:
    FLAGS += [f"-fsanitize={SANITIZERS}", "-fno-omit-frame-pointer"]
    LINK_FLAGS += [f"-fsanitize={SANITIZERS}"]

# What keeps something between calls is in one module alone; `execute` and the files of `RESIDENT` do not.
EPOLL = ("epoll", "epoll_ready", "epoll_requests", "epoll_timers", "epoll_transfers")
RESIDENT = ("mounts", "resident", "resident_io")
LINKED_INTO = {
    "_flight": ("buffers", *EPOLL, "execute", "reading", "threads", "workers"),
    "_core": ("retired", "ring", "ring_setup"),
    "_ops": ("execute", "fifo", *RESIDENT),
    "_os": RESIDENT,
    "_request": RESIDENT,
    "_os_fds": ("prefetch", "streams", *RESIDENT),
    "_os_listing": ("listing", *RESIDENT),
    "_descriptor": RESIDENT,
    "_opening": RESIDENT,
    "_raw": RESIDENT,
    "_sendfile": RESIDENT,
}

NATIVE_FLAGS = [
    "-Wshadow",
    "-Wundef",
    "-Wvla",
    "-Wpointer-arith",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
]
GENERATED_FLAGS = [
    "-Wno-cast-function-type",  # method tables hold functions of several types
    "-Wno-missing-field-initializers",  # type objects are initialised by their first fields
    "-Wno-unused-parameter",  # slots take what CPython passes
]


class Build(build):
    """Keeps builds with different settings apart."""

    def initialize_options(self) -> None:
        super().initialize_options()
        settings = "debug" if DEBUG else "release"
        if SANITIZERS:
            settings += "-" + SANITIZERS.replace(",", "-")
        self.build_base = str(Path("build", settings))


class BuildExtensions(build_ext):
    """Builds what is stale, in parallel."""

    def run(self) -> None:
        if sys.platform != "linux":
            raise PlatformError(f"ringloop is built on Linux's io_uring: there is none on {sys.platform}")
        if self.parallel is None:
            self.parallel = len(os.sched_getaffinity(0))
        super().run()

    def build_extensions(self) -> None:
        cython = [f"Cython {importlib.metadata.version('Cython')}", *CYTHON_OPTIONS]
        settings = [sys.version, *self.compiler.compiler_so, *self.compiler.linker_so]
        settings += FLAGS + NATIVE_FLAGS + GENERATED_FLAGS + [str(LINKED_INTO)]
        cython_stamp = Stamp(GENERATED / "settings.txt", cython)
        compiler_stamp = Stamp(Path(self.build_temp, "settings.txt"), settings)
        self.translate_all = bool(self.force) or cython_stamp.is_stale()
        self.compile_all = bool(self.force) or compiler_stamp.is_stale()
        native = sorted({source for extension in self.extensions for source in extension.sources[1:]})
        with ThreadPoolExecutor(self.parallel) as pool:
            made = pool.map(lambda source: self.compile(Path(source), NATIVE_FLAGS), native)
            self.native_objects = dict(zip(native, made, strict=True))
        # The slowest first, so that the others fill the remaining processors.
        self.extensions.sort(key=lambda extension: -Path(extension.sources[0]).stat().st_size)
        super().build_extensions()
        cython_stamp.write()
        compiler_stamp.write()

    def build_extension(self, ext: Extension) -> None:
        """Builds one module. Called from several threads, each with a module of its own."""
        pyx, *native = ext.sources
        objects = [self.compile(self.translate(Path(pyx), ext.name), GENERATED_FLAGS)]
        objects += [self.native_objects[source] for source in native]
        module = Path(self.get_ext_fullpath(ext.name))
        if self.compile_all or is_stale(module, objects):
            linked = Path(self.build_temp, UNFINISHED, module.name)
            self.compiler.link_shared_object(
                list(map(str, objects)), str(linked), extra_postargs=LINK_FLAGS, build_temp=self.build_temp
            )
            module.parent.mkdir(parents=True, exist_ok=True)
            os.replace(linked, module)

    def translate(self, pyx: Path, module_name: str) -> Path:
        """Makes C of `pyx` and returns its path. Tracebacks will say the path of `pyx`, so it is relative."""
        generated = GENERATED / pyx.with_suffix(".c")
        record = Path(f"{generated}.dep")
        if self.translate_all or is_stale(generated, recorded_sources(record)):
            say(f"cython {pyx}")
            made = GENERATED / UNFINISHED / generated.name
            for path in generated, made:
                path.parent.mkdir(parents=True, exist_ok=True)
            command = [
                sys.executable,
                "-m",
                "cython",
                *CYTHON_OPTIONS,
                "--depfile",
                "--module-name",
                module_name,
            ]
            done = subprocess.run([*command, "-o", str(made), str(pyx)], check=False)
            if done.returncode != 0:
                raise CompileError(f"Cython refused {pyx}")
            os.replace(f"{made}.dep", record)
            os.replace(made, generated)
        return generated

    def compile(self, source: Path, flags: list[str]) -> Path:
        """Compiles `source` and returns the object's path."""
        result = Path(self.compiler.object_filenames([str(source)], output_dir=self.build_temp)[0])
        record = result.with_suffix(".dep")
        if self.compile_all or is_stale(result, recorded_sources(record)):
            say(f"cc {source}")
            result.parent.mkdir(parents=True, exist_ok=True)
            (made,) = self.compiler.compile(
                [str(source)],
                output_dir=str(Path(self.build_temp, UNFINISHED)),
                include_dirs=[str(NATIVE)],
                extra_postargs=[*FLAGS, *flags, "-MMD", "-MF", str(record)],
            )
            os.replace(made, result)
        return result

    def copy_extensions_to_source(self) -> None:
        """Puts the modules beside their sources; a process that has the old ones loaded keeps them."""
        for extension in self.extensions:
            target = Path(self.get_ext_filename(extension.name))
            built = Path(self.build_lib, target)
            fresh, old = built.stat(), target.stat() if target.exists() else None
            if old is None or (fresh.st_mtime_ns, fresh.st_size) != (old.st_mtime_ns, old.st_size):
                shutil.copy2(built, f"{target}.new")
                os.replace(f"{target}.new", target)


class Stamp:
    """Settings that something was made with, in a file beside it."""

    def __init__(self, path: Path, settings: list[str]) -> None:
        self.path = path
        self.text = "\n".join(settings) + "\n"

    def is_stale(self) -> bool:
        return not self.path.exists() or self.path.read_text() != self.text

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(self.text)


def say(line: str) -> None:
    """Prints a line in one piece: several threads do."""
    print(f"{line}\n", end="", flush=True)


def recorded_sources(record: Path) -> list[Path] | None:
    """The files named in `record`, a rule for make that a compiler wrote; None if there is no such record."""
    if not record.exists():
        return None
    _, _, names = record.read_text().replace("\\\n", " ").partition(": ")
    return [Path(name.replace("\0", " ")) for name in names.replace("\\ ", "\0").split()]


def is_stale(target: Path, sources: list[Path] | None) -> bool:
    """Whether `target` has to be made again from `sources` (None: they are not known)."""
    if sources is None or not target.exists():
        return True
    made = target.stat().st_mtime_ns
    return any(not source.exists() or source.stat().st_mtime_ns > made for source in sources)


def extensions() -> list[Extension]:
    return [
        Extension(
            ".".join(pyx.with_suffix("").parts),
            [str(pyx), *(str(NATIVE / f"{name}.c") for name in LINKED_INTO.get(pyx.stem, ()))],
        )
        for pyx in sorted(PACKAGE.glob("*.pyx"))
    ]


if __name__ == "__main__":
    setup(ext_modules=extensions(), cmdclass={"build": Build, "build_ext": BuildExtensions})
