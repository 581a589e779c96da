"""Files are seen to change in every way in which people and machines change them."""

import os

from gateway.config.watch import FileWatch


def settled(watch):
    """Whether a change is seen at the second look, when the files are at rest."""
    assert not watch.changed()
    return watch.changed()


def test_files_that_nobody_touches_do_not_change(tmp_path):
    """However often one looks; one that is missing as well."""
    path = tmp_path / "a"
    path.write_text("one")
    watch = FileWatch([path, tmp_path / "missing"])

    assert [watch.changed() for _ in range(3)] == [False] * 3


def test_a_file_that_is_written_anew_has_changed(tmp_path):
    """In place or by another file in its place, also of the same length and time."""
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_text("one")
    watch = FileWatch([path])
    path.write_text("two!")
    in_place = settled(watch)
    watch.mark()
    times = path.stat()
    other.write_text("six!")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)

    assert in_place
    assert settled(watch)


def test_a_link_that_is_moved_is_a_change(tmp_path):
    """Kubernetes replaces a ConfigMap so: file -> ..data/file, ..data -> a folder for each
    version."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "cuvee.yaml").write_text("same")
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "cuvee.yaml").symlink_to("..data/cuvee.yaml")
    watch = FileWatch([tmp_path / "cuvee.yaml"])
    (tmp_path / "..new").symlink_to("2")
    (tmp_path / "..new").replace(tmp_path / "..data")

    assert settled(watch)


def test_what_is_still_being_written_is_not_read(tmp_path):
    """Half a file may be a valid one, without half of its pools."""
    path = tmp_path / "a"
    path.write_text("")
    watch = FileWatch([path])
    looks = []
    for _ in range(3):
        with path.open("a") as file:
            file.write("more")
        looks.append(watch.changed())

    assert looks == [False] * 3
    assert watch.changed()


def test_files_that_are_named_later_are_watched_from_then_on(tmp_path):
    """And the others since they were marked, not since now: one may change while it is read."""
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("one")
    watch = FileWatch([first])
    watch.mark()
    first.write_text("changed while it was read")
    watch.follow([first, second])
    seen = settled(watch)
    watch.mark()
    second.write_text("it came")

    assert seen
    assert settled(watch)
