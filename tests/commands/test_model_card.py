"""`minwatt model card` and `model choose` on a tiny model with two variants: real figures, exact errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from minwatt.cli import main
from minwatt.v1.model_dir import ModelDirectory
from modelkit.card.measurements import GridIntensity, read_card
from modelkit.card.parameters import parameters_of
from modelkit.card.pareto import Candidate, Limits, pick
from modelkit.card.run import training_energy
from modelkit.inference import Graph, encode, load_tokenizer, run_batch
from modelkit.scoring.evaluate import evaluate
from modelkit.scoring.finetune_report import REPORT_FILE, FinetuneReport, TrainingEnergy
from scaler.variants import Offer, SwitchRules, VariantState
from scaler.variants import choose as fleets_choice
from tests.modelkit.tiny_graph import tiny_graph
from tests.tiny_model import INTENTS, TAGS, WORDS, write_tiny_model

SETS = {"intent": "questions", "entities": "people"}
SET_OPTIONS = ["--intent-set", "questions", "--entity-set", "people"]
SHORT = ["--rounds", "3", "--round-s", "0.001", "--batch", "2", "--meter", "modelled"]
TEXTS = [f"{WORDS[i]} {WORDS[i + 1]} {WORDS[i + 2]}" for i in range(len(WORDS) - 2)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants with weights of their own."""
    path = write_tiny_model(tmp_path_factory.mktemp("models") / "tiny", variants=("int8", "other"))
    spec = ModelDirectory.open(path).spec
    intent, entities = spec.tasks
    tasks = (intent, entities.model_copy(update={"name": "entities"}))
    ModelDirectory(path, spec.model_copy(update={"tasks": tasks})).save()
    return path


@pytest.fixture(scope="module")
def data(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts labelled as int8 answers them; sentences with one entity too few."""
    path = tmp_path_factory.mktemp("data")
    directory = ModelDirectory.open(model)
    tokenizer = load_tokenizer(directory.tokenizer_file(), directory.spec.max_tokens)
    answers = run_batch(Graph(directory.variant_file("int8")), encode(tokenizer, TEXTS))
    (path / "questions").mkdir()
    (path / "people").mkdir()
    (path / "questions" / "labels.txt").write_text("\n".join(INTENTS))
    (path / "people" / "labels.txt").write_text("\n".join(TAGS))
    lines = [
        json.dumps({"text": text, "label": INTENTS[answer.intents.argmax()]})
        for text, answer in zip(TEXTS, answers, strict=True)
    ]
    (path / "questions" / "test.jsonl").write_text("\n".join(lines))
    (path / "people" / "test.conll").write_text(
        "Alice\tB-PER\nSmith\tI-PER\nlives\tO\n\nJosé\tB-PER\nis\tO\nat\tO\nParis\tO\n"
    )
    return path


@pytest.fixture(scope="module")
def measured(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a card."""
    out = tmp_path_factory.mktemp("out") / "card"
    more = ["--grid-intensity", "400", "--battery-wh", "10", "--out", str(out)]
    assert run("card", str(model), "--data", str(data), *SET_OPTIONS, *SHORT, *more) == 0
    return out


def run(*arguments: str) -> int:
    """The exit code of `minwatt model ARGUMENTS`."""
    with pytest.raises(SystemExit) as caught:
        main(["model", *arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_a_model_that_reads_no_entities_has_a_card_too(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model, tmp_path / "model")
    spec = ModelDirectory.open(model).spec
    ModelDirectory(tmp_path / "model", spec.model_copy(update={"tasks": spec.tasks[:1]})).save()
    texts = data / "questions" / "test.jsonl"
    files = ["--task", f"intent:{texts},{texts},{texts}"]
    assert run("card", str(tmp_path / "model"), *files, *SHORT, "--out", str(tmp_path)) == 0
    card = read_card(tmp_path / "card.json")
    assert [one.entity_f1 for one in card.variants] == [None, None]
    assert card.sets == {"intent": str(texts)}
    capsys.readouterr()
    assert run("choose", str(tmp_path / "card.json"), "--min-accuracy", "0.5") == 0
    assert run("choose", str(tmp_path / "card.json"), "--min-f1", "0.5") == 1
    assert "it reads no entities" in capsys.readouterr().out


def test_the_card_has_every_variants_figures(measured: Path, model: Path, data: Path) -> None:
    card = read_card(measured / "card.json")
    directory = ModelDirectory.open(model)
    scores = {one.variant: one for one in evaluate(model, data, sets=SETS).variants}
    assert [one.variant for one in card.variants] == ["int8", "other"]
    assert card.meter.source == "modelled"
    for one in card.variants:
        score = scores[one.variant]
        assert (one.accuracy.value, one.entity_f1.value) == (score.accuracy, pytest.approx(score.entity_f1))
        assert one.disk_bytes == directory.spec.variants[one.variant].size_bytes
        assert one.parameters == parameters_of(directory.variant_file(one.variant)) > 0
        assert one.resident_bytes > one.disk_bytes
        assert {(timed.texts, timed.tokens) for timed in one.grid} >= {(1, 16), (32, 64)}
        for timed in (one.own, *one.grid):
            assert timed.calls >= 100
            assert 0 < timed.p50_s <= timed.p99_s
            for value_s, interval in (
                (timed.p50_s, timed.p50_interval_s),
                (timed.p99_s, timed.p99_interval_s),
            ):
                assert interval is not None
                assert interval.low <= interval.value == value_s <= interval.high
            assert timed.joules_per_1000_texts is not None
            assert timed.joules_per_1000_texts.median > 0
        joules = one.own.joules_per_1000_texts
        assert joules is not None
        assert one.own.watts is not None
        assert one.gco2_per_million_texts == pytest.approx(joules.median * 1000 / 3.6e6 * 400)
        assert one.battery_texts == pytest.approx(10 * 3600 / joules.median * 1000)
        assert one.battery_hours == pytest.approx(10 / one.own.watts.median)
    assert any(one.on_front for one in card.variants)
    [pair] = card.comparisons
    assert (pair.one, pair.other) == ("int8", "other")


def test_the_training_is_shown_where_the_report_is_of_this_model(model: Path, tmp_path: Path) -> None:
    spec = ModelDirectory.open(model).spec
    fp32 = spec.variants["int8"].model_copy(update={"sha256": "a" * 64})
    directory = ModelDirectory(
        tmp_path, spec.model_copy(update={"variants": {**spec.variants, "fp32": fp32}})
    )
    assert training_energy(directory, None) is None
    report = FinetuneReport(
        model="mine",
        version="1",
        fp32_sha256="a" * 64,
        tasks=(),
        notes=(),
        forgetting=(),
        published=True,
        energy=TrainingEnergy.of(("modelled", "an estimate"), "cpu", 1, (7.2e6, 60.0), 400.0),
    )
    (tmp_path / REPORT_FILE).write_text(report.model_dump_json())
    assert training_energy(directory, None) == report.energy
    cleaner = GridIntensity(source="stated", gco2_per_kwh=100, low=100, high=100)
    found = training_energy(directory, cleaner)
    assert found is not None
    assert (found.kwh, found.gco2) == (2.0, 200.0)
    (tmp_path / REPORT_FILE).write_text(report.model_copy(update={"fp32_sha256": "b" * 64}).model_dump_json())
    assert training_energy(directory, None) is None


def test_the_page_opens_without_a_network_and_says_what_was_measured(measured: Path) -> None:
    page, text = ((measured / name).read_text(encoding="utf-8") for name in ("card.html", "card.md"))
    assert "<script src" not in page
    for words in ("Accuracy × joules", "int8", "other", "modelled from CPU time", "tiny-text 1: energy card"):
        assert words in page
        assert words in text
    made_by = json.loads((measured / "card.json").read_text())["provenance"]
    assert made_by["watts"] == "modelled"


def test_the_table_fits_and_json_is_the_file(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(data), *SET_OPTIONS, *SHORT, "--variant", "int8", "--out", str(tmp_path)]
    assert run("card", str(model), *arguments) == 0
    table = capsys.readouterr().out
    for words in ("J a 1,000 texts", "gCO2 a million texts", "int8", "Joules are modelled"):
        assert words in table
    assert run("card", str(model), *arguments, "--json") == 0
    assert capsys.readouterr().out == (tmp_path / "card.json").read_text()


def test_the_intensity_is_a_files_mean_of_what_it_knows(model: Path, data: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid.csv"
    grid.write_text(
        "t_s,timestamp_utc,gco2_per_kwh\n0,2022-01-01,100\n3600,2022-01-01,\n7200,2022-01-01,300\n"
    )
    arguments = ["--data", str(data), *SET_OPTIONS, *SHORT, "--variant", "int8", "--carbon", str(grid)]
    assert run("card", str(model), *arguments, "--out", str(tmp_path)) == 0
    found = read_card(tmp_path / "card.json").intensity
    assert found is not None
    assert (found.gco2_per_kwh, found.low, found.high) == (200, 100, 300)
    assert found.source == "grid.csv, from 2022-01-01, mean of 2 of 3 rows"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--battery-wh", "0"], "--battery-wh = 0: allowed: more than 0"),
        (["--round-s", "inf"], "Invalid value for '--round-s'"),
        (["--battery-wh", "1e308"], "--battery-wh = 1e+308: allowed: more than 0, up to 1e+09"),
        (["--grid-intensity", "1e308"], "--grid-intensity = 1e+308: allowed: gCO2 a kWh, at least 0, up to"),
        (["--grid-intensity", "-1"], "--grid-intensity = -1: allowed: gCO2 a kWh, at least 0"),
        (["--grid-intensity", "1", "--carbon", "x"], "--carbon: goes without --grid-intensity"),
        (["--carbon", "absent.csv"], "absent.csv: not a readable intensity file"),
        (["--provider", "tpu"], "--provider = 'tpu': allowed: cpu, cuda"),
        (["--meter", "sunlight"], "--meter: meter = 'sunlight': allowed: auto, nvml"),
        (
            ["--meter", "replayed:RECORDING"],
            "not what --provider cpu draws in this run; allowed: rapl",
        ),
        (["--variant", "int4"], "variant = 'int4': not in model directory"),
        (["--batch", "99"], "batch = 99: the set has 12 texts"),
        (["--split", "all"], "split = 'all': allowed are train, dev, test"),
    ],
)
def test_a_users_mistake_is_one_line(
    arguments: list[str],
    message: str,
    model: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recording = tmp_path / "watts.csv"
    recording.write_text("t_s,watts\n0,5\n1,5\n")
    arguments = [one.replace("RECORDING", str(recording)) for one in arguments]
    given = ["--data", str(data), *SET_OPTIONS, "--meter", "modelled", "--out", str(tmp_path)]
    assert run("card", str(model), *given, *arguments) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_choose_says_why_or_what_would_fit(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("choose", str(measured), "--min-accuracy", "0.99", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["chosen"] == "int8"  # the texts' labels are its answers
    assert answer["reasons"]["other"].startswith("accuracy 0.")
    assert run("choose", str(measured / "card.json"), "--max-latency", "0.001us") == 1
    told = capsys.readouterr().out
    assert told.startswith("none  (tiny-text 1 on ")
    [line] = [line for line in told.splitlines() if line.startswith("int8 would fit with ")]
    limits = line.removeprefix("int8 would fit with ").split()
    assert run("choose", str(measured), *limits, "--min-accuracy", "1") == 0


def test_choose_names_what_it_cannot_use(
    measured: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: str) -> str:
        assert run("choose", *arguments) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "can't be read" in told(str(tmp_path))
    assert "--max-latency = 'soon': allowed" in told(str(measured), "--max-latency", "soon")
    assert "--device = 'abacus': measured were " in told(str(measured), "--device", "abacus")
    assert "--device: 2 cards fit" in told(str(measured), str(measured))
    (tmp_path / "card.json").write_text('{"format": 2}')
    assert "format = 2" in told(str(tmp_path))
    document = json.loads((measured / "card.json").read_text())
    for value, what in ((float("nan"), "finite number"), (-1.0, "greater than or equal to 0")):
        document["variants"][0]["own"]["p99_s"] = value
        (tmp_path / "card.json").write_text(json.dumps(document))
        assert what in told(str(tmp_path)), "it would be chosen, or never, without a word"
    shutil.copytree(model, tmp_path / "model")
    shutil.copy(measured / "card.json", tmp_path / "model")
    assert run("choose", str(tmp_path / "model")) == 0
    write_tiny_model(tmp_path / "model", seed=99)
    assert "measured with another file than model.yaml lists" in told(str(tmp_path / "model"))


def test_parameters_are_counted_as_onnx_counts_them(tmp_path: Path) -> None:
    graph = tiny_graph(1)
    file = tmp_path / "graph.onnx"
    onnx.save(graph, file)
    assert parameters_of(file) == sum(numpy_helper.to_array(one).size for one in graph.graph.initializer)
    packed = numpy_helper.from_array(numpy_helper.to_array(graph.graph.initializer[0])[:4], "packed")
    graph.graph.initializer.append(packed)  # two weights a byte: the attributes say how many
    node = helper.make_node("MatMulNBits", ["x", "packed"], ["y"], domain="com.microsoft", K=64, N=10)
    graph.graph.node.append(node)
    onnx.save(graph, file)
    whole = sum(numpy_helper.to_array(one).size for one in graph.graph.initializer[:-1])
    assert parameters_of(file) == whole + 640
    assert packed.data_type == TensorProto.FLOAT


SHARES = st.floats(0, 1)


@given(st.lists(st.tuples(SHARES, st.floats(0.001, 1e4)), min_size=1, max_size=8), st.none() | SHARES)
def test_a_fleet_that_starts_chooses_the_same(rows: list[tuple[float, float]], least: float | None) -> None:
    """Where each variant's fleet draws in proportion to its joules, and all hold the SLO."""
    candidates = [
        Candidate(f"v{i}", accuracy, 0.5, joules, 0.01) for i, (accuracy, joules) in enumerate(rows)
    ]
    allowed = {one.name: one.joules or 0.0 for one in candidates if least is None or one.accuracy >= least}
    chosen = pick(candidates, Limits(min_accuracy=least)).chosen
    if not allowed:
        assert chosen is None
        return
    offers = {name: Offer(watts=joules, replicas=1) for name, joules in allowed.items()}
    _, choice = fleets_choice(VariantState(), offers, {}, 1, 0.0, SwitchRules(0.0, 0.0, 1.0))
    assert allowed[choice.asked] == allowed[chosen or ""]
