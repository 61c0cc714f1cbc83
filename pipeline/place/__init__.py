"""Where a lake lies: a folder of this machine, or a prefix in an object store. All else names files through a place."""

from pipeline.place.place import (
    SCRATCH,
    Place,
    as_folder,
    connect,
    is_logged,
    is_store,
    move_in,
    note_logged,
    open_file,
    place_of,
    remove,
    remove_tree,
    sizes,
    sync,
    write_file,
    write_new,
    write_whole,
)
from pipeline.place.store_path import StoreError, StorePath

__all__ = [
    "SCRATCH",
    "Place",
    "StoreError",
    "StorePath",
    "as_folder",
    "connect",
    "is_logged",
    "is_store",
    "move_in",
    "note_logged",
    "open_file",
    "place_of",
    "remove",
    "remove_tree",
    "sizes",
    "sync",
    "write_file",
    "write_new",
    "write_whole",
]
