"""The queue's own file, changed behind a stopped relay's back through liblmdb: for what no client
can bring about (a damaged record, a tenant before tenants can be configured). The form of a record
stands in src/queue/record.c."""
import contextlib
import ctypes
import ctypes.util
import struct

MAXIMUM = 1 << 30
INTEGER_KEYS = 0x08
_lmdb = ctypes.CDLL(ctypes.util.find_library("lmdb") or "liblmdb.so.0")


class _Value(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("data", ctypes.c_void_p)]

    def bytes(self):
        return ctypes.string_at(self.data, self.size)


def _check(code):
    if code:
        raise OSError(f"lmdb: {code}")


class Transaction:
    """One write transaction over the whole file."""

    def __init__(self, env):
        self.txn = ctypes.c_void_p()
        _check(_lmdb.mdb_txn_begin(env, None, 0, ctypes.byref(self.txn)))

    def _table(self, name):
        dbi = ctypes.c_uint()
        _check(_lmdb.mdb_dbi_open(self.txn, name.encode() if name else None, 0, ctypes.byref(dbi)))
        return dbi

    def rows(self, table):
        """All (key, value) of a table; None: the names of the tables."""
        cursor, key, value, rows = ctypes.c_void_p(), _Value(), _Value(), []
        _check(_lmdb.mdb_cursor_open(self.txn, self._table(table), ctypes.byref(cursor)))
        first, following = 0, 8  # MDB_FIRST, MDB_NEXT
        while _lmdb.mdb_cursor_get(cursor, ctypes.byref(key), ctypes.byref(value),
                                   following if rows else first) == 0:
            rows.append((key.bytes(), value.bytes()))
        _lmdb.mdb_cursor_close(cursor)
        return rows

    def put(self, table, name, record):
        keys, data = ctypes.create_string_buffer(name, len(name)), \
            ctypes.create_string_buffer(record, len(record))
        key = _Value(len(name), ctypes.cast(keys, ctypes.c_void_p))
        value = _Value(len(record), ctypes.cast(data, ctypes.c_void_p))
        _check(_lmdb.mdb_put(self.txn, self._table(table), ctypes.byref(key), ctypes.byref(value), 0))

    def delete(self, table, name):
        keys = ctypes.create_string_buffer(name, len(name))
        key = _Value(len(name), ctypes.cast(keys, ctypes.c_void_p))
        _check(_lmdb.mdb_del(self.txn, self._table(table), ctypes.byref(key), None))


@contextlib.contextmanager
def transaction(folder):
    env = ctypes.c_void_p()
    _check(_lmdb.mdb_env_create(ctypes.byref(env)))
    try:
        _check(_lmdb.mdb_env_set_maxdbs(env, 8))
        _check(_lmdb.mdb_env_set_mapsize(env, ctypes.c_size_t(MAXIMUM)))
        _check(_lmdb.mdb_env_open(env, folder.encode(), 0, 0o600))
        change = Transaction(env)
        yield change
        _check(_lmdb.mdb_txn_commit(change.txn))
    finally:
        _lmdb.mdb_env_close(env)


def change_records(folder, table, change):
    """Each record of a table ("envelope", "group") becomes what `change(bytes)` gives."""
    with transaction(folder) as txn:
        records = txn.rows(table)
        for name, record in records:
            txn.put(table, name, change(record))
    return len(records)


def rows(folder):
    """Everything that is stored, by table."""
    with transaction(folder) as txn:
        return {name.decode(): txn.rows(name.decode()) for name, _ in txn.rows(None)}


def meta(folder, name):
    with transaction(folder) as txn:
        return struct.unpack("=Q", dict(txn.rows("meta"))[name.encode()])[0]


def set_meta(folder, name, number):
    with transaction(folder) as txn:
        txn.put("meta", name.encode(), struct.pack("=Q", number))


def key(id, number):
    """Of `group` and `body`."""
    return struct.pack(">QI", id, number)


def with_tenant(record, tenant):
    """An envelope record with another tenant: the fourth of its texts (sender, envid, user,
    tenant), each a length and its bytes with a NUL, or 0xffff for none."""
    at = 36
    for _ in range(3):
        length = struct.unpack_from("<H", record, at)[0]
        at += 2 if length == 0xffff else 2 + length + 1
    length = struct.unpack_from("<H", record, at)[0]
    behind = at + (2 if length == 0xffff else 2 + length + 1)
    name = tenant.encode()
    return record[:at] + struct.pack("<H", len(name)) + name + b"\0" + record[behind:]
