import pytest

from nuclass_pipeline.config.loading.run_files import is_target, read_run_files, source_of
from nuclass_pipeline.errors import UserError


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.yaml", "- a\n", "list.yaml: file: it is a list, not keys with values. Start from config/demo.yaml"),
        ("word.yaml", "demo\n", "word.yaml: file: it is a single value, not keys with values"),
        ("empty.yaml", "", "empty.yaml: file: it is empty"),
        ("comment.yaml", "# run: demo\n", "comment.yaml: file: it is empty"),
        ("twice.yaml", "run: a\nseeds: [0]\nrun: b\n", "twice.yaml: run: the key occurs twice, in line 1 and in line 3"),
        ("tab.yaml", "study:\n\ttrain: [a]\n", "tab.yaml: line 2: not valid YAML"),
        ("template.yaml", "__use_yte__: true\n", "template.yaml: __use_yte__: templates are not supported, because they run code"),
        ("code.yaml", "?if True:\n  run: a\n", "code.yaml: ?if True: templates are not supported"),
        ("utf-16.txt", "run: demo\n", "utf-16.txt: file: it is not in UTF-8, and Snakemake reads nothing else. Save it in UTF-8."),
        ("latin-1.txt", "run: demo # Müller\n", "latin-1.txt: file: it is not in UTF-8"),
        ("table.xlsx", "PK\x03\x04", "table.xlsx: file: it is a workbook"),
        ("labels.parquet", "PAR1", "labels.parquet: file: it was read as a run file. Write a target before --configfile."),
    ],
)
def test_a_run_file_that_is_none_is_one_line(tmp_path, monkeypatch, name, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(text.encode(name.removesuffix(".txt") if name.endswith(".txt") else "utf-8"))
    with pytest.raises(UserError) as refused:
        read_run_files([tmp_path / name])
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config/demo.yml", "config/demo.yml: file: it does not exist. Name it as it is in config, such as 'demo.yaml'."),
        ("config", "config: file: it is a folder, not a file"),
        ("nowhere/a.yaml", "nowhere/a.yaml: file: it does not exist. Check the path after --configfile."),
        (
            "slides",
            "slides: file: it does not exist. slides is a target. Targets go before --configfile: snakemake --cores 2 slides",
        ),
        ("fig3", "fig3 is a target"),
        ("figure_confusion", "figure_confusion is a target"),
        ("results/demo/report.html", "results/demo/report.html is a target"),
    ],
)
def test_a_run_file_that_is_not_there_is_named_or_is_a_target(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/demo.yaml").touch()
    with pytest.raises(UserError) as refused:
        read_run_files([name])
    assert str(refused.value).startswith(message) or message in str(refused.value)


def test_targets_are_those_of_the_layout():
    assert all(map(is_target, ("all", "fig12", "tab1", "table_cohort", "ablation", "build_report")))
    assert not any(map(is_target, ("demo", "figx", "config/demo.yaml", "allx")))


def test_the_last_file_that_sets_a_key_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("run: a\nlocal: {optim: {lr_head: 1}}\n")
    (tmp_path / "b.yaml").write_text("local: {dropout: 0.1}\nseeds: [0]\n")
    sources = read_run_files([tmp_path / "a.yaml", "b.yaml"], {"seeds": [1]})
    assert list(sources) == ["a.yaml", "b.yaml", "--config"]
    found = {key: source_of(key, sources) for key in ("run", "local.optim.lr_head", "local.dropout", "seeds.0", "study", "local.x")}
    assert list(found.values()) == ["a.yaml", "a.yaml", "b.yaml", "--config", "b.yaml", "b.yaml"]
