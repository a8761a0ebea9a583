"""Time steps as rounded differences in a model file: what is stored, what is read, and when a step stands for itself."""

import json

import numpy as np
import pytest

from apmgsrn_core import ArraySpec, Grid, ModelConfig, ModelFileError, NeuralVolume, TrainConfig, psnr, train_series, train_volume
from apmgsrn_core.file import coded_network
from apmgsrn_core.file import network_reader
from apmgsrn_core.training import time_series
from apmgsrn_core.file.coded_network import DecodedNetwork, decode_network
from apmgsrn_core.file.model_file import MAGIC, PREAMBLE, ModelFile
from apmgsrn_core.file.network_reader import read_decoded, read_network

SMALL = ModelConfig(10, 1, (6, 6, 6), hidden_layers=1, hidden_width=16, bias=True)
GRID = Grid((17, 14, 13))
FEW = TrainConfig(iterations=250)


def at(time):
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (13, 14, 17)), indexing="ij")
    return (np.sin(3 * x - 0.1 * time) + y * z * (1 + 0.05 * time)).astype(np.float32)


def series(steps, **settings):
    settings = {"model": SMALL, "train": FEW, **settings}
    return list(train_series(((float(t), at(v)) for t, v in enumerate(steps)), GRID, **settings))


def coders(model: bytes) -> list[str]:
    return [s["coder"] for s in ModelFile(model).header.manifest["sections"]]


@pytest.fixture(scope="module")
def moving():
    """Steps that are alike, with a jump to something else."""
    return series([0, 1, 2, 30, 31])


@pytest.fixture(autouse=True)
def nothing_is_remembered(monkeypatch):
    monkeypatch.setattr(coded_network, "_decoded", coded_network._Decoded(1 << 20))


def test_like_steps_are_differences_and_unlike_ones_stand_for_themselves(moving):
    model = moving[-1].to_bytes()
    assert coders(model) == ["rounded", "delta", "delta", "rounded", "delta"]
    assert ModelFile(model).header.manifest["requires"] == ["coded networks"]
    volume = NeuralVolume.from_bytes(model)
    for time, (value, result) in enumerate(zip([0, 1, 2, 30, 31], moving)):
        found = psnr(at(value), volume.sample_region(time=float(time)))
        assert found > 30 and abs(found - result.psnr) < 1.0


def test_the_steps_of_a_series_have_no_macrocells(moving):
    """They would take as long as a quarter of the training of a step."""
    file = ModelFile(moving[-1].to_bytes())
    assert all(list(file.read_section(0, step)) == ["coded"] for step in range(5))
    assert "macrocells" in ModelFile(train_volume(at(0), GRID, model=SMALL, train=FEW).to_bytes()).read_section()


def test_a_coded_series_is_much_smaller_at_little_less(moving):
    plain = series([0, 1, 2], train=TrainConfig(iterations=250, rounding=0.0))
    sizes = [sum(s["length"] for s in ModelFile(m).header.manifest["sections"][:3]) for m in
             (moving[2].to_bytes(), plain[-1].to_bytes())]  # fmt: skip
    assert sizes[0] < 0.5 * sizes[1]
    assert coders(plain[-1].to_bytes()) == ["none"] * 3
    assert moving[2].psnr > plain[2].psnr - 5.0  # rounding alone 0.8 dB; the pull costs where training goes on and on


def test_rounding_costs_what_was_chosen():
    plain, fine, coarse = (
        train_volume(at(0), GRID, model=SMALL, train=TrainConfig(iterations=250, rounding=r)) for r in (0.0, 0.1, 1.0)
    )
    assert coders(plain.to_bytes()) == ["none"] and coders(coarse.to_bytes()) == ["rounded"]
    assert len(coarse.to_bytes()) < len(fine.to_bytes()) < len(plain.to_bytes())
    gap = fine.psnr - coarse.psnr  # 10 log10(2 / 1.1) = 2.6 dB
    assert 1.6 < gap < 3.6


def test_a_step_in_so_many_stands_for_itself_but_starts_from_the_one_before(monkeypatch):
    monkeypatch.setattr(time_series, "KEY_EVERY", 2)
    monkeypatch.setattr("apmgsrn_core.bricks.worker.KEY_EVERY", 2)
    model = series([0, 1, 2, 3])[-1].to_bytes()
    assert coders(model) == ["rounded", "delta", "rounded", "delta"]


def test_reading_goes_back_to_the_last_key_frame_only_and_remembers(moving, monkeypatch):
    file = ModelFile(moving[-1].to_bytes())
    decoded, original = [], coded_network.unpack_tensors
    monkeypatch.setattr(coded_network, "unpack_tensors", lambda *a: decoded.append(len(a[0])) or original(*a))
    read_network(file, 0, 1, 4)
    assert len(decoded) == 2
    read_network(file, 0, 1, 3)
    read_network(file, 0, 1, 2)
    assert len(decoded) == 5
    read_network(ModelFile(moving[-1].to_bytes()), 0, 1, 1)
    assert len(decoded) == 5


@pytest.mark.parametrize("share, count", [(2.0, 2), (0.5, 1)])
def test_what_is_kept_has_a_limit(moving, monkeypatch, share, count):
    file = ModelFile(moving[-1].to_bytes())
    kept = coded_network._Decoded(int(share * read_decoded(file, 0, 1, 0).byte_count))
    monkeypatch.setattr(coded_network, "_decoded", kept)
    for step in range(5):
        read_network(file, 0, 1, step)
    assert len(kept._kept) == count


@pytest.mark.parametrize("bricks", [(1, 1, 1), (2, 1, 1)])
def test_differences_to_steps_that_are_not_coded(bricks):
    """A model whose first step keeps its numbers takes steps that are differences to it."""
    plain = TrainConfig(iterations=250, rounding=0.0)
    first = train_volume(at(0), GRID, time=0.0, model=SMALL, train=plain, bricks=bricks)
    both = train_volume(at(1), GRID, time=1.0, append=first.to_bytes(), train=FEW)
    assert coders(both.to_bytes()) == ["none", "delta"] * np.prod(bricks)
    assert psnr(at(1), both.volume.sample_region(time=1.0)) > 30
    file = ModelFile(both.to_bytes())
    assert DecodedNetwork.of(read_network(file, 0, 1, 0)).name == read_decoded(file, 0, 1, 0).name


def test_holes_are_kept_beside_the_numbers():
    def holed(time):
        values = at(time)
        values[: 2 + time, :4] = np.nan
        return values

    volume = list(train_series([(float(t), holed(t)) for t in (0, 1)], GRID, model=SMALL, train=FEW))[-1].volume
    for time in (0, 1):
        np.testing.assert_array_equal(np.isfinite(volume.sample_region(time=time)), np.isfinite(holed(time)))


def test_arrays_of_other_quality_keep_it():
    """Rounding is relative to the error of each array."""
    both = lambda t: np.stack([np.broadcast_to(np.linspace(0, 1, 17, dtype=np.float32), at(t).shape), at(t)], axis=3)  # noqa: E731
    specs = (ArraySpec("ramp", 1, "float32"), ArraySpec("wave", 1, "float32"))
    found = {
        share: train_volume(both(0), GRID, arrays=specs, model=SMALL, train=TrainConfig(iterations=600, rounding=share)).array_psnr
        for share in (0.0, 0.2)
    }
    for name in ("ramp", "wave"):
        assert found[0.2][name] > found[0.0][name] - 4.0


def test_a_constant_step_is_exact():
    steps = [(0.0, at(0)), (1.0, np.full((13, 14, 17), 0.25, np.float32)), (2.0, at(0))]
    volume = list(train_series(steps, GRID, model=SMALL, train=FEW))[-1].volume
    np.testing.assert_array_equal(volume.sample_region(time=1.0), steps[1][1])
    assert psnr(at(0), volume.sample_region(time=2.0)) > 25


def edited(model: bytes, change) -> bytes:
    """The model with its manifest changed."""
    _, version, _, offset, length, _ = PREAMBLE.unpack(model[: PREAMBLE.size])
    manifest = json.loads(model[offset : offset + length])
    change(manifest)
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    import hashlib

    return PREAMBLE.pack(MAGIC, version, 0, offset, len(text), hashlib.sha256(text).digest()) + model[PREAMBLE.size : offset] + text


@pytest.mark.parametrize(
    "step, coder, message",
    [
        (0, "delta", "time step 0: expected a first time step that stands for itself"),
        (1, "zip", "time step 1: coder 'zip' is not known"), (1, ["delta"], "not known"),
        (1, "rounded", "time step 1: .*time step before"), (0, "none", "the manifest asks for more parameters"),
    ],
)  # fmt: skip
def test_a_wrong_coder_is_an_error(moving, step, coder, message):
    model = edited(moving[-1].to_bytes(), lambda manifest: manifest["sections"][step].update(coder=coder))
    with pytest.raises(ModelFileError, match=message):
        read_network(ModelFile(model), 0, 1, 1)


def test_numbers_of_another_architecture_are_an_error(moving):
    model = edited(moving[-1].to_bytes(), lambda manifest: manifest["model"].update(number_of_grids=9))
    with pytest.raises(ModelFileError, match="section of brick 0"):
        read_network(ModelFile(model), 0, 1, 1)


def test_coded_bytes_are_asked_for(moving):
    plain = TrainConfig(iterations=250, rounding=0.0)
    first = train_volume(at(0), GRID, time=0.0, model=SMALL, train=plain).to_bytes()
    model = edited(first, lambda manifest: manifest["sections"][0].update(coder="rounded"))
    with pytest.raises(ModelFileError, match="expected the bytes 'coded', found none"):
        read_network(ModelFile(model), 0, 1, 0)


def test_decoding_says_when_the_architecture_changes(moving):
    file = ModelFile(moving[-1].to_bytes())
    before = read_decoded(file, 0, 1, 0)
    data = file.read_section(0, 1)[network_reader.CODED].tobytes()
    with pytest.raises(ModelFileError, match="another one"):
        decode_network(data, SMALL.with_parameters(900).with_components(1), before)


def test_a_step_whose_start_is_dead_begins_anew_and_stands_for_itself(monkeypatch):
    from apmgsrn_core.bricks.worker import BrickWorker

    start, begun = BrickWorker._start, []

    def dying(worker, *more):
        network, before = start(worker, *more)
        begun.append(before is not None)
        if begun[-1]:
            for layer in network.layers[:-1]:
                layer.weight.data.zero_()
                layer.bias.data.fill_(-1.0)
        return network, before

    monkeypatch.setattr(BrickWorker, "_start", dying)
    model = series([0, 1])[-1]
    assert begun == [False, True, False] and coders(model.to_bytes()) == ["rounded", "rounded"]
    assert psnr(at(1), model.volume.sample_region(time=1.0)) > 30


@pytest.mark.slow
def test_a_step_of_bricks_goes_on_where_it_was_cut_off(tmp_path):
    path, settings = tmp_path / "m.apmgsrn", {"bricks": (2, 1, 1)}
    whole = series([0, 1], **settings)[-1].to_bytes()
    series([0], path=path, **settings)
    seen = []

    def cut(state):
        if state.brick == 1:
            raise RuntimeError("cut off")

    with pytest.raises(Exception, match="cut off"):
        series([0, 1], path=path, on_progress=cut, **settings)
    assert len(ModelFile(path).header.times) == 1
    series([0, 1], path=path, on_progress=lambda state: seen.append(state.brick), **settings)
    assert 0 not in seen and path.read_bytes() == whole


@pytest.mark.parametrize(
    "change",
    [
        lambda sections: sections[1].update({k: sections[0][k] for k in ("offset", "length", "sha256")}),
        lambda sections: sections.append(dict(sections[2])), lambda sections: sections.reverse(),
        lambda sections: sections[3].update(offset=sections[3]["offset"] + 1),
    ],
)  # fmt: skip
def test_sections_out_of_order_are_an_error(moving, change):
    with pytest.raises(ModelFileError, match="expected sections in order"):
        ModelFile(edited(moving[-1].to_bytes(), lambda manifest: change(manifest["sections"])))
