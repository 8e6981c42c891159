"""Shipping of code and data: pickling by value, a client's modules at its servers, components, installation."""

from ._child_processes import serve_child_processes
from ._codec import check_size, dumps, dumps_message, loads, too_large
from ._errors_in_transit import pack_error, unpack_error
from ._explanations import say_not_opened
from ._freshness import Watch, watch
from ._installation import create_file, holds_files, install_definitions, place_files, streamed_files, write_tree
from ._package import Package, decode_package, decode_package_untrusted, encode_package, without_files
from ._shipped import NOTHING, Shipped, close_shipped, open_shipped

__all__ = [
    "NOTHING",
    "Package",
    "Shipped",
    "Watch",
    "check_size",
    "close_shipped",
    "create_file",
    "decode_package",
    "decode_package_untrusted",
    "dumps",
    "dumps_message",
    "encode_package",
    "holds_files",
    "install_definitions",
    "loads",
    "open_shipped",
    "pack_error",
    "place_files",
    "say_not_opened",
    "serve_child_processes",
    "streamed_files",
    "too_large",
    "unpack_error",
    "watch",
    "without_files",
    "write_tree",
]
