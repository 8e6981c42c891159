from ..wire._codec import dumps, loads
def pack_error(exc, *, where):
    return dumps(exc)
def unpack_error(body, buffers):
    return loads(body, buffers)
