"""What goes wrong is one readable line in the page, and what nobody foresaw is told to the terminal."""

from __future__ import annotations

import socket

import pytest

from latentdiff import extras
from latentdiff.errors import ConfigError, DataError

gradio = pytest.importorskip("gradio")
from latentdiff.app import serve  # noqa: E402
from latentdiff.app.handlers import in_words  # noqa: E402
from latentdiff.config.model_stages import AppStage  # noqa: E402


def failing(error):
    def function(*_):
        raise error

    def step_by_step(*_):
        yield 1
        raise error

    return in_words(function), in_words(step_by_step)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConfigError("no such\nmodel <b>"), "No such model &lt;b&gt;"),
        (DataError("x" * 900), "X" + "x" * 499),
        (ValueError("bad"), "Bad"),
        (FileNotFoundError(2, "No such file or directory", "/x/y"), "/x/y is not there: check its spelling"),
    ],
)
def test_an_error_is_one_line(error, words, capsys):
    plain, step_by_step = failing(error)
    for call in (plain, lambda: list(step_by_step())):
        with pytest.raises(gradio.Error) as said:
            call()
        assert said.value.message.startswith(words)
        assert "\n" not in said.value.message
        assert not said.value.print_exception
    assert capsys.readouterr().err == ""


def test_what_nobody_foresaw_is_in_the_terminal_alone(capsys):
    plain, _ = failing(KeyError("secret"))
    with pytest.raises(gradio.Error, match="Unexpected error") as said:
        plain()
    assert "secret" not in said.value.message
    assert "KeyError: 'secret'" in capsys.readouterr().err


def test_without_the_extra_one_line_names_it(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(ConfigError, match=r"gradio is not installed: pip install 'latentdiff\[app\]'"):
        extras.import_extra("gradio", "app")


@pytest.mark.parametrize("host", ["203.0.113.5", "no such host", "x" * 300])
def test_an_address_that_is_not_this_machines_is_said_at_once(host, monkeypatch):
    monkeypatch.setattr(serve, "Catalogue", lambda *_: pytest.fail("models were loaded"))
    with pytest.raises(ConfigError, match="cannot be served on"), serve.running(AppStage(host=host)):
        pass


def test_a_port_that_is_taken_is_said(studio):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = AppStage(port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match="choose another --port"), serve.running(config, studio):
            pass
