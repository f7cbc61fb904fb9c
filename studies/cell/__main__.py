"""Runs a group of cells: `python -m studies.cell RUN CELL_ID...`."""

from studies.cell.stages import run_recorded
from studies.run.process import run_in_process

if __name__ == "__main__":
    raise SystemExit(run_in_process(run_recorded))
