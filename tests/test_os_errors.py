"""What the system refuses is one sentence with the path and the remedy, from Python and from the shell."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from latentdiff.config import RunConfig
from latentdiff.errors import FolderError
from latentdiff.os_errors import WORDS, describe_os_error
from latentdiff.runs import run_folder


@pytest.mark.parametrize("number", [*WORDS, errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENOTCONN])
def test_each_error_names_the_path_and_the_remedy(number, tmp_path):
    words = describe_os_error(OSError(number, os.strerror(number), str(tmp_path / "run")))
    assert str(tmp_path / "run") in words
    assert ": " in words
    assert "\n" not in words


def test_a_dangling_link_is_named_itself(tmp_path):
    (tmp_path / "data").symlink_to("/mnt/gone")
    with pytest.raises(OSError, match="data") as caught:
        (tmp_path / "data" / "run").mkdir(parents=True)
    assert describe_os_error(caught.value).startswith(f"{tmp_path / 'data'} is a broken link")


def test_long_paths_and_control_characters_stay_readable():
    words = describe_os_error(OSError(errno.ENAMETOOLONG, "", "/home/\x1b[2J" + "x" * 4000))
    assert len(words) < 300
    assert "\x1b" not in words


def test_errors_without_a_path_keep_their_words():
    assert describe_os_error(OSError("cannot identify image file")) == "cannot identify image file"
    assert "no space is left" in describe_os_error(OSError(errno.ENOSPC, "No space left on device"))
    assert describe_os_error(ConnectionResetError(104, "reset")) == "[Errno 104] reset"


def test_folders_that_cannot_be_made_are_folder_errors_and_leave_nothing(tmp_path):
    (tmp_path / "file").write_text("a file")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = sorted(os.listdir(tmp_path))
    for folder in ("file", "file/run", "loop", "loop/run", "dangling", "dangling/run", "x" * 300, "new/" + "x" * 300):
        for kind in ({}, {"overwrite": True}, {"resume": True}):
            with pytest.raises(FolderError) as caught:
                run_folder.prepare(RunConfig(folder=str(tmp_path / folder), **kind), "diffusion", "n", resumable=True)
            assert "\n" not in str(caught.value)
            assert sorted(os.listdir(tmp_path)) == before


def run_stage(code: str, **options) -> subprocess.CompletedProcess:
    start = "import sys\nfrom latentdiff.command_line import run_stage\n"
    return subprocess.run([sys.executable, "-c", start + code], text=True, capture_output=True, **options)


def test_the_command_line_shows_one_sentence():
    code = "def main(): open('/proc/no such file/x', 'w')\nrun_stage(main)"
    done = run_stage(code)
    assert done.returncode == 1
    assert done.stderr == (
        "error: /proc/no such file/x is not there: check its spelling, and that its disk is mounted\n"
    )


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_who_leaves_does_not_end_the_work(stream, tmp_path):
    code = f"""
from pathlib import Path
def main():
    for number in range(20_000):
        print(number, file=sys.{stream}, flush=number % 100 == 0)
    Path("done").write_text("yes")
run_stage(main)
"""
    start = "import sys\nfrom latentdiff.command_line import run_stage\n"
    process = subprocess.Popen(
        [sys.executable, "-c", start + code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    getattr(process, stream).readline()
    getattr(process, stream).close()
    other = process.stderr if stream == "stdout" else process.stdout
    assert other.read() == b""
    assert process.wait() == 0
    assert Path("done").read_text() == "yes"


@pytest.mark.parametrize("where", [">&-", "2>&-", ">/dev/full", "<&- 2>/dev/full"])
def test_output_that_cannot_be_written_does_not_end_the_work(where, tmp_path):
    code = "import sys\nfrom latentdiff.command_line import run_stage\ndef main():\n    file = open('done', 'w')\n"
    code += "    print('日本'), print('日本', file=sys.stderr, flush=True)\n    file.write('yes')\nrun_stage(main)"
    (tmp_path / "code.py").write_text(code)
    command = f'"{sys.executable}" code.py {where}'
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": "ascii"}, timeout=60
    )
    assert done.returncode == 0
    assert Path("done").read_text() == "yes"
