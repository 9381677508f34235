"""Files of any file system that Hadoop knows, through Spark's own Java: a folder's small files."""

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class Folder:
    """A folder that may not exist yet; `path` is its full name, scheme included."""

    def __init__(self, session: "SparkSession", path: str) -> None:
        self._java = cast(Any, session.sparkContext._jvm)
        place = self._java.org.apache.hadoop.fs.Path(path)
        self._files = place.getFileSystem(session.sparkContext._jsc.hadoopConfiguration())
        self.path: str = self._files.makeQualified(place).toString()

    def exists(self) -> bool:
        """Whether it is there, and a folder."""
        place = self._place()
        return bool(self._files.exists(place) and self._files.getFileStatus(place).isDirectory())

    def names(self) -> list[str]:
        """What lies in it, folders too; nothing where it does not exist."""
        return [entry.getPath().getName() for entry in self._files.listStatus(self._place())] if self.exists() else []

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is none."""
        place = self._place(name)
        return int(self._files.getFileStatus(place).getLen()) if self._files.exists(place) else None

    def read(self, name: str) -> str | None:
        """A small file's text; None where there is none."""
        if self.size(name) is None:
            return None
        stream = self._files.open(self._place(name))
        try:
            return str(self._java.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
        finally:
            stream.close()

    def write(self, name: str, text: str) -> None:
        """Write a small file, in the place of another one."""
        stream = self._files.create(self._place(name), True)
        try:
            stream.write(bytearray(text.encode()))
        finally:
            stream.close()

    def remove(self, name: str) -> None:
        """Remove a file, or a folder and all in it."""
        self._files.delete(self._place(name), True)

    def _place(self, name: str = "") -> Any:
        path = self._java.org.apache.hadoop.fs.Path
        return path(path(self.path), name) if name else path(self.path)
