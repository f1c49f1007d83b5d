"""The compiled kernels: their C interface, declared, and the library that this machine runs."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p

from services.worker.cpu_library.choice import find_library
from services.worker.kernels.kv_cache import LayerCache

# Of native/linear.h.
E4M3, BF16 = 0, 1
STORE_BF16, STORE_F32, ADD_F32, SILU_MUL = 0, 1, 2, 3


class Matrix(Structure):
    """`Matrix` of native/linear.h."""

    _fields_ = (
        ("packed", c_void_p),
        ("scales", c_void_p),
        ("block_scales", c_void_p),
        ("bias", c_void_p),
        ("outputs", c_int64),
        ("inputs", c_int64),
        ("block_inputs", c_int64),
        ("weight_kind", c_int32),
        ("epilogue", c_int32),
    )


class Cache(Structure):
    """`Cache` of native/attention.h."""

    _fields_ = (
        ("keys", c_void_p),
        ("values", c_void_p),
        ("num_kv_heads", c_int64),
        ("num_blocks", c_int64),
        ("block_tokens", c_int64),
        ("head_dim", c_int64),
    )


def cache_of(layer: LayerCache) -> Cache:
    """Where a layer's keys and values lie."""
    return Cache(layer.keys.data_ptr(), layer.values.data_ptr(), *layer.keys.shape)


class Rows(Structure):
    """`Rows` of native/attention.h."""

    _fields_ = (
        ("positions", c_void_p),
        ("slots", c_void_p),
        ("sequences", c_void_p),
        ("block_tables", c_void_p),
        ("table_width", c_int64),
        ("num_rows", c_int64),
        ("window", c_int64),
        ("tiles_each", c_int64),
    )


class Layer(Structure):
    """`Layer` of native/layer.h."""

    _fields_ = (
        ("qkv", Matrix),
        ("out", Matrix),
        ("gate_up", Matrix),
        ("down", Matrix),
        ("attention_norm", c_void_p),
        ("mlp_norm", c_void_p),
        ("query_norm", c_void_p),
        ("key_norm", c_void_p),
        ("num_heads", c_int64),
        ("norm_eps", c_float),
        ("scale", c_float),
    )


class LayerRows(Structure):
    """`LayerRows` of native/layer.h."""

    _fields_ = (
        ("rows", POINTER(Rows)),
        ("cos", c_void_p),
        ("sin", c_void_p),
        ("hidden", c_void_p),
        ("normed", c_void_p),
        ("qkv", c_void_p),
        ("turned", c_void_p),
        ("scratch", c_void_p),
        ("attended", c_void_p),
        ("gated", c_void_p),
    )


_P, _I, _K = c_void_p, c_int64, c_int32
_MATRIX, _CACHE, _ROWS = POINTER(Matrix), POINTER(Cache), POINTER(Rows)
_FUNCTIONS: dict[str, tuple[object, tuple[object, ...]]] = {
    "team_create": (_P, (_K, _P, _K)),
    "team_destroy": (None, (_P,)),
    "packed_bytes": (_I, (_I, _I, _K, _K)),
    "packed_channels": (_I, (_I, _K)),
    "pack_rows": (None, (_P, _P, _I, _I, _I, _I, _K, _K)),
    "pack_channels": (None, (_P, _P, _I, _K)),
    "linear": (None, (_P, _MATRIX, _P, _I, _P)),
    "rms_norm": (None, (_P, _P, _P, c_float, _I, _I, _P)),
    "rotary": (None, (_P, _P, _K, _I, _P, _P, _I, _I, _I, _P)),
    "silu_mul": (None, (_P, _P, _I, _I, _P)),
    "argmax": (None, (_P, _P, _I, _I, _P)),
    "write_kv": (None, (_P, _CACHE, _ROWS, _P, _I, _P, _I)),
    "most_tiles": (_I, (_ROWS,)),
    "attention_scratch": (_I, (_CACHE, _ROWS, _I)),
    "run_layers": (None, (_P, POINTER(Layer), _CACHE, POINTER(POINTER(LayerRows)), _I)),
    "attend": (None, (_P, _CACHE, _ROWS, _P, _I, _I, c_float, _P, _P)),
}


class Library:
    """The functions of native/abi.cpp, by their names without `octavo_`."""

    def __init__(self, path: str, instruction_set: str) -> None:
        self.instruction_set = instruction_set
        library = ctypes.CDLL(path)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, f"octavo_{name}")
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)

    def __getattr__(self, name: str) -> ctypes._NamedFuncPointer:
        raise AttributeError(name)  # for type checkers: all others are set above


def load_library(name: str | None = None) -> Library | None:
    """As find_library chooses."""
    found = find_library(name)
    return None if found is None else Library(str(found[1]), found[0].name)
