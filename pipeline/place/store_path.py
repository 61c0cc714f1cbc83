"""Names objects in a store the way `pathlib` names files, with those methods of `pathlib.Path` that a lake needs."""

import datetime as dt
import fnmatch
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pipeline.errors import SetupError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_opening = threading.Lock()


Version = dict[str, str]  # of an object: its ETag, and its generation where the store counts those, as Google's does


class StoreError(OSError):
    """The store did not answer, or refused a request; a retry may help."""


@dataclass(frozen=True, order=True)
class StorePath:
    """An object in a store, or a prefix of objects: `s3://shop` and `lake/ops/batches`.

    A store has no folders: a folder is there while an object lies below it. Each method is one request, except `glob`
    with patterns in several parts. The library obstore finds keys and addresses in the environment, under the names
    that each cloud's own tools use (`AWS_…`, `AZURE_…`, `GOOGLE_…`); delta-rs and Sail read the same names.
    """

    root: str
    key: str = ""

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    def __truediv__(self, name: str) -> "StorePath":
        return StorePath(self.root, f"{self.key}/{name}" if self.key else name)

    def joinpath(self, *names: str) -> "StorePath":
        return self / "/".join(names)

    def relative_to(self, other: "StorePath") -> PurePosixPath:
        return PurePosixPath(self.key).relative_to(other.key)

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return PurePosixPath(self.key).stem

    @property
    def parent(self) -> "StorePath":
        return StorePath(self.root, self.key.rpartition("/")[0])

    # ---- reading

    def exists(self) -> bool:
        """Returns whether there is an object of this name."""
        import obstore

        try:
            with _one_error():
                obstore.head(self.store, self.key)
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Returns whether an object lies below this prefix."""
        import obstore

        with _one_error():
            return any(len(page) for page in obstore.list(self.store, self._prefix, chunk_size=1))

    def read_bytes(self) -> bytes:
        """Returns the object. Raises FileNotFoundError."""
        return self.read()[0]

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def read(self) -> tuple[bytes, Version]:
        """Returns the object and its version for `replace`. Raises FileNotFoundError."""
        import obstore

        with _one_error():
            found = obstore.get(self.store, self.key)
            return bytes(found.bytes()), _version(found.meta)

    def read_part(self, start: int, length: int) -> bytes:
        """Returns a part of the object."""
        import obstore

        with _one_error():
            return bytes(obstore.get_range(self.store, self.key, start=start, length=length))

    def iterdir(self) -> Iterator["StorePath"]:
        """Yields the objects and prefixes directly below this one."""
        import obstore

        with _one_error():
            found = obstore.list_with_delimiter(self.store, self._prefix)
        for key in (*found["common_prefixes"], *(meta["path"] for meta in found["objects"])):
            yield StorePath(self.root, key.rstrip("/"))

    def glob(self, pattern: str) -> Iterator["StorePath"]:
        """Yields what matches a pattern of names, `ops/*/_delta_log`; each pattern in it costs requests."""
        first, _, rest = pattern.partition("/")
        if not any(c in pattern for c in "*?["):  # the last names are taken as they are, where something is there
            found = self / pattern
            if found.is_dir() or found.exists():
                yield found
            return
        if not any(c in first for c in "*?["):
            yield from (self / first).glob(rest)
            return
        for child in self.iterdir():
            if fnmatch.fnmatchcase(child.name, first):
                yield from child.glob(rest) if rest else (child,)

    def sizes(self) -> dict["StorePath", int]:
        """Returns the objects directly below this prefix, by name, with their bytes."""
        import obstore

        with _one_error():
            found = obstore.list_with_delimiter(self.store, self._prefix)["objects"]
        return {StorePath(self.root, m["path"]): m["size"] for m in sorted(found, key=lambda m: m["path"])}

    # ---- writing

    def write_bytes(self, content: bytes) -> Version:
        """Writes the object, whole and durable, and returns its version."""
        return self._put(content, "overwrite")

    def create(self, content: bytes) -> Version:
        """Writes the object where there is none, and returns its version. Raises FileExistsError."""
        return self._put(content, "create")

    def replace(self, content: bytes, version: Version) -> Version:
        """Writes the object where it has this version, and returns the new one. Raises FileExistsError."""
        return self._put(content, version)

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the object. Not every store says whether there was one."""
        import obstore

        try:
            with _one_error():
                obstore.delete(self.store, self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_tree(self) -> None:
        """Removes every object below this prefix."""
        import obstore

        with _one_error():
            for page in obstore.list(self.store, self._prefix):
                obstore.delete(self.store, [meta["path"] for meta in page])

    def rename(self, target: "StorePath") -> None:
        """Gives the object another name in its store, which copies the object."""
        import obstore

        with _one_error():
            obstore.rename(self.store, self.key, target.key)

    def put_file(self, file: Path) -> None:
        """Writes the content of a file of this machine to the object, in parts where it is large."""
        self._put(file, "overwrite")

    def _put(self, content: Any, mode: Any) -> Version:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            with _one_error():
                return _version(obstore.put(self.store, self.key, content, mode=mode))
        except (AlreadyExistsError, PreconditionError):
            raise FileExistsError(f"{self} is there already, or has another version by now") from None
        except FileNotFoundError:
            if isinstance(mode, dict):
                raise FileExistsError(f"{self} is gone by now") from None
            raise StoreError(f"{self.root} is not there, or not for these keys; make the bucket first") from None

    @property
    def _prefix(self) -> str | None:
        return f"{self.key}/" if self.key else None

    @property
    def store(self) -> "ObjectStore":
        """The open store. Raises SetupError where its library is not installed, or where the address is none."""
        with _opening:  # threads share one client with its connections
            return _open(self.root)


@cache
def _open(root: str) -> "ObjectStore":
    try:
        from obstore.store import from_url
    except ImportError:
        raise SetupError(f"a lake in a store ({root}) needs the extra `store`: pip install 'lakegate[store]'") from None
    try:
        return from_url(
            root,
            client_options={"connect_timeout": "5s", "timeout": "60s", "allow_http": _allows_http()},
            retry_config={"max_retries": 5, "retry_timeout": dt.timedelta(seconds=30)},
        )
    except Exception as error:
        raise SetupError(f"{root} cannot be opened: {error}") from error


def _version(found: Mapping[str, Any]) -> Version:
    return {name: str(found[name]) for name in ("e_tag", "version") if found[name]}


def _allows_http() -> bool:
    # The client's options replace the environment's, and a store of one's own may speak no TLS.
    return any(name.endswith("_ALLOW_HTTP") and value.lower() == "true" for name, value in os.environ.items())


@contextmanager
def _one_error() -> Iterator[None]:
    """Raises StoreError with one line of text for the errors of the library, which print their own fields."""
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    try:
        yield
    except (AlreadyExistsError, PreconditionError):
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(str(error).split(":", maxsplit=1)[0]) from None
    except BaseError as error:
        raise StoreError(str(error).split("\n", maxsplit=1)[0]) from None
