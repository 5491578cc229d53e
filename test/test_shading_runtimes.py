"""Every runtime gives the reference's pictures; what cannot be computed is refused in words."""
import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from visa_ros.cache import write_arrays
from visa_ros.errors import InputError, MissingDependencyError, ResourceError
from visa_ros.shading.exported import FLOAT, INT8, find_exported, manifest_path, onnx_path
from visa_ros.shading.folded import FoldedNetwork
from visa_ros.shading.guidance import SHAPE_CHANNELS
from visa_ros.shading.job import read_job
from visa_ros.shading.network import (
    ShaderNetwork,
    load_network,
    save_network,
)
from visa_ros.shading.network_config import ShaderNetworkConfig
from visa_ros.shading.runtime import open_runtime

CHANNELS = (16, 24, 32)
GUIDE = SHAPE_CHANNELS + 16
# Of 2, the range of colours: rounding in float32, and of bytes in int8.
TOLERANCE, INT8_MEAN, INT8_WORST = 1e-4, 0.02, 0.2


def needs(*modules):
    missing = [module for module in modules if not find_spec(module)]
    return pytest.mark.skipif(bool(missing), reason=f'{", ".join(missing)} not installed')


def write_weights(path, seed=0):
    """Weights that change the picture visibly, of no use."""
    torch.manual_seed(seed)
    network = ShaderNetwork(ShaderNetworkConfig(channels=CHANNELS))
    for module in network.modules():  # every layer counts, those of the time as well
        for name in ('second', 'by_time'):
            if hasattr(module, name):
                torch.nn.init.normal_(getattr(module, name).weight, std=0.02)
    torch.nn.init.normal_(network.leave.weight, std=0.02)
    save_network(network, path, {})
    return path


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp('plain') / 'shader.safetensors')


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """Weights with graphs beside them, int8 calibrated on noise like that of the tests."""
    pytest.importorskip('onnx', reason='onnx is not installed')
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    from visa_ros.training.shader.export import export

    folder = tmp_path_factory.mktemp('exported')
    path = write_weights(folder / 'shader.safetensors')
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (1, 2, 64, 64, 4), np.uint8)
    pictures[..., 3] = 255
    (folder / 'pairs').mkdir()
    write_arrays(folder / 'pairs' / 'noise.npz', render=pictures, truth=255 - pictures,
                 guide=rng.uniform(-1, 1, (1, 2, GUIDE, 16, 16)).astype(np.float16))
    assert export(path, folder / 'pairs', crop_px=64) == [
        onnx_path(path, FLOAT), onnx_path(path, INT8)]
    return path


def inputs(height=96, width=128):
    rng = np.random.default_rng(0)
    return (rng.uniform(-1, 1, (12, height, width)).astype(np.float32),
            rng.uniform(-1, 1, (GUIDE, height // 4, width // 4)).astype(np.float32))


def asked(kind, weights, precision='float32', t=1.0, size=(96, 128)):
    runtime = open_runtime(kind, read_job(weights, *size, precision, (t,)))
    return runtime.name, np.array(runtime(*inputs(*size), t))


def reference(weights, t=1.0, size=(96, 128)):
    pixels, guide = inputs(*size)
    out = load_network(weights)(torch.from_numpy(pixels)[None], torch.from_numpy(guide)[None],
                                torch.tensor([t]))[0].numpy()
    assert np.abs(out - pixels[3:6]).max() > 0.1  # it does change the picture
    return out


@pytest.mark.parametrize('t', [1.0, 0.5])
def test_a_folded_network_answers_as_the_whole(weights, t):
    pixels, guide = (torch.from_numpy(value)[None] for value in inputs())
    out = FoldedNetwork(load_network(weights), t)(pixels, guide)[0].numpy()
    assert np.abs(out - reference(weights, t)).max() < 1e-5


@pytest.mark.parametrize('kind', ['torch', pytest.param('openvino', marks=needs('openvino'))])
@pytest.mark.parametrize('t', [1.0, 0.5])
def test_float32_agrees_at_any_time(weights, kind, t):
    assert np.abs(asked(kind, weights, t=t)[1] - reference(weights, t)).max() < TOLERANCE


@pytest.mark.parametrize('size', [(96, 128), (64, 32)])
def test_the_exported_graph_agrees_at_any_size(exported, size):
    name, out = asked('onnxruntime', exported, size=size)
    assert FLOAT in name
    assert np.abs(out - reference(exported, size=size)).max() < TOLERANCE


@pytest.mark.parametrize('kind', [pytest.param('openvino', marks=needs('openvino')),
                                  'onnxruntime'])
@pytest.mark.parametrize('size', [(96, 128), (64, 32)])
def test_int8_is_near(exported, kind, size):
    name, out = asked(kind, exported, 'int8', size=size)
    assert INT8 in name
    error = np.abs(out - reference(exported, size=size))
    assert 0 < error.mean() < INT8_MEAN
    assert error.max() < INT8_WORST


@needs('openvino')
def test_auto_takes_int8_where_it_was_exported_and_float32_else(weights, exported):
    if torch.cuda.is_available():
        pytest.skip('auto is torch on a GPU')
    for path, precision in ((weights, FLOAT), (exported, INT8)):
        name, _ = asked('auto', path, 'auto')
        assert name.startswith('openvino')
        assert precision in name or 'bfloat16' in name


def test_runtimes_leave_the_network_as_it_is(weights):
    job = read_job(weights, 32, 32)
    before = {name: (value.device, value.clone())
              for name, value in job.network.state_dict().items()}
    first = open_runtime('torch', job)
    out = first(*inputs(32, 32), 1.0)
    open_runtime('auto', job)(*inputs(32, 32), 1.0)
    assert np.array_equal(first(*inputs(32, 32), 1.0), out)
    for name, value in job.network.state_dict().items():
        assert value.device == before[name][0]
        assert torch.equal(value, before[name][1])


def test_graphs_that_do_not_fit_are_refused_in_words(weights, exported, tmp_path):
    with pytest.raises(ResourceError, match='missing; write it: python -m'):
        asked('onnxruntime', weights)
    path = tmp_path / 'shader.safetensors'
    for source in (exported, manifest_path(exported), *(
            onnx_path(exported, precision) for precision in (FLOAT, INT8))):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    find_exported(path, INT8)
    graph = onnx_path(path, INT8).read_bytes()
    onnx_path(path, INT8).write_bytes(graph[:-1000])
    with pytest.raises(ResourceError, match='damaged or cut short'):
        asked('auto', path, 'int8')
    onnx_path(path, INT8).write_bytes(graph)
    manifest = json.loads(manifest_path(path).read_text())
    manifest_path(path).write_text(json.dumps(manifest | {'version': 99}))
    with pytest.raises(ResourceError, match='of version 99'):
        find_exported(path, INT8)
    manifest_path(path).write_text(json.dumps(manifest)[:20])
    with pytest.raises(ResourceError, match='cannot be read'):
        find_exported(path, INT8)
    manifest_path(path).write_text(json.dumps(manifest))
    write_weights(path, seed=1)  # trained again, not exported again
    with pytest.raises(ResourceError, match='other weights'):
        find_exported(path, INT8)
    name, out = asked('auto', path, 'auto')  # shades nevertheless, with the right weights
    assert INT8 not in name
    assert np.abs(out - reference(path)).max() < (0.05 if 'bfloat16' in name else TOLERANCE)


def test_what_does_not_go_together_is_refused(exported):
    with pytest.raises(InputError, match='not compute the shader in int8'):
        asked('torch', exported, 'int8')
    with pytest.raises(InputError, match=r'set shading\.steps to 1'):
        asked('onnxruntime', exported, t=0.5)


@pytest.mark.parametrize(('kind', 'module'), [('openvino', 'openvino'),
                                              ('onnxruntime', 'onnxruntime')])
def test_a_missing_runtime_says_how_to_get_it_and_auto_does_without(
        weights, kind, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(MissingDependencyError, match=f'{module} is needed.*pip install {module}'):
        open_runtime(kind, read_job(weights, 32, 32))
    monkeypatch.setitem(sys.modules, 'openvino', None)
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    assert open_runtime('auto', read_job(weights, 32, 32)).name.startswith('torch')


def printed(lines):
    """Return what a fresh process prints, by lines."""
    return subprocess.run([sys.executable, '-c', '\n'.join(lines)], check=True,
                          capture_output=True, text=True).stdout.splitlines()


def test_openvino_reports_nothing_to_its_makers(weights):
    pytest.importorskip('openvino', reason='openvino is not installed')
    lines = ['import sys; from pathlib import Path',
             'from visa_ros.shading.job import read_job',
             'from visa_ros.shading.runtime import open_runtime',
             f'open_runtime("openvino", read_job(Path({str(weights)!r}), 32, 32))',
             'print(sys.modules["openvino_telemetry"])',
             'print(sys.modules["openvino.tools.ovc.telemetry_utils"].tm.__name__)']
    assert printed(lines) == ['None', 'openvino.tools.ovc.telemetry_stub']


def test_an_exported_graph_needs_no_torch(exported):
    pytest.importorskip('openvino', reason='openvino is not installed')
    lines = ['import sys; from pathlib import Path',
             'from visa_ros.shading.config import ShadingConfig',
             'from visa_ros.shading.stream import ShaderStream',
             f'stream = ShaderStream(64, 64, ShadingConfig(weights={str(exported)!r}))',
             'print(stream.runtime.name); print("torch" in sys.modules)']
    name, torch_is_loaded = printed(lines)
    assert 'int8' in name
    assert torch_is_loaded == 'False'
