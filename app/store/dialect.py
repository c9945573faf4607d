"""Where SQLite and PostgreSQL say the same thing in other words: JSON made of rows, lists as parameters, locks.

Statements of this folder bind with `?`, or with `?1` where one value stands twice; `numbered` turns them into what
asyncpg takes.
"""

import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import Table, Text

from app.config import INSERT_ROWS_MAX

Statement: TypeAlias = tuple[str, Sequence[Any]]
"""An SQL text and its parameters."""

_PLACEHOLDER: Final = re.compile(r"\?(\d*)")


class Dialect:
    """One engine's words. Every method gives SQL made of names and expressions of our own, never of a caller's."""

    def __init__(self, name: Literal["sqlite", "postgresql"]) -> None:
        self.name = name
        self.is_sqlite = name == "sqlite"

    def json_object(self, fields: Mapping[str, str]) -> str:
        """A JSON object: its names, and an SQL expression for each."""
        pairs = ", ".join(f"'{name}', {expression}" for name, expression in fields.items())
        return f"json_object({pairs})" if self.is_sqlite else f"json_build_object({pairs})"

    def json_array(self, expressions: Sequence[str]) -> str:
        """A JSON array with an SQL expression for each element."""
        elements = ", ".join(expressions)
        return f"json_array({elements})" if self.is_sqlite else f"json_build_array({elements})"

    def json_rows(self, expression: str, source: str) -> str:
        """A JSON array with an element for each row of `source`, which is what stands behind FROM; `[]` for none."""
        if self.is_sqlite:
            return f"json((SELECT json_group_array({expression}) FROM {source}))"
        return f"(SELECT coalesce(json_agg({expression}), '[]'::json) FROM {source})"

    def document(self, column: str) -> str:
        """A column of JSON text as JSON."""
        return f"json({column})" if self.is_sqlite else f"({column})::json"

    def boolean(self, column: str) -> str:
        """A column of 0 and 1 as JSON's true and false."""
        return f"json(CASE {column} WHEN 0 THEN 'false' ELSE 'true' END)" if self.is_sqlite else f"({column} <> 0)"

    def listed(self, parameter: str) -> str:
        """The rows of a parameter that is a JSON array of texts, for `IN`."""
        if self.is_sqlite:
            return f"(SELECT value FROM json_each({parameter}))"
        return f"(SELECT json_array_elements_text(CAST({parameter} AS json)))"

    def json_values(self, parameter: str) -> str:
        """The elements of a parameter that is a JSON array, one in each row's `value`, for FROM."""
        return f"json_each({parameter})" if self.is_sqlite else f"json_array_elements(CAST({parameter} AS json))"

    def listed_pairs(self, parameter: str) -> str:
        """The rows of a parameter that is a JSON array of pairs of texts, for `(a, b) IN`."""
        if self.is_sqlite:
            return f"(SELECT value ->> 0, value ->> 1 FROM json_each({parameter}))"
        return f"(SELECT value ->> 0, value ->> 1 FROM json_array_elements(CAST({parameter} AS json)))"

    def for_update(self) -> str:
        """What stands behind a SELECT to lock its rows; on SQLite a transaction has the one lock from its start."""
        return "" if self.is_sqlite else " FOR UPDATE"

    def for_update_of_free(self) -> str:
        """The same, but rows that another transaction has locked are passed over."""
        return "" if self.is_sqlite else " FOR UPDATE SKIP LOCKED"

    def together(self, statements: Sequence[Statement]) -> Sequence[Statement]:
        """Statements that write different rows: as one where each costs the way to a server and back.

        All of them see the rows as they were before the first.
        """
        if self.is_sqlite or len(statements) < 2:
            return statements
        parts = ", ".join(f"part_{number} AS ({sql})" for number, (sql, _) in enumerate(statements))
        return [(f"WITH {parts} SELECT 1", list(chain.from_iterable(parameters for _, parameters in statements)))]

    def clock(self) -> str | None:
        """An expression for the database's clock in milliseconds; None where the process's own is as good."""
        return None if self.is_sqlite else "(extract(epoch FROM statement_timestamp()) * 1000)::bigint"

    def now(self) -> str:
        """An expression for the time in milliseconds since 1970, by the clock that the ledger goes by."""
        return self.clock() or "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"


SQLITE: Final = Dialect("sqlite")
POSTGRESQL: Final = Dialect("postgresql")


def dialect_of(database_url: str) -> Dialect:
    """The dialect of the engine that an address names."""
    return SQLITE if database_url.startswith("sqlite:") else POSTGRESQL


def place(database_url: str) -> str:
    """What may be shown of an address: a file's path; a server's host and database, never the user or password."""
    if dialect_of(database_url).is_sqlite:
        return database_url.removeprefix("sqlite:///")
    parts = urllib.parse.urlsplit(database_url)
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


class Insert:
    """An INSERT of many rows in as few statements as the engine likes.

    Args:
        dialect: the engine's.
        table: where to.
        columns: of the table, in the order of each row.
        conflict: what stands behind the values, such as ` ON CONFLICT (id) DO NOTHING`.

    """

    def __init__(self, dialect: Dialect, table: Table, columns: Sequence[str], conflict: str = "") -> None:
        head = f"INSERT INTO {table.name} ({', '.join(columns)})"
        self._rows = _Rows(dialect, table, columns, f"{head} ", f"{head} SELECT * FROM ", conflict)

    def statements(self, rows: Sequence[Sequence[Any]]) -> Iterator[Statement]:
        """The statements that write some rows; none for none."""
        return self._rows.statements(rows)


class Update:
    """An UPDATE of many rows, each found by its key; of some columns alone, it costs half of an upsert of all.

    Args:
        dialect: the engine's.
        table: where to.
        key: the columns that each row begins with.
        columns: those that are set, in the order in which they follow.

    """

    def __init__(self, dialect: Dialect, table: Table, key: Sequence[str], columns: Sequence[str]) -> None:
        names = ", ".join((*key, *columns))
        sets = ", ".join(f"{name} = new.{name}" for name in columns)
        found = " AND ".join(f"{table.name}.{name} = new.{name}" for name in key)
        update = f"UPDATE {table.name} SET {sets} FROM "
        self._rows = _Rows(
            dialect,
            table,
            (*key, *columns),
            f"WITH new({names}) AS (",
            update,
            f") {update}new WHERE {found}" if dialect.is_sqlite else f" AS new({names}) WHERE {found}",
        )

    def statements(self, rows: Sequence[Sequence[Any]]) -> Iterator[Statement]:
        """The statements that write some rows; none for none."""
        return self._rows.statements(rows)


class _Rows:
    """Many rows as parameters: on SQLite as VALUES, on PostgreSQL as an array for each column."""

    def __init__(
        self, dialect: Dialect, table: Table, columns: Sequence[str], before_values: str, before_arrays: str, after: str
    ) -> None:
        self._is_sqlite = dialect.is_sqlite
        self._before, self._after = before_values, after
        self._one = "(" + ",".join("?" * len(columns)) + ")"
        arrays = ", ".join(f"?::{'text' if isinstance(table.c[name].type, Text) else 'bigint'}[]" for name in columns)
        self._unnested = f"{before_arrays}unnest({arrays}){after}"
        self._texts: dict[int, str] = {}

    def statements(self, rows: Sequence[Sequence[Any]]) -> Iterator[Statement]:
        if not self._is_sqlite:
            if rows:
                yield self._unnested, list(zip(*rows, strict=True))
            return
        for start in range(0, len(rows), INSERT_ROWS_MAX):
            chunk = rows[start : start + INSERT_ROWS_MAX]
            yield self._text(len(chunk)), list(chain.from_iterable(chunk))

    def _text(self, size: int) -> str:
        text = self._texts.get(size)
        if text is None:
            text = self._texts[size] = f"{self._before}VALUES {','.join([self._one] * size)}{self._after}"
        return text


@lru_cache(maxsize=1024)
def numbered(sql: str) -> str:
    """`?` and `?1` as `$1`: none of our texts has a question mark of another meaning."""
    count = 0

    def dollar(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return f"${match[1] or count}"

    return _PLACEHOLDER.sub(dollar, sql)
