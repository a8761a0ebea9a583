"""Training while the user looks at it: the buttons of the panel, what a window polls, and the slices in between."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager

from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

import apmgsrn_core as core  # names that need torch are looked up when a training begins

from . import trained_model, vtk_bridge
from .panel_refresh import refresh_panel
from .proxy import Proxy, setting
from .trained_model import Answer

LIVE = (  # settings that no model depends on
    "live", "slice_time", "refresh_share", "output_error", "output_reconstruction", "checkpoint_interval", "report_progress",
)  # fmt: skip
FIRST_SLICE = 0.1  # seconds, at most
LONGEST_COST = 5.0  # seconds that showing may be thought to take


class LiveControls(Proxy):
    """Start, Pause, Reset and Step of a `TrainNeuralVolume` whose `Live` is on.

    An update trains nothing unless it was asked to by Start, Step or a window's poll. A window polls the first rank alone: so
    while a training runs all ranks look again, together, at the first update after each request of the client, whether it has
    been polled. Of a single process the poll itself trains, and lets the window update only what is new.
    """

    SetLive = setting("live", False)
    SetSliceTime = setting("slice_time", 0.2)
    SetRefreshShare = setting("refresh_share", 0.3)

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self._live, self._live_question, self._live_run = None, None, None
        self._shown: Answer | None = None  # what the outputs have of the training that is on
        self._running = self._asked = self._polled = self._new = self._afresh = self._in_poll = False
        self._looked = 0  # our modification time when it was last looked whether the window has polled
        self._trained, self._cost, self._shown_at = 0.0, 0.0, None  # seconds since something was shown, and that showing takes
        vtk_bridge.after_requests(self._look_again)

    # -- the buttons; they run on all ranks --------------------------------------------------

    def Start(self) -> None:
        """Train on, slice by slice, as long as a window polls."""
        self._running = self._asked = True
        self._shown_at = None
        self.Modified()

    def Step(self) -> None:
        """Let the next update train one slice: for scripts, which nobody polls."""
        self._asked = True
        self.Modified()

    def Pause(self) -> None:
        """Train no more; what is there is saved in ModelFile, with all that it takes to go on later."""
        self._running = self._asked = False
        if self._live is None or self._live.at is None:
            return
        try:
            self._keep()
        except Exception as error:
            error.shown = vtk_bridge.rank_and_size()[0] != 0
            self.fail(error)
            if self._shown is not None:  # the next update shows that
                self._shown.model.status = f"live, paused; not saved: {self.last_error}"
        self.Modified()

    def Reset(self) -> None:
        """Forget what was trained with these settings; the next update begins anew, and waits for Start."""
        self._drop()
        self._running = self._asked = False
        self._afresh = True
        self._answers.forget(lambda answer: answer is self._answers.get(self._served))
        path = self.model_path()
        if path and vtk_bridge.rank_and_size()[0] == 0 and os.path.isdir(path + ".training"):
            core.BrickFolder(path, 0.0).remove()
        self.status = "reset"
        self.Modified()

    # -- what a window asks -------------------------------------------------------------------

    def GetNeedsUpdate(self) -> bool:
        """Asked by the window again and again, on the first rank: whether there is something to show, or to train."""
        if self.settings["live"] and self.status != self._told_status:
            self._told_status = self.status
            refresh_panel(self)
        if not self._running or self._live is None or not self.settings["live"]:
            return False
        if vtk_bridge.rank_and_size()[1] > 1:
            self._polled = True
            return True
        self._note_cost()
        if not self._new and not self._asked:
            self._poll()
        if self._new or self._asked:
            self.Modified()
        return self._new or self._asked

    def _poll(self) -> None:
        """Train for a slice. What goes wrong is told by the next update."""
        with self._polling():
            self._asked = not self._train(may_fetch=False)
        self._new = self._live.at is None or self._is_due()

    @contextmanager
    def _polling(self):
        """No progress is told meanwhile: nothing is updated."""
        self._in_poll = True
        try:
            yield
        except Exception as error:
            self._failed_slice, self._asked = error, True
        finally:
            self._in_poll = False

    _failed_slice: Exception | None = None
    _told_status = ""  # what the panel shows

    def _look_again(self) -> None:
        """The ranks are modified when a request of the client ends, or those that no window polls would not look again."""
        if self._running and self._live is not None:
            self.Modified()

    # -- slices ---------------------------------------------------------------------------------

    def _live_answer(self, question: tuple, inputs) -> Answer:
        """What there is of the training of a question, after a slice more when one was asked for (collective then)."""
        if self._live is None or not self._is_of(question):
            self._begin(question, inputs)
            self._looked = self.GetMTime()
        elif self._live_question[0] != question[0]:
            self._live_question, self._new = question, True  # it has a name now, in which Pause and the end save it
        elif self._is_asked():
            self._run_slice()
        elif not self._new and self._shown is not None:
            return self._shown
        self._asked = False
        if self._live.at is None:
            return self._ended()
        state, communicator = self._live.at.state(), self._live_run.communicator
        if self._shown is None or communicator.from_root(lambda: self._new or not self._running or self._is_due()):
            self._show_slice()
        self._shown.model.status = f"{'live' if self._running else 'live, paused'}: {state.message}"
        return self._shown

    def _is_asked(self) -> bool:
        """Whether to train a slice, alike on all ranks."""
        if not self._running or vtk_bridge.rank_and_size()[1] < 2:
            return self._asked
        if self._looked == self.GetMTime():  # for another port of the same request
            return False
        self._looked = self.GetMTime()
        asked = self._live_run.communicator.from_root(lambda: self._asked or self._polled)
        self._polled = False
        return asked

    def _is_of(self, question: tuple) -> bool:
        """Whether the training that is on is that of a question; no time, or a time of data without times, means any."""
        own = self._live_question
        timeless = not self.GetInputInformation().Has(Pipeline.TIME_STEPS()) or None in (question[-1], own[-1])
        if timeless or question[-1] == own[-1]:
            return own[:-1] in (question[:-1], (_without_name(question[0]), *question[1:-1]))
        return False

    def _begin(self, question: tuple, inputs) -> None:
        self._drop()
        run, data = self._new_run(question, inputs)
        live = run.begin(data)
        live.advance(0.0)
        if live.at is not None:
            live.advance(min(FIRST_SLICE, self.settings["slice_time"]))
        self._live, self._live_run, self._live_question = live, run, question

    def _run_slice(self) -> None:
        if self._failed_slice is not None:
            error, self._failed_slice = self._failed_slice, None
            raise error
        self._note_cost()
        self._train()

    def _note_cost(self) -> None:
        """How long it took to show what is there, with all that a window has done since."""
        if self._shown_at is not None:
            self._cost, self._shown_at = min(time.monotonic() - self._shown_at, LONGEST_COST), None

    def _train(self, may_fetch: bool = True) -> bool:
        """One slice; whether it came to its end."""
        start = time.monotonic()
        whole = self._live.advance(self.settings["slice_time"], may_fetch)
        self._trained += time.monotonic() - start
        return whole

    def _is_due(self) -> bool:
        """Whether it is time to show what is there: showing takes a share of the time."""
        share = min(max(self.settings["refresh_share"], 0.01), 1.0)
        return self._trained * share >= self._cost * (1 - share)

    def _show_slice(self) -> None:
        """Make what the outputs show, on all ranks."""
        self._shown_at, self._trained, self._new = time.monotonic(), 0.0, False
        at, communicator = self._live.at, self._live_run.communicator
        data, history = at.model(), at.history()
        before = self._shown.model.path if self._shown is not None else ""
        model = communicator.from_root(lambda: trained_model.show(data, history, before))
        self._shown = Answer(model, self._live_run.frame, self._live_run.job.mask != "values")

    def _keep(self) -> None:
        """Write checkpoints and, where it has a name, the model as it is."""
        at, communicator, path = self._live.at, self._live_run.communicator, self.model_path()
        communicator.together(at.keep)
        message = at.state().message
        self._show_slice()
        shown = self._shown.model
        if path:
            communicator.from_root(lambda: core.write_bytes(path, shown.data))
        self.status = shown.status = f"live, paused: {message}" + (f"; saved in {path}" if path else "")

    def _ended(self) -> Answer:
        """The answer of a training that has come to its end."""
        run, result = self._live_run, self._live.result
        model = run.communicator.from_root(lambda: self._told(result, run.job))
        answer = Answer(model, run.frame, run.job.mask != "values")
        self._drop()
        self._running = False
        return answer

    def _drop(self) -> None:
        """Forget the training that is on."""
        self._live = self._live_run = self._live_question = self._shown = self._failed_slice = None
        self._new, self._trained, self._cost, self._shown_at = False, 0.0, 0.0, None


def _without_name(settings: tuple) -> tuple:
    """Settings of a question as they were before the model was given a name."""
    return tuple((field, "" if field == "model_file" else value) for field, value in settings)
