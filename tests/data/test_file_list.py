from __future__ import annotations

from latentdiff.data.file_list import read_rows


def test_a_line_break_in_quotes_is_part_of_its_cell(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'file,class\r\n"a\r\nb",c\r\n')
    assert read_rows(tmp_path / "a.csv") == [["file", "class"], ["a\r\nb", "c"]]
