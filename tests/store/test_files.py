"""Files that are written whole or not at all."""

import pytest

from equitutor.store.files import locked, whole


def test_a_file_gets_its_name_when_it_is_finished(tmp_path):
    path = tmp_path / "new" / "a.npz"
    with whole(path, fsync=True) as part:
        assert part.parent == path.parent and part.suffix == ".npz" and part.name[0] == "."
        part.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("write", [lambda p: p.write_text("half"), lambda p: p.mkdir(), id])
def test_what_fails_leaves_everything_as_it_was(tmp_path, write):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(KeyError), whole(path) as part:
        write(part)
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_whole_too(tmp_path):
    with whole(tmp_path / "folder") as part:
        part.mkdir()
        (part / "file").write_text("")
    assert [p.name for p in tmp_path.rglob("*")] == ["folder", "file"]


def test_a_lock_clears_away_what_a_killed_holder_left(tmp_path):
    (tmp_path / ".1.part.a.json").write_text("half")
    (tmp_path / ".2.part.a.json").mkdir()
    other = tmp_path / ".3.part.b.a.json"
    other.write_text("being written by another process")
    with locked(tmp_path / "a.json"):
        assert {p.name for p in tmp_path.iterdir()} - {".a.json.lock"} == {other.name}
