"""Commands in README and docs are commands that exist: programs, options, targets, files and extras are the real ones."""

import re
import shlex
import tomllib

import pytest
import typer.main
import yaml
from snakemake.cli import get_argument_parser

from nuclass_pipeline.cli.app import app
from tests import ROOT
from tests.census import pages
from tests.workflow.loading import load_rules

MADE_BY_A_RUN = re.compile(r"(results|resources|logs|benchmarks)/")


def commands():
    """Yield (page, words) of every command in a block that begins with `.venv/bin/`, without pipes, comments and redirections."""
    for page in pages():
        if page.name == "extending.md":  # test_extending runs its commands.
            continue
        for block in re.findall(r"^```[^\n]*\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                text = line.strip().removeprefix("$ ")
                if text.startswith(".venv/bin/"):
                    single = text if " -c " in text else re.split(r" \||2>|>| <<|; ", text)[0]
                    yield page.name, tuple(shlex.split(single, comments=True))


FOUND = sorted(set(commands()))


def of(program):
    return [(page, words[1:]) for page, words in FOUND if words[0] == f".venv/bin/{program}"]


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    raw = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    return set(load_rules(raw, tmp_path_factory.mktemp("targets")))


def test_the_pages_hold_commands():
    assert len(FOUND) > 40
    assert {words[0].rsplit("/")[-1] for _, words in FOUND} <= {"snakemake", "nuclass", "python", "pip", "uv", "tensorboard"}


@pytest.mark.parametrize(("page", "words"), of("snakemake"), ids=str)
def test_snakemake_commands_have_real_options_and_targets(page, words, targets):
    options = get_argument_parser().parse_args(words)
    for target in options.targets:
        assert target in targets or MADE_BY_A_RUN.match(target), f"{page}: there is no target {target}"
    for rule in [*(options.allowed_rules or []), *(options.until or [])]:
        assert rule in targets | {"fetch_slide"}
    for profile in options.profile or []:
        assert (ROOT / profile / "config.yaml").is_file()


@pytest.mark.parametrize(("page", "words"), of("nuclass"), ids=str)
def test_nuclass_commands_have_real_options(page, words):
    group = typer.main.get_command(app)
    name, *arguments = words
    if name == "--version":
        return
    assert name in group.commands, f"{page}: there is no command {name}"
    if "--help" in arguments:
        return
    try:
        group.commands[name].make_context(name, list(arguments))
    except Exception as error:
        pytest.fail(f"{page}: nuclass {' '.join(words)}: {error}")


@pytest.mark.parametrize(("page", "words"), of("python"), ids=str)
def test_python_commands_name_real_files(page, words):
    for word in words:
        if word.startswith(("benchmarks/", "tests/")):
            assert (ROOT / word).exists(), f"{page}: {word}"


@pytest.mark.parametrize(("page", "words"), of("pip"), ids=str)
def test_extras_exist(page, words):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in re.findall(r"\[(\w+)\]", " ".join(words)):
        assert extra in extras
