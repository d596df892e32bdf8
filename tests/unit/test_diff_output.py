"""How `irkit diff` prints, and what it opens: nothing printed raw, nothing left uncounted."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from irkit.cli import diff_output as out
from irkit.cli.diff import _failed, compared
from irkit.cli.diff_sides import Opening, Side, as_one, opened, same_image, save
from irkit.compare.comparison import Comparison
from irkit.compare.crowd import few, ranked
from irkit.engine.fake.engine import FakeEngine
from irkit.errors import EvidenceAltered, UsageProblem
from irkit.models import Change, Finding, Gap
from tests.unit.compare.sides import Made, facts, tar_of, verdicts

RULES = "bad change high {path: /srv/*}\nworse change critical {path: /srv/z*}"
EVIL = "/srv/=\x1b[31m"


def compared_made(folder: Path, extra: int = 0) -> tuple[Comparison, Any]:
    made = Made().add(EVIL, b"x", 0o755).add("/var/cache/a", b"t\n").change("/etc/x", b"a\n", b"b\n")
    for number in range(extra):
        made.add(f"/opt/{number}", b"y")
    found = Comparison(verdicts(RULES, "cache {path: /var/cache/*}"), diffs=True)
    return found, found.of_evidence(made.at(folder / "bundle"))


def printed(
    form: str, capsys: pytest.CaptureFixture[str], folder: Path, extra: int = 0, **shown: Any
) -> tuple[str, str]:
    found, rows = compared_made(folder, extra)
    out.WRITERS[form](rows, found, out.Shown("web\x1b", "its image", **shown))
    got = capsys.readouterr()
    assert "\x1b" not in got.out + got.err
    return got.out, got.err


def test_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    document = json.loads(printed("json", capsys, tmp_path)[0])
    assert [one["rules"] for one in document["changes"]] == [["bad"], [], []]
    assert [one["noise"] for one in document["changes"]] == [None, "cache", None]
    assert (document["counts"]["total"], document["folded"], document["schema"]) == (3, {"cache": 1}, "irkit.diff/v2")


def test_csv(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Every row has all columns, and none begins like a formula."""
    rows = list(csv.reader(io.StringIO(printed("csv", capsys, tmp_path)[0])))
    assert {len(row) for row in rows} == {len(out.COLUMNS)} and tuple(rows[0]) == out.COLUMNS
    assert [row[0] for row in rows[1:]] == ["change"] * 3 + ["finding"]
    by_name = dict(zip(out.COLUMNS, rows[1], strict=True))
    assert (by_name["rules"], by_name["after_mode"], by_name["size"], by_name["before_sha256"]) == (
        "bad",
        "0755",
        "1",
        "",
    )
    assert [out._cell(text) for text in ("=1", "+1", "-1", "@x", "a", "")] == ["'=1", "'+1", "'-1", "'@x", "a", ""]
    assert [out._cell(text) for text in ("/x;=1", '/x; "@y', "/x;y")] == ["/x\\x3b=1", '/x\\x3b "@y', "/x;y"]


def test_gaps_are_in_each_form(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for form in out.WRITERS:
        found, rows = compared_made(tmp_path / form)
        found.gaps.append(Gap("tmpfs", "=what\x1b", "why"))
        out.WRITERS[form](rows, found, out.Shown("web", "its image"))
        got = capsys.readouterr()
        text = got.out + got.err
        assert "=what" in text and "why" in text and "\x1b" not in text.replace("\\u001b", "")
        assert form != "csv" or got.out.splitlines()[-1].split(",")[6] == "'=what\\x1b"


def test_unified(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = printed("unified", capsys, tmp_path)[0].splitlines()
    assert "-a" in lines and "+b" in lines


def test_a_diff_that_is_cut_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made = Made().add("/srv/\x1b[31m", b"".join(b"%d\n" % number for number in range(5000)))
    found = Comparison(verdicts(RULES), diffs=True)
    out.WRITERS["unified"](found.of_evidence(made.at(tmp_path / "b")), found, out.Shown("web", "its image"))
    got = capsys.readouterr()
    assert "is cut" in got.err and "\x1b" not in got.out + got.err and found.gaps == []


def test_sarif(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (run,) = json.loads(printed("sarif", capsys, tmp_path)[0])["runs"]
    assert [one["ruleId"] for one in run["results"]] == ["bad"]


def test_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What nothing explains up to a number; findings; all counts."""
    shown, said = printed("table", capsys, tmp_path, extra=out.SHOWN + 2)
    assert sum(line.startswith("A /opt/") for line in shown.splitlines()) == out.SHOWN - 1
    assert "… and 3 more without a finding" in shown and "/var/cache/a" not in shown
    assert "T: /srv/=\\x1b[31m" in shown and "C /etc/x" not in shown.replace("C /etc/x  sha256", "")
    assert (
        "30 changes (29 added, 1 changed, 0 deleted)" in said
        and "1 in findings, 1 folded (cache 1), 28 that no rule" in said
    )
    assert "1 findings: 1 high" in said


def test_a_crowd_of_findings_buries_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """An attacker makes hundreds of one kind: each rule has some lines, and says how many there are."""
    made = Made().add("/srv/zz", b"x")
    for number in range(300):
        made.add(f"/srv/z{number}", b"y").add(f"/srv/a{number}", b"y")
    found = Comparison(verdicts(RULES))
    out.WRITERS["table"](found.of_evidence(made.at(tmp_path / "b")), found, out.Shown("web", "its image"))
    shown = capsys.readouterr()
    assert shown.out.count("next: N") == 2 * out.EACH
    assert f"and {601 - out.EACH} more of bad" in shown.out and f"and {301 - out.EACH} more of worse" in shown.out
    assert "902 findings" in shown.err
    assert [(one.rule, more) for one, more in few(found.findings, 1)] == [("worse", 300), ("bad", 600)]
    assert [more for _, more in few(found.findings[:2], 2)] == [0, 0]


def test_a_crowd_of_gaps_buries_no_finding(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for everything, count in ((False, out.EACH), (True, 50)):
        found, rows = compared_made(tmp_path / f"{everything}")
        list(rows)
        found.gaps += [Gap("filesystem", f"/{'d/' * 2000}{number}", "too deep") for number in range(50)]
        found.gaps.append(Gap("logs", "raw", "gone"))
        out.WRITERS["table"]([], found, out.Shown("web", "its image", everything=everything))
        said = capsys.readouterr().err
        assert said.count(": too deep") == count and ("and 40 more of this kind" in said) is not everything
        assert "gap: raw: gone" in said and max(map(len, said.splitlines())) < 400


def test_a_crowd_comes_last_of_its_severity() -> None:
    """A thousand made findings of a rule that is first by name do not stand before one of another rule."""
    real = Finding("preload", "critical", "T", "R", (), "/etc/ld.so.preload", "N", "change")
    crowd = [replace(real, rule="miner-file", subject=f"/x{number}") for number in range(9)]
    low = replace(real, rule="a", severity="low")
    assert [one.rule for one in ranked([low, *crowd, real])] == ["preload", *["miner-file"] * 9, "a"]


@pytest.mark.thorough
def test_sarif_of_a_crowd(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What readers of SARIF would refuse as too much is left out, and said; --all writes it."""
    for everything, count in ((False, out.SARIF_EACH), (True, out.SARIF_EACH + 2)):
        made = Made()
        for number in range(out.SARIF_EACH + 2):
            made.add(f"/srv/{number}", b"y")
        found = Comparison(verdicts(RULES))
        rows = found.of_evidence(made.at(tmp_path / f"{everything}"))
        out.WRITERS["sarif"](rows, found, out.Shown("web", "its image", everything=everything))
        (run,) = json.loads(capsys.readouterr().out)["runs"]
        assert len(run["results"]) == count
        notes = [
            one["message"]["text"] for one in run.get("invocations", [{}])[0].get("toolExecutionNotifications", [])
        ]
        assert notes == ([] if everything else ["2 more findings of bad are not in this file: --all writes them"])


@pytest.mark.parametrize("option", ["everything", "names"])
def test_all_and_names(option: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shown, said = printed("table", capsys, tmp_path, extra=out.SHOWN + 2, **{option: True})
    assert sum(line[:2] in ("A ", "C ") for line in shown.splitlines()) == 30 and "more without" not in shown
    assert "[cache]" in shown and ("next: N" in shown) is (option == "everything") and "1 in findings" in said


def test_words() -> None:
    old = facts(b"a", xattrs={"user.x": "00"})
    assert out.words(Change("/x", "changed", old, facts(b"bb", 0o4755))).startswith(
        "mode 0644 → 4755, size 1 → 2, sha256 ca978112ca1b → "
    )
    assert out.words(Change("/x", "changed", old, facts(b"a"))) == "xattr user.x"
    assert out.words(Change("/x", "changed", facts(b"a"), facts(b"a", mtime_ns=1))) == "modification time"
    assert out.words(Change("/x", "changed", facts(b"a"), facts(b"a"))) == "attributes"
    assert out.words(Change("/x", "deleted", facts(b"a"), None)).startswith("file 0644 0:0 1 B sha256 ca978112ca1b")


def test_fail_on(tmp_path: Path) -> None:
    found, rows = compared_made(tmp_path)
    assert not _failed(found, "low")
    assert list(rows) and [_failed(found, name) for name in ("never", "critical", "high", "medium", "info")] == [
        False,
        False,
        True,
        True,
        True,
    ]


class Engine(FakeEngine):
    """One that knows an image, and gives a tree for it."""

    tree = tar_of({"a": b"1", "b": b"2"})

    def image_archive(self, ref: str, idle: float = 0) -> Iterator[bytes]:
        """As `docker save`."""
        yield b"".join(super().image_archive(ref, idle)) and tar_of(
            {"manifest.json": b'[{"Layers": ["l"]}]', "l": self.tree}
        )


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    """In place of every engine."""
    found = Engine("img")
    monkeypatch.setattr("irkit.engine.connect.open_engine", lambda _: found)
    monkeypatch.setenv("IRKIT_HOME", str(tmp_path / "home"))
    return found


@pytest.mark.parametrize("name", ["img", "image:img"])
def test_an_image(name: str, engine: Engine) -> None:
    with opened(name, Opening()) as side:
        assert (side.name, side.image_ref, side.evidence) == ("img", engine.image("img").id, None)
        with pytest.raises(UsageProblem, match="hold it against"):
            compared(Comparison(verdicts()), side, None, Opening(), ExitStack())


def test_nothing_of_that_name(engine: Engine) -> None:
    with pytest.raises(UsageProblem, match="no bundle, no container and no image"), opened("gone", Opening()):
        pass


def test_a_bundle_that_does_not_verify_is_not_read(engine: Engine, tmp_path: Path) -> None:
    side = Made().add("/x", b"x").at(tmp_path / "b")
    with pytest.raises(EvidenceAltered, match="does not verify"), opened(str(tmp_path / "b"), Opening()):
        pass
    (tmp_path / "b" / "seal.dsse.json").write_text("{}")
    for how in (Opening(), Opening(identities=())):
        with pytest.raises(EvidenceAltered, match="does not verify"), opened(str(tmp_path / "b"), how):
            pass
    assert list(side.changes())


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Side("a", image="i"), Side("b", image="i"), True), (Side("a", image="i"), Side("b", image="j"), False), (Side("a"), Side("b"), False),
        (Side("a", image="i", layers=("l",)), Side("b", image="j", layers=("l",)), True), (Side("a", image="i", layers=("l",)), Side("b", image="i", layers=("m",)), False),
        (Side("a", image="i", layers=("l",)), Side("b", image="i"), True),
    ],
)  # fmt: skip
def test_same_image(one: Side, other: Side, same: bool) -> None:
    """By its layers where both are known: engines name images differently."""
    assert same_image(one, other) is same


def test_a_container_as_if_another_image_were_its_own(engine: Engine, tmp_path: Path) -> None:
    evidence = Made({"Image": "img"}).add("/c", b"3").delete("/a", b"1").at(tmp_path / "b")
    with as_one(Side("c", evidence), Side("i", image="img"), Opening()) as found:
        assert {(one.path, one.change) for one in found.changes()} == {("/a", "deleted"), ("/c", "added")}
        assert {one.change.path: one.stream.read() for one in found.taken() if one.stream is not None} == {"/c": b"3"}
    assert not list((tmp_path / "home" / "tmp").iterdir())
    engine.remove_image("img")
    with (
        pytest.raises(UsageProblem, match="its image img is needed"),
        as_one(Side("c", evidence), Side("i", image="img"), Opening()),
    ):
        pass


def test_two_images(engine: Engine) -> None:
    found = Comparison(verdicts())
    with ExitStack() as stack:
        assert not list(
            compared(found, Side("i", image="img"), Side("j", image="img", layers=("other",)), Opening(), stack)
        )
    assert not found.gaps


def test_only_a_live_side_is_saved(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="only what a container is now"):
        save(Side("i", image="x"), tmp_path / "f", None)
