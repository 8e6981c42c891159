class P:
    package_bytes=b""
    shipped=None
def pack(c): return P()
