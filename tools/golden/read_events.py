#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What TensorBoard itself finds in a run's event files.

    read_events.py OUTPUT_DIR/runs        (needs the tensorboard package)
"""
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

if len(sys.argv) != 2:
    sys.exit(__doc__)
events = EventAccumulator(sys.argv[1])
events.Reload()
for tag in events.Tags()["scalars"]:
    points = events.Scalars(tag)
    print(f"{tag}: {len(points)} points, steps {points[0].step} to {points[-1].step}, "
          f"last {points[-1].value:.9g}")
