"""A failure's one line says what was wrong, in whichever framework it happened."""

from __future__ import annotations

import pytest

from studies.run.process import cause_in, failure_noted
from studies.store.files import reason_of
from studies.store.folder import RunFolder

IN_A_LAYER = """Exception encountered when calling UNet.call().

\x1b[1m{{function_node __wrapped__GatherV2_device_/job:localhost/replica:0/task:0/device:CPU:0}} indices[1] = 7 is not \
in [0, 3) [Op:GatherV2] name: \x1b[0m

Arguments received by UNet.call():
  • t=tf.Tensor(shape=(2,), dtype=int32)"""

IN_A_GRAPH = """Graph execution error:

Detected at node mlp_1/time_features_1/GatherV2_1 defined at (most recent call last):
  File "/home/me/train.py", line 19, in <module>

  File "/home/me/backends/keras/placed.py", line 38, in evaluate

indices[2] = 1031 is not in [0, 1024)
\t [[{{node mlp_1/time_features_1/GatherV2_1}}]] [Op:__inference_step_1234]"""


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (IN_A_LAYER, "indices[1] = 7 is not in [0, 3) [Op:GatherV2] name:"),
        (IN_A_GRAPH, "indices[2] = 1031 is not in [0, 1024)"),
        ("{{function_node __inference_f_37}} OOM when allocating tensor", "OOM when allocating tensor"),
        ("a plain reason\nwith more", "a plain reason"),
        ("", ""),
        ("\n\n", ""),
    ],
)
def test_the_cause_is_what_was_wrong(message, cause):
    """Messages as Keras 3 and TensorFlow 2 wrote them."""
    assert cause_in(message) == cause


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError(IN_A_LAYER), "ValueError: indices[1] = 7 is not in [0, 3) [Op:GatherV2] name:"),
        (MemoryError(), "MemoryError: no message"),
        (KeyError("\n"), "KeyError: '\\n'"),
    ],
)
def test_it_is_the_first_line_of_the_failure(tmp_path, error, line):
    folder = RunFolder(tmp_path).cell("a")
    with failure_noted([folder]):
        raise error
    assert reason_of(folder) == line
    assert "Traceback (most recent call last)" in folder.failure.read_text()
