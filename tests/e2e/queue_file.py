"""The queue's own file, changed behind a stopped relay's back through liblmdb: for what no client
can bring about (a damaged record, a tenant before tenants can be configured). The form of a record
stands in src/queue/record.c."""
import ctypes
import ctypes.util
import struct

MAXIMUM = 1 << 30
_lmdb = ctypes.CDLL(ctypes.util.find_library("lmdb") or "liblmdb.so.0")


class _Value(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("data", ctypes.c_void_p)]

    def bytes(self):
        return ctypes.string_at(self.data, self.size)


def _check(code):
    if code:
        raise OSError(f"lmdb: {code}")


def change_records(folder, table, change):
    """Each record of a table ("envelope", "group") becomes what `change(bytes)` gives."""
    env, txn, cursor = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    dbi, key, value = ctypes.c_uint(), _Value(), _Value()
    _check(_lmdb.mdb_env_create(ctypes.byref(env)))
    try:
        _check(_lmdb.mdb_env_set_maxdbs(env, 8))
        _check(_lmdb.mdb_env_set_mapsize(env, ctypes.c_size_t(MAXIMUM)))
        _check(_lmdb.mdb_env_open(env, folder.encode(), 0, 0o600))
        _check(_lmdb.mdb_txn_begin(env, None, 0, ctypes.byref(txn)))
        _check(_lmdb.mdb_dbi_open(txn, table.encode(), 0, ctypes.byref(dbi)))
        _check(_lmdb.mdb_cursor_open(txn, dbi, ctypes.byref(cursor)))
        records = []
        first, following = 0, 8  # MDB_FIRST, MDB_NEXT
        while _lmdb.mdb_cursor_get(cursor, ctypes.byref(key), ctypes.byref(value),
                                   following if records else first) == 0:
            records.append((key.bytes(), value.bytes()))
        _lmdb.mdb_cursor_close(cursor)
        for name, record in records:
            record = change(record)
            keys, data = ctypes.create_string_buffer(name, len(name)), \
                ctypes.create_string_buffer(record, len(record))
            key = _Value(len(name), ctypes.cast(keys, ctypes.c_void_p))
            value = _Value(len(record), ctypes.cast(data, ctypes.c_void_p))
            _check(_lmdb.mdb_put(txn, dbi, ctypes.byref(key), ctypes.byref(value), 0))
        _check(_lmdb.mdb_txn_commit(txn))
    finally:
        _lmdb.mdb_env_close(env)
    return len(records)


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
